// A headless Chromium, and what is asked on standard input and answered on standard output, both JSON.
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const folder = join(import.meta.dirname, "node_modules", ".browser");

/** Chromium with no network, its own libraries, and fonts that are the same everywhere. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || join(folder, "chromium"),
    args: ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--font-render-hinting=none"],
    env: { ...process.env, LD_LIBRARY_PATH: process.env.CHROMIUM ? "" : `${join(folder, "al2023", "lib")}:${folder}` },
  });
}

/** Waits until the page was drawn and what watches its sizes has seen them. */
export function settled(page) {
  return page.evaluate(async () => {
    for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
  });
}

export async function asked() {
  return JSON.parse(await text(process.stdin));
}

export function answer(value) {
  process.stdout.write(JSON.stringify(value));
}
