// The page: its state, its controls, its keys. Everything is drawn again from the state when it changes.

const data = JSON.parse(byId("data").textContent);
const model = new Model(data);
const view = { measure: "params", height: "equal", colour: "kind", selected: "", zoom: 1, open: new Set() };
const usual = startingWorkload();
const workload = { ...usual };
let cost = costOf(data, workload);
let rows = [];

// 8k of context on as few H100s as hold the model.
function startingWorkload() {
  const start = { context: 8192, batch: 1, hardware: "h100", devices: 1, weights: "", kv: "", ssm: "" };
  for (const count of Object.keys(data.hardware.h100.links).map(Number)) {
    start.devices = count;
    const { totals } = costOf(data, start);
    if (totals.peak_bytes <= totals.memory_bytes) break;
  }
  return start;
}

// -- controls ---------------------------------------------------------------------------------------------------------

function option(value, text, chosen) {
  return element("option", { value, selected: value === String(chosen) }, text);
}

function fill(id, choices, chosen) {
  byId(id).replaceChildren(...choices.map(([value, text]) => option(value, text, chosen)));
}

function fillControls() {
  const formats = Object.keys(data.bytes);
  fill("hardware", [["", "none"], ...Object.keys(data.hardware).map((name) => [name, name])], workload.hardware);
  fill("weights", [["", "as in the model"], ...formats.map((name) => [name, name])], workload.weights);
  const scored = [...data.overlays.keys()].filter((i) => Object.values(data.overlays[i].nodes).some((values) => overlayScore(values) !== null));
  fill("height", [["equal", "equal"], ["measure", "the measure"]], view.height);
  fill("colour", [["kind", "kind of block"], ["measure", "the measure"], ...scored.map((i) => [`overlay:${i}`, data.overlays[i].title])], view.colour);
  byId("context").value = formatCount(workload.context);
  byId("batch").value = formatCount(workload.batch);
  fillDependent();
}

// What depends on other choices: how many devices can work together, measures of time, and formats left to the model.
function fillDependent() {
  const usual = chosenFormats(data, { ...workload, kv: "", ssm: "" });
  for (const name of ["kv", "ssm"]) fill(name, [["", `${usual[name]}, by default`], ...Object.keys(data.bytes).map((format) => [format, format])], workload[name]);
  const device = data.hardware[workload.hardware];
  const counts = device ? Object.keys(device.links) : ["1"];
  if (!counts.includes(String(workload.devices))) workload.devices = 1;
  fill("devices", counts.map((count) => [count, count]), workload.devices);
  const measures = METRICS.filter((metric) => !metric.timed || workload.hardware);
  if (!measures.some((metric) => metric.key === view.measure)) view.measure = "params";
  fill("measure", measures.map((metric) => [metric.key, metric.name]), view.measure);
}

function changeWorkload(name, value) {
  workload[name] = value;
  fillDependent();
  cost = costOf(data, workload);
  writeAddress();
  draw();
}

function changeCount(name) {
  const count = parseCount(byId(name).value);
  byId(name).setAttribute("aria-invalid", String(count === null));
  byId("wrong").hidden = !document.querySelector("[aria-invalid='true']");
  if (count !== null) changeWorkload(name, count);
}

function wireControls() {
  for (const name of ["context", "batch"]) byId(name).addEventListener("input", () => changeCount(name));
  for (const name of ["hardware", "weights", "kv", "ssm"]) byId(name).addEventListener("change", (event) => changeWorkload(name, event.target.value));
  byId("devices").addEventListener("change", (event) => changeWorkload("devices", Number(event.target.value)));
  for (const name of ["measure", "height", "colour"]) {
    byId(name).addEventListener("change", (event) => {
      view[name] = event.target.value;
      draw();
    });
  }
  byId("unfold").addEventListener("click", () => unfoldAll());
  byId("fold").addEventListener("click", () => foldAll());
  byId("nearer").addEventListener("click", () => zoom(1.25));
  byId("farther").addEventListener("click", () => zoom(0.8));
  byId("theme").addEventListener("click", changeTheme);
  byId("print").addEventListener("click", () => window.print());
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("search").addEventListener("input", search);
  byId("search").addEventListener("keydown", searchKey);
}

// -- what changes -----------------------------------------------------------------------------------------------------

function toggle(key) {
  if (!view.open.delete(key)) view.open.add(key);
  draw();
}

function unfoldAll() {
  const folds = (region, fold, offset) => {
    const start = fold.start + offset;
    if (fold.times > 1) view.open.add(`fold:${region.name}:${start}:${fold.length}x${fold.times}`);
    for (let round = 0; round < fold.times; round++) for (const inner of fold.inner || []) folds(region, inner, offset + round * fold.length);
  };
  for (const region of data.regions) for (const fold of region.folds) folds(region, fold, 0);
  draw();
}

function foldAll() {
  view.open.clear();
  draw();
}

function zoom(factor) {
  view.zoom = factor === 0 ? 1 : Math.min(4, Math.max(0.25, view.zoom * factor));
  draw();
}

function changeTheme() {
  const dark = isDark();
  document.documentElement.dataset.theme = dark ? "light" : "dark";
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

// Select what a name stands for (a scope, an id, or nothing), show it and make it the page's address.
function select(name) {
  const target = model.names.get(name);
  view.selected = target ? name : "";
  if (target) keysTo(model, target).forEach((key) => view.open.add(key));
  writeAddress();
  draw();
  if (target) rowOf(view.selected)?.scrollIntoView({ block: "nearest" });
}

// The page's address: `#layers.17.mixer?context=131072&hardware=a10g`, what is selected and how the workload was changed.
function writeAddress() {
  const changed = Object.entries(workload).filter(([name, value]) => value !== usual[name]);
  const query = changed.length ? `?${new URLSearchParams(changed)}` : "";
  const address = view.selected || query ? `#${encodeURIComponent(view.selected)}${query}` : "";
  if (location.hash !== address) history.replaceState(null, "", address || location.pathname + location.search);
}

// The name in the address; none where it is no text, as `#%`.
function addressed() {
  try {
    return decodeURIComponent(location.hash.slice(1).split("?")[0]);
  } catch {
    return "";
  }
}

// Take the workload that the address tells, as far as there is such hardware and such formats.
function readWorkload() {
  const given = new URLSearchParams(location.hash.split("?")[1] || "");
  Object.assign(workload, usual);
  for (const name of ["context", "batch"]) workload[name] = parseCount(given.get(name) || "") ?? workload[name];
  if (given.has("hardware") && ["", ...Object.keys(data.hardware)].includes(given.get("hardware"))) workload.hardware = given.get("hardware");
  for (const name of ["weights", "kv", "ssm"]) if (given.get(name) in data.bytes) workload[name] = given.get(name);
  const links = data.hardware[workload.hardware]?.links ?? { 1: 0 };
  if (given.get("devices") in links) workload.devices = Number(given.get("devices"));
  else if (!(workload.devices in links)) workload.devices = 1;
  cost = costOf(data, workload);
}

function followAddress() {
  const name = addressed();
  readWorkload();
  fillControls();
  select(name);
}

function rowOf(name) {
  const target = model.names.get(name);
  return target && [...byId("drawing").querySelectorAll(".row")].find((row) => isTarget(row.dataset.key, target));
}

const isTarget = (key, target) => key === (target.node ? `op:${target.node}` : `block:${target.block}`);

// The name that a row's key stands for; none for folds and parameters.
function nameOf(item) {
  if (item.type === "block") return model.place(item.block);
  if (item.type === "node" || item.type === "param") return item.node.owner ? item.node.id : item.node.scope;
  return "";
}

function activate(item) {
  if (item.type === "fold") toggle(item.key);
  else if (nameOf(item) === view.selected && item.opens) toggle(item.key);
  else select(nameOf(item));
}

// -- drawing ----------------------------------------------------------------------------------------------------------

function draw() {
  const focused = document.activeElement?.closest?.(".row")?.dataset.key;
  const holder = byId("drawing");
  const width = Math.max(300, Math.min(860, holder.clientWidth - 2));
  const items = visibleItems(model, view.open);
  const layout = layOut(items, width, new Heights(model, view.height === "measure" ? view.measure : "", cost));
  rows = layout.rows;
  const svg = new Drawing(model, view, cost, layout).svg();
  holder.replaceChildren(svg);
  [...svg.querySelectorAll(".row")].forEach((shown, i) => wireRow(shown, rows[i].item));
  mark();
  const region = model.regions.get("layers");
  const strip = byId("overview");
  strip.replaceChildren(...(region ? [overview(model, view, cost, Math.max(280, strip.clientWidth), select)] : []), ...legend(model, view, cost));
  byId("headline").replaceChildren(...headline(model, workload, cost));
  byId("details").classList.toggle("selected", view.selected !== "");
  byId("details").replaceChildren(...details(model, view, workload, cost, select).flat());
  if (focused) holder.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function wireRow(shown, item) {
  shown.addEventListener("click", (event) => {
    event.stopPropagation();
    shown.focus({ preventScroll: true });
    if (event.target.closest(".marker") && item.opens) toggle(item.key);
    else activate(item);
  });
  shown.addEventListener("pointermove", (event) => showHint(event, item));
  shown.addEventListener("pointerleave", hideHint);
}

// Marks what is selected, and makes it (or the first row) the one that Tab reaches.
function mark() {
  const target = model.names.get(view.selected);
  const shown = [...byId("drawing").querySelectorAll(".row")];
  const chosen = target && shown.find((row) => isTarget(row.dataset.key, target));
  chosen?.classList.add("chosen");
  chosen?.setAttribute("aria-selected", "true");
  (chosen || shown[0])?.setAttribute("tabindex", "0");
}

function showHint(event, item) {
  const hint = byId("hint");
  hint.replaceChildren(...hintLines(item).map((line, i) => element("div", { class: i ? "quiet" : "strong" }, line)));
  hint.hidden = false;
  const { innerWidth, innerHeight } = window;
  hint.style.left = `${Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8)}px`;
  hint.style.top = `${Math.min(event.clientY + 14, innerHeight - hint.offsetHeight - 8)}px`;
}

function hideHint() {
  byId("hint").hidden = true;
}

function hintLines(item) {
  if (item.type === "fold") return [`${item.fold.times} rounds of ${item.fold.length} layers`, "equal in kind, sizes and formats", item.isOpen ? "click to fold" : "click to unfold"];
  if (item.type === "param") return [item.param.name, axesText(item.param), `${formatInteger(paramElements(item.param))} elements, ${item.param.format}`];
  const node = item.type === "block" ? model.mixer(item.block) : item.node;
  const metric = metricOf(view.measure);
  const value = item.type === "block" ? model.blockValue(item.block, metric.key, cost) : model.nodeValue(node, metric.key, cost);
  const share = formatShare(value, cost.totals[metric.key]);
  return [`${nameOf(item)}: ${model.part(node).kind}`, model.sizes(node), `${metric.name}: ${metric.format(value)}${share ? `, ${share} of the model` : ""}`, item.opens ? "click for details, again to open" : "click for details"];
}

// -- keys -------------------------------------------------------------------------------------------------------------

function move(by) {
  const shown = [...byId("drawing").querySelectorAll(".row")];
  const focused = shown.indexOf(document.activeElement);
  const at = focused < 0 ? shown.findIndex((row) => row.classList.contains("chosen")) : focused;
  const next = shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by))];
  next?.focus();
  const item = next && rows[shown.indexOf(next)].item;
  if (item && item.type !== "fold" && item.type !== "param") {
    select(nameOf(item));
    [...byId("drawing").querySelectorAll(".row")].find((row) => row.dataset.key === item.key)?.focus();
  }
}

function focusedItem() {
  const key = document.activeElement?.closest?.(".row")?.dataset.key;
  return key && rows.find((row) => row.item.key === key)?.item;
}

// Right opens; left closes, or goes to what the row is part of.
function openOrClose(open) {
  const item = focusedItem();
  if (!item) return;
  if (item.opens && item.isOpen !== open) toggle(item.key);
  else if (!open) focusParent(item);
}

function focusParent(item) {
  const before = rows.slice(0, rows.findIndex((row) => row.item === item)).map((row) => row.item);
  const parent = before.reverse().find((each) => each.level < item.level);
  if (parent) byId("drawing").querySelector(`[data-key="${CSS.escape(parent.key)}"]`).focus();
}

const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  j: () => move(1),
  k: () => move(-1),
  ArrowRight: () => openOrClose(true),
  ArrowLeft: () => openOrClose(false),
  Enter: () => focusedItem() && focusedItem().opens && toggle(focusedItem().key),
  " ": () => focusedItem() && focusedItem().opens && toggle(focusedItem().key),
  "/": () => byId("search").focus(),
  Escape: () => select(""),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => zoom(0),
  u: unfoldAll,
  f: foldAll,
  d: changeTheme,
  "?": () => byId("keys").showModal(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, dialog")) return;
  if (["Enter", " "].includes(event.key) && !focusedItem()) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// -- search -----------------------------------------------------------------------------------------------------------

const MOST_FOUND = 40;

// Names, kinds, parameters and sizes that hold every word of the query; what begins with it first.
function found(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const hits = searchable.filter((entry) => words.every((word) => entry.text.includes(word)));
  const rank = (entry) => (entry.name.toLowerCase() === words[0] ? 0 : entry.name.toLowerCase().startsWith(words[0]) ? 1 : 2);
  return hits.sort((a, b) => rank(a) - rank(b));
}

const searchable = [
  ...[...model.blocks.values()].map((block) => {
    const node = model.mixer(block);
    const name = model.place(block);
    const kind = model.part(node).kind;
    const attributes = Object.entries(model.part(node).attributes).map(([name, value]) => `${name} ${value}`).join(" ");
    return { name, about: `${kind}  ${model.sizes(node)}`, text: `${name} ${model.layerName(block)} ${block.letter} ${kind} ${model.sizes(node)} ${attributes}`.toLowerCase() };
  }),
  ...data.nodes.filter((node) => !node.owner).map((node) => {
    const params = model.part(node).params.map((param) => param.name).join(" ");
    return { name: node.scope, about: `${model.part(node).kind}  ${params}`, text: `${node.scope} ${node.id} ${model.part(node).kind} ${params}`.toLowerCase() };
  }),
];

function search() {
  const hits = found(byId("search").value);
  const list = byId("found");
  list.hidden = !byId("search").value.trim();
  const more = hits.length > MOST_FOUND ? [element("li", { class: "quiet" }, `and ${hits.length - MOST_FOUND} more`)] : [];
  const none = hits.length ? [] : [element("li", { class: "quiet" }, "nothing found")];
  list.replaceChildren(...hits.slice(0, MOST_FOUND).map((hit) => element("li", {}, element("button", { class: "link", onclick: () => choose(hit.name) }, hit.name), element("span", { class: "quiet" }, ` ${hit.about}`))), ...more, ...none);
}

function searchKey(event) {
  if (event.key === "Escape") {
    byId("search").value = "";
    search();
    byId("search").blur();
  } else if (event.key === "Enter") {
    const [first] = found(byId("search").value);
    if (first) choose(first.name);
  }
}

function choose(name) {
  byId("found").hidden = true;
  byId("search").blur();
  select(name);
  rowOf(name)?.scrollIntoView({ block: "center" });
  rowOf(name)?.focus({ preventScroll: true });
}

// -- start ------------------------------------------------------------------------------------------------------------

byId("name").textContent = data.name;
wireControls();
document.addEventListener("keydown", pressed);
window.addEventListener("hashchange", followAddress);
let resizing = 0;
window.addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(draw);
});
followAddress();
