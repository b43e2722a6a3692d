/* Tables with the class "sortable" are sorted by a click on a column's head, or Enter there, and taken away as CSV by a
   button below; above those with "searchable", and above lists that open, a field leaves what has all of its words. An
   address that names a part of something closed opens it. A box that is wider than the screen can be scrolled by the
   keyboard. No other script, no request. */
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
  }

  /* What a table shows, as RFC 4180 wants it: in its order, less the rows that a search hides. Signs are those that
     programs read. */
  function csv(table) {
    const rows = [table.tHead.rows[0], ...Array.from(table.tBodies[0].rows).filter((row) => !row.hidden)];
    const field = (cell) => {
      const text = cell.textContent.trim().replace(/\s+/g, " ").replace(/\u2212(?=[\d.])/g, "-");
      return /[",]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    };
    return rows.map((row) => Array.from(row.cells, field).join(",") + "\r\n").join("");
  }

  /* The page's name and the table's: its caption, the name of its figure, or its number on the page. */
  function fileName(table, number) {
    const page = location.pathname.split("/").pop().replace(/\.html$/, "") || "page";
    const own = table.caption?.textContent || table.closest("figure[id]")?.id || `table ${number}`;
    return `${page}-${own.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60)}.csv`;
  }

  function takeable() {
    document.querySelectorAll("table.sortable").forEach((table, place) => {
      if (!table.tHead || !table.tBodies.length) return;
      const line = document.createElement("p"), button = document.createElement("button");
      line.className = "download";
      button.type = "button";
      button.textContent = "CSV";
      button.setAttribute("aria-label", "CSV of this table");
      button.addEventListener("click", () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv;charset=utf-8" }));
        link.download = fileName(table, place + 1);
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      });
      line.append(button);
      /* below the box that scrolls, not in it */
      const box = table.parentElement;
      (box.querySelectorAll("table").length === 1 ? box : table).after(line);
    });
  }

  /* Names such as vit_cifar+epochs=6 may break between their words, numbers may not. */
  const BREAK = /(\w[_+=/:]+)(?=[a-z(])/gi;

  function breakable() {
    for (const table of document.querySelectorAll(".bd-article table.dataframe")) {
      const walk = document.createTreeWalker(table, NodeFilter.SHOW_TEXT), texts = [];
      while (walk.nextNode()) if (/\S{10}/.test(walk.currentNode.data)) texts.push(walk.currentNode);
      for (const text of texts) {
        const words = text.data.replace(BREAK, "$1\n\n").split("\n\n");
        if (words.length > 1) text.replaceWith(...words.flatMap((word) => [word, document.createElement("wbr")]));
      }
    }
  }

  /* Boxes that can be scrolled can be reached by the keyboard, now and when the window changes. */
  const BOXES = { TABLE: "table", PRE: "code", "MJX-CONTAINER": "formula", DIV: "figure", FIGURE: "figure" };

  function reachable() {
    for (const part of document.querySelectorAll(".bd-article :is(table, pre, mjx-container, .drawn, .text_html > figure)")) {
      const box = /TABLE|FIGURE/.test(part.tagName) ? part.parentElement : part;
      const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "hidden";
      if (scrolls && !box.hasAttribute("tabindex")) {
        box.dataset.role = box.getAttribute("role") || "";
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", BOXES[part.tagName]);
      } else if (!scrolls && "role" in box.dataset) {
        if (box.dataset.role) box.setAttribute("role", box.dataset.role);
        else box.removeAttribute("role");
        for (const name of ["tabindex", "aria-label", "data-role"]) box.removeAttribute(name);
      }
    }
  }

  /* What a field of search hides and shows, and the headings that stand above nothing then. */
  function parts(place) {
    if (place.tagName === "TABLE") return Array.from(place.tBodies[0].rows);
    return Array.from(place.querySelectorAll("details"));
  }

  function search(place, words) {
    for (const part of parts(place)) {
      const text = part.textContent.toLowerCase();
      part.hidden = !words.every((word) => text.includes(word));
    }
    for (const head of place.querySelectorAll("h2, h3")) {
      let next = head.nextElementSibling, found = false;
      for (; next && !(next.tagName <= head.tagName && /^H/.test(next.tagName)); next = next.nextElementSibling) {
        found = found || (next.tagName === "DETAILS" && !next.hidden);
      }
      head.hidden = !found;
    }
  }

  function searchable() {
    for (const place of document.querySelectorAll(".searchable")) {
      const label = document.createElement("label"), field = document.createElement("input");
      const count = document.createElement("span");
      label.className = "search-rows";
      field.type = "search";
      count.setAttribute("role", "status");
      label.append("Show what has ", field, count);
      field.addEventListener("input", () => {
        const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
        search(place, words);
        const every = parts(place);
        count.textContent = words.length ? ` ${every.filter((one) => !one.hidden).length} of ${every.length}` : "";
      });
      (place.closest(".output") || place).before(label);
    }
  }

  function reveal() {
    const named = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!named) return;
    for (let one = named; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    named.scrollIntoView();
    named.classList.add("named");
  }

  function begin() {
    prepare();
    takeable();
    breakable();
    reachable();
    addEventListener("load", () => {
      reachable();
      window.MathJax?.startup?.promise?.then(reachable);
    });
    addEventListener("resize", reachable);
    document.addEventListener("toggle", reachable, true);
    searchable();
    reveal();
    addEventListener("hashchange", reveal);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
