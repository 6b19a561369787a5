// Pictures of a page: of the whole window, from its top or from an element on.
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { answer, asked, launch, settled } from "./browser.mjs";

const { page: path, screens } = await asked();
const browser = await launch();
for (const { file, width, height, colorScheme, from } of screens) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
  await page.goto(pathToFileURL(path).href);
  await settled(page);
  if (from) await page.evaluate((at) => document.querySelector(at).scrollIntoView(), from);
  writeFileSync(file, await page.screenshot());
  await page.close();
}
answer(screens.length);
await browser.close();
