// How the best came about: proposals in their order, and the best within the budgets so far.

function drawHistory() {
  const steps = data.history[view.historyOf];
  byId("history-section").hidden = !data.history.length;
  if (!steps) return;
  const holder = byId("history");
  const column = columns[view.historyOf]; // objectives come first
  const width = Math.max(260, holder.clientWidth);
  const [height, left, right, bottom, top] = [280, 74, width - 26, 236, 30];
  const seen = sample.filter((point) => point.fits && point.row[view.historyOf] !== null);
  const x = makeAxis({ label: "proposals", unit: "" }, [0, data.proposed], left, right, 0);
  const y = makeAxis(column, [...seen.map((point) => point.row[view.historyOf]), ...steps.map(([, value]) => value)], bottom, top);
  const path = steps.map(([number, value], i) => (i ? `H${x.at(number)} V${y.at(value)}` : `M${x.at(number)},${y.at(value)}`)).join(" ");
  holder.replaceChildren(
    shape(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `the best ${column.label} so far`, "font-family": FONT },
      axisMarks(x, y, left, right, bottom),
      label(y.title, 8, 16, { width: width - 16 }),
      label("proposals", right + 12, height - 8, { anchor: "end" }),
      shape("path", { d: dots(seen.map((point) => [x.at(point.order), y.at(point.row[view.historyOf])])), class: "cloud" }),
      steps.length ? shape("path", { d: `${path} H${right}`, class: "edge best" }) : null,
      steps.map(([number, value]) => shape("circle", { cx: x.at(number), cy: y.at(value), r: 3.5, class: "front" }, shape("title", {}, `proposal ${number + 1}: ${formatValue(column, value)}`))),
    ),
  );
}
