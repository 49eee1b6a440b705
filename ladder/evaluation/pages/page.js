"use strict";

// Sort a table by the column whose head is pressed; again to reverse it.
function sortBy(head) {
  const table = head.closest("table"), body = table.tBodies[0], at = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...body.rows].sort((a, b) => compared(a.cells[at], b.cells[at]));
  body.append(...(up ? rows : rows.reverse()));
}

// Numbers by value and before texts, texts by the numbers in them.
function compared(a, b) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x !== undefined && y !== undefined) return x - y;
  if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1;
  return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}

// Show the rows that hold every word of the filter.
function filterRows(input) {
  const section = input.closest("details"), rows = [...section.querySelector("tbody").rows];
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  section.querySelector(".count").textContent = words.length ? `${shown} of ${rows.length}` : "";
}

// Say below a picture what the pointer is on.
function say(event) {
  const shape = event.target.closest("[data-says]");
  if (!shape) return;
  const figure = shape.closest("figure");
  figure.querySelector("output").textContent = shape.dataset.says;
  for (const other of figure.querySelectorAll(".on")) other.classList.remove("on");
  shape.classList.add("on");
}

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => sortBy(button.closest("th")));
for (const input of document.querySelectorAll("input[type=search]"))
  input.addEventListener("input", () => filterRows(input));
document.addEventListener("pointerover", say);
document.addEventListener("click", say);
