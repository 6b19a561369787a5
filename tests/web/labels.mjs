// Which quantization the Hub reads from each file name.
import { parseGGUFQuantLabel } from "@huggingface/gguf";
import { answer, asked } from "./browser.mjs";

answer((await asked()).map((name) => parseGGUFQuantLabel(name) ?? null));
