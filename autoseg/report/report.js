"use strict";
function sortTable(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const down = header.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.children[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const numbers = [Number(x), Number(y)];
    const order = numbers.some(Number.isNaN)
      ? x.localeCompare(y, undefined, { numeric: true })
      : numbers[0] - numbers[1];
    return down ? -order : order;
  };
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const totals = rows.filter((row) => row.classList.contains("total"));
  body.append(...rows.filter((row) => !row.classList.contains("total")).sort(compare), ...totals);
}
document.querySelectorAll("th[data-sort]").forEach((header) => {
  header.tabIndex = 0;
  header.addEventListener("click", () => sortTable(header));
  header.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      sortTable(header);
    }
  });
});
document.querySelectorAll("input.filter").forEach((input) => {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    rows.forEach((row) => {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  });
});
const links = new Map(
  [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link])
);
const seen = new Set();
const watcher = new IntersectionObserver(
  (entries) => {
    entries.forEach((entry) => seen[entry.isIntersecting ? "add" : "delete"](entry.target.id));
    const first = [...links.keys()].find((id) => seen.has(id));
    if (first) links.forEach((link, id) => link.classList.toggle("here", id === first));
  },
  { rootMargin: "0px 0px -55% 0px" }
);
links.forEach((_, id) => watcher.observe(document.getElementById(id)));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((item) => (item.open = true));
});
