// The page of a search: what is chosen, brushed and sorted, and the drawing of all of it.

function choose(point) {
  view.chosen = point;
  byId("details").classList.add("selected");
  drawDetails();
  markChosen();
  lineOfChosen();
  markPicks();
  markRow();
}

function brushed() {
  drawFront();
  drawParallel();
  const kept = trials.filter(passes).length;
  byId("matching").textContent = view.brushes.size ? `${kept} of ${trials.length} recorded pass the brushes` : "";
  byId("clear").hidden = !view.brushes.size;
  for (const row of rowsOfTable()) row.hidden = row.dataset.i !== "" && !passes(trials[Number(row.dataset.i)]);
}

function clearBrushes() {
  view.brushes.clear();
  brushed();
}

// -- table ------------------------------------------------------------------------------------------------------------

const rowsOfTable = () => [...byId("table").tBodies[0].rows];
const pointOf = (row) => (row.dataset.i === "" ? base : trials[Number(row.dataset.i)]);

function prepareTable() {
  [...byId("table").tHead.rows[0].cells].forEach((cell, i) => {
    cell.replaceChildren(element("button", { class: "link", onclick: () => sortTable(i) }, ...cell.childNodes));
  });
  for (const row of rowsOfTable()) {
    row.addEventListener("click", () => choose(pointOf(row)));
    row.cells[0].replaceChildren(element("button", { class: "link" }, ...row.cells[0].childNodes));
  }
}

// By a column, downwards at first where more is better; what is not known comes last.
function sortTable(i) {
  const cells = [...byId("table").tHead.rows[0].cells];
  const was = cells[i].getAttribute("aria-sort");
  const up = was ? was === "descending" : columns[i - 1]?.aim !== "maximize";
  cells.forEach((cell, n) => (n === i ? cell.setAttribute("aria-sort", up ? "ascending" : "descending") : cell.removeAttribute("aria-sort")));
  const key = (row) => (i === 0 ? Number(row.dataset.i || -1) : pointOf(row).row[i - 1]);
  const sorted = rowsOfTable().sort((a, b) => {
    const [one, other] = [key(a), key(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return up ? one - other : other - one;
  });
  byId("table").tBodies[0].append(...sorted);
}

function markRow() {
  for (const row of rowsOfTable()) row.classList.toggle("chosen", pointOf(row) === view.chosen);
}

// -- hints ------------------------------------------------------------------------------------------------------------

function showHint(event, content) {
  const hint = byId("hint");
  hint.replaceChildren(...content.flat(Infinity).filter(Boolean));
  hint.hidden = false;
  const { width, height } = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  hint.style.top = `${event.clientY + 18 + height > innerHeight ? Math.max(4, event.clientY - height - 12) : event.clientY + 18}px`;
}

function hideHint() {
  byId("hint").hidden = true;
}

// -- start ------------------------------------------------------------------------------------------------------------

function draw() {
  drawFront();
  drawLibrary();
  drawParallel();
  drawHistory();
}

function changeTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

function fillAxes() {
  const group = (title, some) => (some.length ? element("optgroup", { label: title }, some.map((i) => element("option", { value: i }, columns[i].label))) : []);
  for (const axis of ["x", "y"]) {
    byId(axis).append(...[group("figures", figures), group("choices", choices)].flat());
    byId(axis).value = view[axis];
    byId(axis).addEventListener("change", (event) => {
      view[axis] = Number(event.target.value);
      drawFront();
    });
  }
  byId("history-of").append(...data.history.map((_, i) => element("option", { value: i }, columns[i].label)));
  byId("axes").hidden = false;
}

fillAxes();
prepareTable();
for (const section of ["importance-section", "parallel-section", "history-section", "budgets-section"]) byId(section).hidden = false;
drawImportance();
drawBudgets();
draw();
drawDetails();
markRow();

byId("sample").addEventListener("change", drawFront);
byId("clear").addEventListener("click", clearBrushes);
byId("history-of").addEventListener("change", (event) => {
  view.historyOf = Number(event.target.value);
  drawHistory();
});
byId("front").addEventListener("pointermove", hover);
byId("front").addEventListener("pointerleave", hideHint);
byId("front").addEventListener("click", (event) => {
  const point = pointedAt(event);
  if (point) choose(point);
});
byId("front").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  step(by);
  event.preventDefault();
});
window.addEventListener("pointermove", moveBrush);
window.addEventListener("pointerup", endBrush);
byId("theme").addEventListener("click", changeTheme);
byId("print").addEventListener("click", () => window.print());
byId("help").addEventListener("click", () => byId("keys").showModal());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, dialog")) return;
  const action = { d: changeTheme, c: clearBrushes, k: () => choose(named.get(data.knee) ?? base), b: () => choose(base), "?": () => byId("keys").showModal() }[event.key];
  if (action) action();
});
let resizing = 0;
window.addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(draw);
});
