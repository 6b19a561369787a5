// A page used with the keyboard alone, without scripts, and printed.
import { pathToFileURL } from "node:url";
import { answer, asked, launch, settled } from "./browser.mjs";

const { page: path, column, last } = await asked();
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, permissions: ["clipboard-read", "clipboard-write"] });
const page = await context.newPage();
await page.goto(pathToFileURL(path).href);
await settled(page);

const stops = [];
for (;;) {
  await page.keyboard.press("Tab");
  const stop = await page.evaluate(() => {
    const e = document.activeElement, all = [...document.querySelectorAll("*")];
    if (e === document.body || e === document.documentElement) return null;
    const box = e.getBoundingClientRect();
    return {
      tag: e.localName, place: all.indexOf(e), text: e.textContent.slice(0, 60), within: e.closest("nav, main")?.localName ?? "",
      scrolls: e.scrollWidth > e.clientWidth, shown: box.width > 0 && box.height > 0 && box.left >= 0, outline: getComputedStyle(e).outlineStyle,
    };
  });
  if (!stop || stops.at(-1)?.place > stop.place) break;
  stops.push(stop);
}

async function sorted(title, key) {
  const head = page.locator("table").first().locator("thead button", { hasText: title });
  await head.focus();
  await page.keyboard.press(key);
  return page.evaluate((title) => {
    const table = document.querySelector("table");
    const head = [...table.tHead.rows[0].cells].find((h) => h.textContent === title);
    const orders = [...table.tHead.rows[0].cells].map((h) => h.getAttribute("aria-sort"));
    return { order: head.getAttribute("aria-sort"), n_orders: orders.filter(Boolean).length, cells: [...table.tBodies[0].rows].map((r) => r.cells[head.cellIndex].textContent), focused: document.activeElement.closest("th") === head };
  }, title);
}
const given = await page.evaluate(() => [...document.querySelector("tbody").rows].map((r) => r.cells[0].textContent));
const sorts = [];
for (const key of ["Enter", "Space", "Enter"]) sorts.push(await sorted(column, key));
const again = await page.evaluate(() => [...document.querySelector("tbody").rows].map((r) => r.cells[0].textContent));
const lasts = [await sorted(last, "Enter"), await sorted(last, "Enter")];

const heads = page.locator("table").first().locator("thead button");
await heads.first().focus();
const walked = [];
for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft"]) {
  await page.keyboard.press(key);
  walked.push(await page.evaluate(() => document.activeElement.closest("th").cellIndex));
}
const n_heads = await heads.count();
const n_stops = await page.locator("table").first().locator("thead button[tabindex='0']").count();

const block = page.locator("pre").first();
await page.locator(".copy").first().focus();
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("[role=status]").textContent);
const copied = {
  text: await page.evaluate(() => navigator.clipboard.readText()), block: await block.textContent(),
  told: await page.locator("[role=status]").textContent(), name: await page.locator(".copy").first().getAttribute("aria-label"),
};

await page.goto(pathToFileURL(path).href);
await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
await page.keyboard.press("Tab");
const past = await page.evaluate(() => document.activeElement.closest("main") !== null);

await page.emulateMedia({ media: "print", colorScheme: "dark" });
const printed = await page.evaluate(() => {
  const seen = (e) => e.checkVisibility();
  return {
    buttons: [...document.querySelectorAll(".copy, nav, .skip")].filter(seen).length,
    classes: [...document.querySelectorAll("svg")].filter(seen).map((e) => e.getAttribute("class")),
    paper: getComputedStyle(document.body).backgroundColor,
  };
});
const pages = (await page.pdf({ format: "A4" })).length;

const bare = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
await bare.goto(pathToFileURL(path).href);
const without = {
  buttons: await bare.locator("button").count(), tables: await bare.locator("table").count(),
  keyboard: await bare.locator("pre[tabindex='0']").count(), blocks: await bare.locator("pre").count(), svg: await bare.locator("svg.large").first().isVisible(),
};
answer({ stops, walked, n_heads, n_stops, given, sorts, again, lasts, copied, past, printed, pages, without });
await browser.close();
