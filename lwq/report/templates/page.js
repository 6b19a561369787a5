
"use strict";
{
  const UNITS = {
    B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40,
    ms: 1e-3, s: 1, min: 60, h: 3600, d: 86400,
  };
  const MISSING = /^(|[–—-]|not measured)$/;
  const words = new Intl.Collator("en", { numeric: true });

  /** The number that a cell begins with, in the unit's smallest; NaN where it begins with none. */
  function number(text) {
    let total = NaN;
    const parts = /^[~<>≤≥]?\s*([+\-−]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?:\s*([a-zA-Z]+))?\s*/;
    for (let found; (found = parts.exec(text)); text = text.slice(found[0].length)) {
      const value = Number(found[1].replaceAll(",", "").replace("−", "-")) * (UNITS[found[2]] ?? 1);
      if (Number.isNaN(total)) total = value;
      else if (UNITS[found[2]]) total += value; // 1 h 20 min
      else break;
    }
    return total;
  }

  /** Numbers by value, then words, then what was not measured, whichever way it is sorted. */
  function key(row, column, isNumber) {
    const text = row.cells[column].textContent.trim();
    const value = isNumber ? number(text) : NaN;
    return { row, text, value, rank: MISSING.test(text) ? 2 : Number(isNumber && Number.isNaN(value)) };
  }

  function sort(table, head) {
    const order = { ascending: "descending", descending: "none" }[head.ariaSort] ?? "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    if (order !== "none") head.ariaSort = order;
    const sign = order === "descending" ? -1 : 1;
    const rows = table.rowsAsGiven.map((row) => key(row, head.cellIndex, head.classList.contains("n")));
    if (order !== "none")
      rows.sort((a, b) => a.rank - b.rank || sign * (a.rank || Number.isNaN(a.value) ? words.compare(a.text, b.text) : a.value - b.value));
    table.tBodies[0].append(...rows.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll("table")) {
    table.rowsAsGiven = [...(table.tBodies[0]?.rows ?? [])];
    if (table.rowsAsGiven.length < 2) continue;
    const buttons = [...table.tHead.rows[0].cells].map((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
      return button;
    });
    walk(table.tHead, buttons);
  }

  /** One stop of the Tab key for all buttons; arrows, Home and End go from one to the next. */
  function walk(row, buttons) {
    const stop = (chosen) => { for (const button of buttons) button.tabIndex = button === chosen ? 0 : -1; };
    const to = { ArrowRight: (i) => i + 1, ArrowLeft: (i) => i - 1, Home: () => 0, End: () => buttons.length - 1 };
    stop(buttons[0]);
    row.addEventListener("focusin", ({ target }) => stop(target));
    row.addEventListener("keydown", (event) => {
      const next = buttons[to[event.key]?.(buttons.indexOf(event.target))];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
  }

  const told = document.createElement("p");
  told.setAttribute("role", "status");
  document.querySelector("main").append(told);

  async function copy(block) {
    try {
      await navigator.clipboard.writeText(block.textContent);
      return "Copied";
    } catch {
      getSelection().selectAllChildren(block);
      return document.execCommand("copy") ? "Copied" : "Selected";
    }
  }

  for (const block of document.querySelectorAll(".code pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${block.getAttribute("aria-label")}`);
    button.addEventListener("click", async () => {
      told.textContent = button.textContent = await copy(block);
      setTimeout(() => { told.textContent = ""; button.textContent = "Copy"; }, 2000);
    });
    block.after(button);
  }

  // What scrolls is reached with the keyboard; what does not is no stop on the way.
  const scrolling = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scrolls = target.scrollWidth > target.clientWidth;
      const caption = target.querySelector("caption");
      scrolls ? target.setAttribute("tabindex", "0") : target.removeAttribute("tabindex");
      if (!caption) continue;
      scrolls ? target.setAttribute("role", "region") : target.removeAttribute("role");
      scrolls ? target.setAttribute("aria-labelledby", caption.id) : target.removeAttribute("aria-labelledby");
    }
  });
  for (const box of document.querySelectorAll(".wide, pre")) scrolling.observe(box);
}
