// The page of a diff: both models side by side, what changed in words, and what it costs.

const data = JSON.parse(byId("data").textContent);
const view = { open: new Set(), change: -1, figure: 0 };
const FORMATS = { count: formatParams, bytes: formatSize, flops: formatFlops, seconds: formatSeconds };

const MEANING = { same: "equal, but for dims that the whole model shares", changed: "changed", replaced: "another kind of block", dropped: "dropped", added: "new in B" };

// What rows without changes of their own are: equal, but for what changed in the whole model.
const everywhere = data.changes.filter((change) => change.kind === "dim").map((change) => change.field);
const UNCHANGED = everywhere.length ? `unchanged but for ${everywhere.join(", ")}` : "unchanged";

// -- side by side -----------------------------------------------------------------------------------------------------

function drawRows() {
  byId("rows").replaceChildren(
    element("div", { class: "sides" }, element("div", {}, "A  ", element("b", {}, data.a)), element("div", {}), element("div", {}, "B  ", element("b", {}, data.b))),
    ...data.items.map((item, i) => itemLines(item, String(i))).flat(Infinity),
  );
}

// An item is one row, a run of unchanged rows, or rounds that repeat.
function itemLines(item, key) {
  if (item.rounds) return roundLines(item, key);
  if (item.rows.length > 1 && !view.open.has(key)) return runLine(item, key);
  const lines = item.rows.map((index) => rowLine(data.rows[index], index));
  return item.rows.length > 1 ? element("div", { class: "group" }, folder(key, `${item.rows.length} ${UNCHANGED}`), lines) : lines;
}

function roundLines(item, key) {
  const open = view.open.has(key);
  const shown = open ? item.rounds : item.rounds.slice(0, 1);
  const places = (side) => item.rounds.flat().flatMap(allRows).map((index) => data.rows[index][`${side}_position`]).filter((at) => at !== null).sort((a, b) => a - b);
  const noun = data.rows[allRows(item)[0]].region;
  const where = (side) => (places(side).length ? `${noun} ${formatRanges(places(side))}` : "nothing");
  return element("div", { class: "group" }, folder(key, `${item.rounds.length} ×   A ${where("a")}, B ${where("b")}`), shown.map((round, n) => round.map((inner, m) => itemLines(inner, `${key}.${open ? n : 0}.${m}`))));
}

const allRows = (item) => (item.rounds ? item.rounds.flat().flatMap(allRows) : item.rows);

function folder(key, text) {
  const open = view.open.has(key);
  return element("button", { class: "folder", "data-key": key, "aria-expanded": String(open), onclick: () => toggle(key) }, `${open ? "▾" : "▸"} ${text}`);
}

function runLine(item, key) {
  const rows = item.rows.map((index) => data.rows[index]);
  const letters = rows.map((row) => (row.a.letter ? chip(row.a) : element("span", { class: "named" }, row.a.name)));
  const range = (side) => formatRanges(rows.map((row) => row[`${side}_position`]).filter((at) => at !== null));
  const moved = range("a") === range("b") ? range("a") : `${range("a")} → ${range("b")}`;
  const words = `${range("a") ? `${rows[0].region} ${moved} ` : ""}${UNCHANGED}`;
  return element("button", { class: `folder run${marked(...rows)}`, "data-key": key, "aria-expanded": "false", onclick: () => toggle(key) }, `▸ ${words}  `, letters);
}

function chip(side) {
  return element("span", { class: "chip small", style: `background:${side.fill};color:${side.ink}` }, side.letter);
}

function rowLine(row, index) {
  const middle = { same: everywhere.length ? "≈" : "=", changed: "→", dropped: "", added: "", replaced: "⇒" }[row.status];
  return element("div", { class: `line ${row.status}${marked(row)}`, id: `row-${index}` }, box(row.a, row.a_position, row, "old"), element("div", { class: "between", title: MEANING[row.status] }, middle), box(row.b, row.b_position, row, "new"));
}

// Whether the chosen change says something of a row: what is folded shows it too.
const marked = (...rows) => (rows.some((row) => row.changes.includes(view.change)) ? " marked" : "");

function box(side, position, row, which) {
  if (!side) return element("div", { class: "unit none" }, row.status === "dropped" ? "dropped" : "new here");
  const name = position === null ? side.name : row.region === "layers" ? `layer ${position}` : `${row.region}.${position}`;
  const kind = which === "old" ? row.a_kind : row.b_kind;
  const fields = row.fields.map((field) => element("span", { class: "field" }, `${field.field} `, element("b", {}, shown(field[which]))));
  return element(
    "div",
    { class: "unit", style: side.block ? `border-left-color:${side.fill}` : null },
    side.letter ? chip(side) : null,
    element("span", { class: "strong" }, ` ${kind} `),
    element("span", { class: "quiet" }, [name === kind ? "" : name, side.params ? formatParams(side.params) : ""].filter(Boolean).join(" · ")),
    element("div", { class: "fields" }, row.status === "changed" ? fields : element("span", { class: "quiet" }, side.text)),
  );
}

function shown(value) {
  return value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function toggle(key) {
  if (!view.open.delete(key)) view.open.add(key);
  drawRows();
  document.querySelector(`button[data-key="${key}"]`)?.focus({ preventScroll: true });
}

function everyKey(items, before) {
  return items.flatMap((item, i) => {
    const key = before === "" ? String(i) : `${before}.${i}`;
    if (!item.rounds) return item.rows.length > 1 ? [key] : [];
    return [key, ...item.rounds.flatMap((round, n) => everyKey(round, `${key}.${n}`))];
  });
}

// -- layers of both, aligned ------------------------------------------------------------------------------------------

function drawPair() {
  const width = Math.max(280, byId("pair").clientWidth);
  const rows = data.rows.filter((row) => row.region === "layers");
  const count = (side) => rows.filter((row) => row[`${side}_position`] !== null).length;
  const step = width / Math.max(count("a"), count("b"), 1);
  const largest = Math.max(...rows.flatMap((row) => [row.a?.params ?? 0, row.b?.params ?? 0]), 1);
  const parts = rows.flatMap((row) => pairParts(row, step, largest));
  byId("pair").replaceChildren(
    shape("svg", { viewBox: `0 0 ${width} 172`, width, height: 172, role: "img", "aria-label": "layers of A above, of B below, lines between those that correspond", "font-family": FONT },
      ...["a", "b"].map((side, i) => label(`${"AB"[i]}  ${data[side]}`, 2, 10 + 160 * i, { width: width - 4, size: 11, style: "quiet" })), parts),
  );
}

function pairParts(row, step, largest) {
  const x = (position) => position * step;
  const tall = (side) => Math.max(3, (40 * side.params) / largest);
  const parts = [];
  if (row.a) parts.push(pairBar(row, row.a, x(row.a_position), 56 - tall(row.a), step, tall(row.a), row.status === "dropped"));
  if (row.b) parts.push(pairBar(row, row.b, x(row.b_position), 116, step, tall(row.b), row.status === "added"));
  if (row.a && row.b) {
    const [from, to] = [x(row.a_position) + step / 2, x(row.b_position) + step / 2];
    parts.push(shape("path", { d: `M${from},60 C${from},86 ${to},86 ${to},112`, class: `tie ${row.status}` }));
  }
  return parts;
}

function pairBar(row, side, x, y, step, height, alone) {
  const rect = shape("rect", { x: x + step * 0.08, y, width: step * 0.84, height, fill: side.fill, class: alone ? `alone ${row.status}` : "" });
  const name = row.a && row.b ? `layer ${row.a_position} → ${row.b_position}` : row.a ? `layer ${row.a_position} dropped` : `layer ${row.b_position} added`;
  return shape("g", {}, shape("title", {}, `${name}: ${side.text}, ${formatParams(side.params)}`), rect);
}

// -- what changed, and what it costs ----------------------------------------------------------------------------------

function drawChanges() {
  byId("changes").replaceChildren(
    ...data.changes.map((change, i) => element("li", {}, element("button", { class: view.change === i ? "link chosen" : "link", onclick: () => chooseChange(i) }, change.words))),
  );
  if (!data.changes.length) byId("changes").replaceChildren(element("p", {}, "nothing: the two are the same"));
}

function drawWeights() {
  if (!data.weights.length) return;
  byId("weights").replaceChildren(element("h2", {}, "What became of the weights"), element("ul", { class: "ops" }, data.weights.map((line) => element("li", {}, line))));
}

function chooseChange(i) {
  view.change = view.change === i ? -1 : i;
  drawChanges();
  drawRows();
  byId("changes").children[i].firstChild.focus({ preventScroll: true });
  document.querySelector(".marked")?.scrollIntoView({ block: "center" });
}

function drawFigures() {
  const figures = data.effect.figures;
  const row = (figure) => {
    const format = FORMATS[figure.unit];
    const change = figure.b - figure.a;
    const share = figure.a ? `${change > 0 ? "+" : ""}${((100 * change) / figure.a).toFixed(1)}%` : "";
    return element("tr", {}, element("td", {}, figure.words), element("td", { class: "number" }, format(figure.a)), element("td", { class: "number" }, format(figure.b)), element("td", { class: `number ${change > 0 ? "worse" : change < 0 ? "better" : ""}` }, share));
  };
  byId("figures").replaceChildren(element("thead", {}, element("tr", {}, element("td", {}), element("td", { class: "number quiet" }, "A"), element("td", { class: "number quiet" }, "B"), element("td", {}))), element("tbody", {}, figures.map(row)));
  const additive = figures.map((figure, i) => [figure, i]).filter(([figure]) => figure.shares);
  byId("figure").replaceChildren(...additive.map(([figure, i]) => element("option", { value: i, selected: i === view.figure }, figure.words)));
}

function drawWaterfall() {
  const figure = data.effect.figures[view.figure];
  if (!figure?.shares) return;
  const steps = figure.shares.map((delta, i) => ({ name: data.changes[i].words, delta }));
  const holder = byId("waterfall");
  holder.replaceChildren(waterfall(figure.a, figure.b, steps, FORMATS[figure.unit], Math.max(240, holder.clientWidth), chooseChange));
}

// -- start ------------------------------------------------------------------------------------------------------------

function draw() {
  drawPair();
  drawChanges();
  drawWeights();
  drawFigures();
  drawWaterfall();
  drawRows();
}

function unfoldAll() {
  everyKey(data.items, "").forEach((key) => view.open.add(key));
  drawRows();
}

function foldAll() {
  view.open.clear();
  drawRows();
}

function changeTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

byId("name").textContent = `${data.a} → ${data.b}`;
byId("workload").textContent = data.effect.words;
byId("unfold").addEventListener("click", unfoldAll);
byId("fold").addEventListener("click", foldAll);
byId("theme").addEventListener("click", changeTheme);
byId("print").addEventListener("click", () => window.print());
byId("figure").addEventListener("change", (event) => {
  view.figure = Number(event.target.value);
  drawWaterfall();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const action = { u: unfoldAll, f: foldAll, d: changeTheme }[event.key];
  if (action) action();
});
let resizing = 0;
window.addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(draw);
});
draw();
