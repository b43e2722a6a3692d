/* Wide tables: of more than eight columns, or of more than six that do not fit, the first six stand there (of a table whose
   last column is prose, five and that one) and a button shows all. On a small screen each row of a table is a card: every cell bears the head of its column.
   Without this script a table stands there whole. */
"use strict";

(() => {
  const MOST = 6, MOST_THAT_FIT = 8, FEWEST_ON_CARDS = 4;

  /* one row of heads, each above one column */
  function heads(table) {
    const rows = table.tHead ? Array.from(table.tHead.rows) : [];
    const cells = rows.length === 1 ? Array.from(rows[0].cells) : [];
    return cells.every((cell) => cell.colSpan === 1) ? cells : [];
  }

  function rowsOf(table) {
    return [...table.tHead.rows, ...Array.from(table.tBodies).flatMap((body) => Array.from(body.rows))];
  }

  function fits(table) {
    return table.parentElement.scrollWidth <= table.parentElement.clientWidth + 1;
  }

  function fold(table, columns) {
    const last = columns.length - 1, prose = table.classList.contains("prose-last");
    const shown = (place) => place < MOST - prose || (prose && place === last);
    for (const row of rowsOf(table)) {
      Array.from(row.cells).forEach((cell, place) => cell.classList.toggle("more", !shown(place)));
    }
    const button = document.createElement("button"), words = `all ${columns.length} columns`;
    button.type = "button";
    button.className = "columns";
    const set = (whole) => {
      table.classList.toggle("folded", !whole);
      button.setAttribute("aria-expanded", `${whole}`);
      button.textContent = whole ? "fewer columns" : words;
      window.dispatchEvent(new Event("resize"));  /* who looks after boxes that scroll looks again */
    };
    button.addEventListener("click", () => set(table.classList.contains("folded")));
    table.parentElement.before(button);
    set(false);
  }

  function label(table, columns) {
    table.classList.add("cards");
    for (const row of Array.from(table.tBodies).flatMap((body) => Array.from(body.rows))) {
      Array.from(row.cells).forEach((cell, place) => {
        const text = columns[place] ? columns[place].textContent.trim() : "";
        if (text) cell.dataset.head = text;
        if (!cell.textContent.trim() && !cell.children.length) cell.classList.add("empty");
      });
    }
  }

  /* a name such as C-C-C-T stays on one line */
  function keepNames(table) {
    for (const cell of table.querySelectorAll("tbody :is(td, th)")) {
      if (/^\S{1,12}$/.test(cell.textContent.trim())) cell.classList.add("name");
    }
  }

  function prepare() {
    for (const table of document.querySelectorAll(".bd-article table.dataframe:not(.board)")) {
      keepNames(table);
      const columns = heads(table);
      if (columns.length >= FEWEST_ON_CARDS) label(table, columns);
      const many = columns.length > (fits(table) ? MOST_THAT_FIT : MOST);
      if (many && !table.closest(".every-run")) fold(table, columns);
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", prepare);
  else prepare();
})();
