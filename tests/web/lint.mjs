// What markdownlint finds in each text, by the repository's own rules.
import { readFile } from "node:fs/promises";
import { lint } from "markdownlint/promise";
import { answer, asked } from "./browser.mjs";

const config = JSON.parse(await readFile(new URL("../../.markdownlint.json", import.meta.url), "utf-8"));
const strings = Object.fromEntries((await asked()).map((text, i) => [i, text]));
const found = await lint({ strings, config });
answer(Object.values(found).map((faults) => faults.map((f) => `${f.lineNumber}: ${f.ruleNames[0]} ${f.errorDetail ?? f.ruleDescription}`)));
