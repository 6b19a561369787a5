// The title of an HTML text, as Chromium reads it.
import { answer, asked, launch } from "./browser.mjs";

const browser = await launch();
const page = await browser.newPage();
await page.setContent(await asked());
answer(await page.title());
await browser.close();
