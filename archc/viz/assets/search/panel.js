// The chosen candidate in full: its figures, its choices, and the commands that go on with it.

function drawDetails() {
  const point = view.chosen;
  const parts = [
    element("h2", {}, point.name, " ", element("span", { class: "quiet" }, titles(point).join(", "))),
    point.fits ? null : element("p", { class: "wrong" }, "outside the budgets"),
    failures(point),
    element("table", { class: "plain" }, element("thead", {}, element("tr", {}, element("td", {}), head("value"), head("base"), head("to the limit"))), element("tbody", {}, figures.map((i) => figureRow(point, i)))),
    element("h3", {}, "Choices"),
    element("table", { class: "plain" }, element("tbody", {}, choices.map((i) => choiceRow(point, i)))),
    commands(point),
  ];
  byId("details").replaceChildren(...parts.flat(Infinity).filter(Boolean));
}

const head = (text) => element("td", { class: "number quiet" }, text);

function failures(point) {
  return Object.entries(point.failed ?? {}).map(([rung, why]) => element("p", { class: "wrong" }, `${rung}: ${why}`));
}

function figureRow(point, i) {
  const [column, value] = [columns[i], point.row[i]];
  return element("tr", { title: column.text }, element("td", {}, breakable(column.label)), element("td", { class: "number strong" }, formatValue(column, value)), element("td", { class: "number quiet" }, formatValue(column, base.row[i])), element("td", { class: "number" }, slack(column, value)));
}

// What is left to the nearest limit, or by how much it is missed.
function slack(column, value) {
  if (column.limits === undefined || value === null) return "";
  const left = Math.min(...column.limits.map(([sense, limit]) => (sense === "<=" ? limit - value : value - limit)));
  return element("span", { class: left < 0 ? "worse" : "" }, `${left < 0 ? "−" : ""}${formatValue(column, Math.abs(left))}`);
}

function choiceRow(point, i) {
  const changed = point.row[i] !== null && point.row[i] !== columns[i].base;
  const write = (value) => formatValue(columns[i], value);
  return element("tr", {}, element("td", {}, breakable(columns[i].label)), element("td", { class: `number ${changed ? "strong" : ""}` }, write(point.row[i])), element("td", { class: "number quiet" }, point.row[i] === null ? "" : changed ? `base ${write(columns[i].base)}` : "as the base"));
}

function commands(point) {
  if (point.kind === "sample") return element("p", { class: "quiet" }, "Measured, not recorded: `archc best` takes out recorded candidates. `keep` in the search file says how many there are.");
  if (point.kind === "base") return commandList(`archc show ${quoted(data.base)}`);
  if (point.kind === "model") return commandList(`archc show ${quoted(point.name)}`, `archc diff ${quoted(data.base)} ${quoted(point.name)}`);
  const best = `archc best ${quoted(data.run)} --pick ${quoted(point.name)}`;
  return commandList(`${best} -o best.yaml`, `archc diff ${quoted(data.base)} best.yaml`, `${best} --recipe recipe.yaml`);
}

const commandList = (...lines) => element("div", { class: "commands" }, element("h3", {}, "Commands"), lines.map((line) => element("pre", { class: "code command", tabindex: "0" }, line)));
