// Parallel coordinates: an axis for each choice and figure, a line for each candidate, brushes along the axes.

const PARALLEL = { least: 96, top: 44, bottom: 262, height: 290, side: 54, lines: 700 };
const dragging = { column: -1, from: 0, moved: false };
let parallelAxes = [];

function drawParallel() {
  const holder = byId("parallel");
  const order = [...choices, ...figures];
  const width = Math.max(holder.clientWidth, order.length * PARALLEL.least);
  const gap = (width - 2 * PARALLEL.side) / Math.max(order.length - 1, 1);
  const every = Math.ceil(sample.length / PARALLEL.lines);
  const thinned = sample.filter((point, i) => point.fits && i % every === 0);
  parallelAxes = order.map((c, n) => ({
    c,
    x: order.length > 1 ? PARALLEL.side + n * gap : width / 2,
    axis: makeAxis(columns[c], [...sample, ...trials].map((point) => point.row[c]), PARALLEL.bottom, PARALLEL.top, 0),
  }));
  const shown = [...thinned, ...trials.filter((point) => !point.front)];
  const front = trials.filter((point) => point.front);
  holder.replaceChildren(
    shape(
      "svg",
      { viewBox: `0 0 ${width} ${PARALLEL.height}`, width, height: PARALLEL.height, "font-family": FONT, role: "group", "aria-label": "all choices and figures of candidates" },
      lines(shown.filter((point) => !passes(point)), "line-out"),
      shown.filter(passes).map((point) => lines([point], "line-in")),
      lines(front.filter((point) => !passes(point)), "line-out"),
      lines(front.filter(passes), "line-front"),
      shape("g", { class: "chosen-line" }),
      parallelAxes.map((one) => axisGroup(one, gap)),
    ),
  );
  byId("parallel-section").hidden = !order.length;
  lineOfChosen();
}

const lines = (points, style) => (points.length ? shape("path", { d: points.map(linePath).join(""), class: style }) : null);

// A line breaks where a value is not known.
function linePath({ row }) {
  let pen = "M";
  return parallelAxes.map(({ c, x, axis }) => {
    if (row[c] === null) return (pen = "M") && "";
    const part = `${pen}${x.toFixed(1)},${axis.at(row[c]).toFixed(1)}`;
    pen = "L";
    return part;
  }).join("");
}

function lineOfChosen() {
  byId("parallel").querySelector(".chosen-line").replaceChildren(...[lines([view.chosen], "line-chosen")].filter(Boolean));
}

function axisGroup({ c, x, axis }, gap) {
  const column = columns[c];
  const brush = view.brushes.get(c);
  const write = (value) => formatValue(column, value);
  const [from, to] = brush ? [axis.at(brush[1]), axis.at(brush[0])] : [0, 0];
  const told = brush ? `brush from ${write(Math.max(brush[0], axis.low))} to ${write(Math.min(brush[1], axis.high))}` : "no brush";
  return shape(
    "g",
    { class: "axis", "data-column": c, tabindex: "0", role: "group", "aria-label": `${column.label}: ${told}`, onkeydown: (event) => brushKeys(event, c, axis), onpointerdown: (event) => startBrush(event, c) },
    shape("title", {}, `${column.text}: ${told}`),
    shape("rect", { x: x - 14, y: PARALLEL.top - 6, width: 28, height: PARALLEL.bottom - PARALLEL.top + 12, class: "hit" }),
    shape("path", { d: `M${x},${PARALLEL.top} V${PARALLEL.bottom}`, class: "axis-line" }),
    brush ? shape("rect", { x: x - 7, y: Math.max(from, PARALLEL.top), width: 14, height: Math.max(3, Math.min(to, PARALLEL.bottom) - Math.max(from, PARALLEL.top)), class: "brush" }) : null,
    label(column.label, x, 14, { size: 11, anchor: "middle", style: column.role === "choice" ? "" : "strong", width: Math.min(gap, 2 * PARALLEL.side) - 8 }),
    label(write(axis.high), x, PARALLEL.top - 12, { size: 10, anchor: "middle", style: "quiet", width: gap - 4 }),
    label(write(axis.low), x, PARALLEL.bottom + 18, { size: 10, anchor: "middle", style: "quiet", width: gap - 4 }),
  );
}

// -- brushes ----------------------------------------------------------------------------------------------------------

function startBrush(event, c) {
  Object.assign(dragging, { column: c, from: valueAt(event, c), moved: false });
  event.preventDefault();
  focusAxis(c);
}

function valueAt(event, c) {
  const svg = byId("parallel").firstChild;
  const box = svg.getBoundingClientRect();
  const { axis } = parallelAxes.find((one) => one.c === c);
  const pixel = ((event.clientY - box.top) * PARALLEL.height) / box.height;
  return axis.value(Math.min(PARALLEL.bottom, Math.max(PARALLEL.top, pixel)));
}

function moveBrush(event) {
  if (dragging.column < 0) return;
  const to = valueAt(event, dragging.column);
  const { axis } = parallelAxes.find((one) => one.c === dragging.column);
  if (!dragging.moved && Math.abs(axis.at(to) - axis.at(dragging.from)) < 3) return;
  dragging.moved = true;
  setBrush(dragging.column, [Math.min(dragging.from, to), Math.max(dragging.from, to)]);
}

// A click without a move clears the brush.
function endBrush() {
  if (dragging.column < 0) return;
  const { column, moved } = dragging;
  dragging.column = -1;
  if (!moved) setBrush(column, null);
}

function brushKeys(event, c, axis) {
  const range = axis.high - axis.low;
  const [low, high] = view.brushes.get(c) ?? [axis.low, axis.high];
  const by = { ArrowUp: range / 10, ArrowDown: -range / 10 }[event.key];
  if (event.key === "Escape" || event.key === "Delete") setBrush(c, null);
  else if (!by) return;
  else if (event.shiftKey) setBrush(c, [low, Math.max(low, Math.min(axis.high, high + by))]);
  else if (low + by <= axis.low - range / 20 || !view.brushes.has(c)) setBrush(c, by < 0 ? [axis.low, axis.high - range / 2] : [axis.low + range / 2, axis.high]);
  else setBrush(c, [Math.max(axis.low, Math.min(axis.high, low + by)), Math.min(axis.high, high + by)]);
  event.preventDefault();
}

function setBrush(c, range) {
  if (range) view.brushes.set(c, range);
  else if (!view.brushes.delete(c)) return;
  brushed();
  focusAxis(c);
}

function focusAxis(c) {
  byId("parallel").querySelector(`[data-column="${c}"]`)?.focus({ preventScroll: true });
}
