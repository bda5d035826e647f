"use strict";
// All that this does is to sort tables.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].title || row.cells[i].textContent;
  heads.forEach((head, i) => {
    if (!head.classList.contains("s")) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const number = head.classList.contains("n");
      const value = (text) => BigInt(text.replaceAll(",", ""));
      const was = head.getAttribute("aria-sort");
      const down = was ? was === "ascending" : number;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = number
        ? (a, b) => Number(value(a) > value(b)) - Number(value(a) < value(b))
        : (a, b) => a.localeCompare(b, "en", { numeric: true });
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, i), row]);
      rows.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
