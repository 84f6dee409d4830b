// Sorting and filters. Methods are sorted among themselves, and so are floors and diagnostics, which never mix with them.
const announcement = byId("announcement");

function sortTable(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const bestFirst = button.dataset.higher === "1" ? "descending" : "ascending";
  const other = bestFirst === "descending" ? "ascending" : "descending";
  const order = head.getAttribute("aria-sort") === bestFirst ? other : bestFirst;
  for (const cell of table.querySelectorAll("th[aria-sort]")) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const column = Number(button.dataset.column) - 1;
  const direction = order === "ascending" ? 1 : -1;
  const valueOf = (row) => {
    const text = row.querySelectorAll("td")[column].dataset.value;
    return text === "" ? null : Number(text);
  };
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => row.querySelector("td[data-value]"));
    rows.sort((a, b) => {
      const [x, y] = [valueOf(a), valueOf(b)];
      if (x === null || y === null) return (x === null) - (y === null); // rows without a score stay below
      return direction * (x - y);
    });
    body.append(...rows);
  }
  const name = button.firstChild.textContent.trim();
  announcement.textContent = `Sorted by ${name}, ${order === bestFirst ? "best first" : "worst first"}.`;
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortTable(button));
}

const filters = document.querySelector(".filters");

function applyFilters() {
  const wanted = [...filters.querySelectorAll("select")].filter((select) => select.value !== "");
  const sections = [...document.querySelectorAll(".board")];
  for (const section of sections) section.hidden = wanted.some((select) => section.dataset[select.name] !== select.value);
  const shown = sections.filter((section) => !section.hidden).length;
  filters.querySelector("output").textContent = `${shown} of ${sections.length} tables`;
  byId("nothing").hidden = shown > 0;
}

filters.addEventListener("change", applyFilters);
filters.addEventListener("submit", (event) => event.preventDefault());
applyFilters();
