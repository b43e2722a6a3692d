/* Tables with the class "sortable" are sorted by a click on a column's head, or Enter there. A box that is wider
   than the screen can be scrolled by the keyboard. No other script, no request. */
"use strict";

(() => {
  /* "12.3 %", "1,024 [900, 1,100]", "−4.5" are numbers, whatever stands behind them; other words are words. */
  const NUMBER = /^[+\-\u2212]?(\d[\d,]*\.?\d*|\.\d+)(e[+\-]?\d+)?/i;

  function value(cell) {
    const text = cell.textContent.trim();
    const found = text.match(NUMBER);
    if (!found) return { text };
    return { text, number: parseFloat(found[0].replace(/,/g, "").replace("\u2212", "-")) };
  }

  function compare(one, other) {
    if (one.number !== undefined && other.number !== undefined) return one.number - other.number;
    if (one.number !== undefined) return -1;
    if (other.number !== undefined) return 1;
    return one.text.localeCompare(other.text);
  }

  function sort(table, column, head) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, place) => ({ row, place, value: value(row.cells[column]) }));
    rows.sort((one, other) => {
      /* an empty cell stands last either way; equal ones keep their order */
      const empty = (one.value.text === "") - (other.value.text === "");
      const order = compare(one.value, other.value) * (ascending ? 1 : -1);
      return empty || order || one.place - other.place;
    });
    body.append(...rows.map(({ row }) => row));
  }

  function prepare() {
    for (const table of document.querySelectorAll("table.sortable")) {
      if (!table.tHead || !table.tBodies.length) continue;
      Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => sort(table, column, head));
      });
    }
    for (const table of document.querySelectorAll(".bd-article table, .bd-article pre")) {
      const box = table.tagName === "PRE" ? table : table.parentElement;
      if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", table.tagName === "PRE" ? "code" : "table");
      }
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", prepare);
  else prepare();
})();
