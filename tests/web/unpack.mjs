// Unpacks the Chromium that @sparticuz/chromium carries, with its libraries and a font, into node_modules/.browser.
import { mkdirSync } from "node:fs";
import { join } from "node:path";

process.env.TMPDIR = join(import.meta.dirname, "node_modules", ".browser"); // where the package unpacks
process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs24.x"; // else it leaves out its libraries
mkdirSync(process.env.TMPDIR);
const { default: chromium } = await import("@sparticuz/chromium");
await chromium.executablePath();
