// What Chromium finds of a page at several widths, light and dark: requests, messages, axe-core's verdicts, sizes.
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { answer, asked, launch, settled } from "./browser.mjs";

const axe = readFileSync(fileURLToPath(import.meta.resolve("axe-core")), "utf8");
const { page: path, widths } = await asked();
const browser = await launch();
const found = [];
for (const width of widths)
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme });
    const page = await context.newPage();
    const messages = [], requests = [];
    page.on("console", (message) => messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error)));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(path).href);
    await settled(page);
    const closed = await page.evaluate(facts);
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
    await settled(page);
    const open = await page.evaluate(facts);
    await page.evaluate(axe);
    const verdicts = await page.evaluate(async () => {
      const names = axe.getRules().map((rule) => rule.ruleId);
      const { violations, passes } = await axe.run(document, { runOnly: { type: "rule", values: names }, resultTypes: ["violations"] });
      const told = violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.html} ${n.failureSummary}`).join(" | ")}`);
      return { told, n_passed: passes.length };
    });
    found.push({ width, colorScheme, messages, requests: requests.slice(1), closed, open, verdicts });
    await context.close();
  }
answer(found);
await browser.close();

function facts() {
  const root = document.documentElement;
  const seen = (e) => e.checkVisibility({ checkVisibilityCSS: true });
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\d.]+/g).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const shapes = new Map([...document.querySelectorAll("svg")].filter(seen).map((svg) => [svg, [...svg.querySelectorAll("path")]
    .filter((p) => !p.closest("defs")).map((p) => ({ box: p.getBoundingClientRect(), fill: getComputedStyle(p).fill }))
    .filter(({ box, fill }) => fill !== "none" && box.width > 12 && box.height > 12)]));
  const texts = [...document.querySelectorAll("svg text")].filter(seen).map((text) => {
    const svg = text.ownerSVGElement, frame = svg.getBoundingClientRect(), box = text.getBoundingClientRect();
    const middle = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    const behind = shapes.get(svg).findLast(({ box: b }) => b.left <= middle[0] && middle[0] <= b.right && b.top <= middle[1] && middle[1] <= b.bottom);
    const [a, b] = [getComputedStyle(text).fill, behind.fill].map(luminance);
    return {
      text: text.textContent, figure: svg.getAttribute("aria-label").slice(0, 40),
      pixels: parseFloat(getComputedStyle(text).fontSize) * (frame.width / svg.viewBox.baseVal.width),
      contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
      outside: Math.max(frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom),
      selectable: getComputedStyle(text).userSelect !== "none",
    };
  });
  const outside = [...document.querySelectorAll("body *")].filter((e) => seen(e) && !e.closest(".wide, pre, svg, nav ol, .skip, [role=status]"))
    .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 0.5).map((e) => e.outerHTML.slice(0, 120));
  const boxes = [...document.querySelectorAll(".wide, pre")].filter(seen);
  return {
    overflow: root.scrollWidth - root.clientWidth, outside, texts,
    n_shown: [...document.querySelectorAll("figure")].filter(seen).map((f) => [...f.querySelectorAll("svg")].filter(seen).length),
    idle_stops: boxes.filter((b) => (b.tabIndex === 0) !== (b.scrollWidth > b.clientWidth)).length,
    stuck: boxes.filter((b) => b.matches(".wide") && b.scrollWidth > b.clientWidth).map((b) => {
      const head = b.querySelector("tbody th");
      b.scrollLeft = 80;
      const moved = head.getBoundingClientRect().left - b.getBoundingClientRect().left;
      b.scrollLeft = 0;
      return moved;
    }),
    wide_heads: boxes.filter((b) => b.matches(".wide")).map((b) => b.querySelector("tbody th").offsetWidth / b.clientWidth),
  };
}
