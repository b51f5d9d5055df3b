// Two columns against one another: the sample, recorded candidates, the front, the knee, the base.

const NEAR = 16; // pixels within which a point is pointed at
const STRETCH = 2.5; // a base that would make the range so much longer is left out
const frontPlot = { shown: [], svg: null };

function drawFront() {
  const holder = byId("front");
  const width = Math.max(280, holder.clientWidth);
  const height = Math.min(560, Math.max(320, Math.round(width * 0.6)));
  const [left, top, right, bottom] = [74, 40, width - 14, height - 44];
  const at = (point) => [point.row[view.x], point.row[view.y]];
  const known = (point) => at(point).every((value) => value !== null);
  const cloud = byId("sample").checked ? sample.filter(known) : [];
  const points = [...cloud, ...trials.filter(known)];
  const others = beside.filter(known);
  const close = others.filter((point) => [view.x, view.y].every((c) => near(point.row[c], points, c)));
  const far = others.filter((point) => !close.includes(point)).map((point) => point.name);
  const all = [...points, ...close];
  const x = makeAxis(columns[view.x], all.map((point) => point.row[view.x]), left, right);
  const y = makeAxis(columns[view.y], all.map((point) => point.row[view.y]), bottom, top);
  const place = (point) => [x.at(point.row[view.x]), y.at(point.row[view.y])];
  frontPlot.shown = all.map((point) => ({ point, place: place(point) }));
  frontPlot.svg = shape(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${y.title} over ${x.title}`, "font-family": FONT },
    axisMarks(x, y, left, right, bottom),
    limitLines(x, y, [left, top, right, bottom]),
    label(y.title, 8, 18, { width: width - 16 }),
    label(x.title, right, height - 8, { anchor: "end", width: width - 24 }),
    label(far.length ? `outside the picture: ${far.join(", ")}` : "", 8, height - 8, { size: 11, style: "quiet", width: width / 3 }),
    [false, true].flatMap((fits) => cloudPaths(cloud.filter((point) => point.fits === fits), place, fits ? "cloud" : "outside")),
    frontLine(place),
    trials.filter(known).sort((a, b) => a.front - b.front).map((point) => mark(point, place(point))),
    close.map((point) => besideMark(point.name, place(point), width)),
    shape("g", { class: "chosen-mark" }),
  );
  holder.replaceChildren(frontPlot.svg);
  markChosen();
}

// Limits of budgets, where they are to be seen.
function limitLines(x, y, [left, top, right, bottom]) {
  const seen = (axis, column) => (column.limits ?? []).map(([, limit]) => limit).filter((limit) => limit >= axis.low && limit <= axis.high);
  const lines = [...seen(x, columns[view.x]).map((limit) => `M${x.at(limit)},${top} V${bottom}`), ...seen(y, columns[view.y]).map((limit) => `M${left},${y.at(limit)} H${right}`)];
  return lines.map((d) => shape("path", { d, class: "limit-line" }));
}

// Whether a value is no farther from the others than leaves them a good part of the picture.
function near(value, points, column) {
  let [low, high] = [Infinity, -Infinity];
  for (const { row } of points) {
    low = Math.min(low, row[column]);
    high = Math.max(high, row[column]);
  }
  return low >= high || Math.max(high, value) - Math.min(low, value) <= STRETCH * (high - low);
}

function cloudPaths(points, place, style) {
  const parts = view.brushes.size ? [[points.filter((p) => !passes(p)), `${style} faded`], [points.filter(passes), style]] : [[points, style]];
  return parts.filter(([some]) => some.length).map(([some, name]) => shape("path", { d: dots(some.map(place)), class: name }));
}

function mark(point, [cx, cy]) {
  const knee = point.name === data.knee;
  const style = `${knee ? "knee" : point.front ? "front" : "trial"}${passes(point) ? "" : " faded"}`;
  return shape("circle", { cx, cy, r: knee ? 5.5 : point.front ? 4 : 2.5, class: style, "data-name": point.name });
}

function besideMark(name, [x, y], width) {
  const left = x > width / 2;
  return [shape("path", { d: `M${x},${y - 6} l6,6 l-6,6 l-6,-6 z`, class: "base" }), label(name, x + (left ? -10 : 10), y + 4, { size: 11, anchor: left ? "end" : "start" })];
}

// Steps along the front where the axes are all the objectives that there are: one of two neighbours has the worse y.
function frontLine(place) {
  const aims = columns.map((column, i) => i).filter((i) => columns[i].role === "objective");
  if (aims.length !== 2 || !aims.includes(view.x) || !aims.includes(view.y) || view.x === view.y) return null;
  const ordered = trials.filter((point) => point.front).map(place).sort((a, b) => a[0] - b[0]);
  const worse = columns[view.y].aim === "minimize" ? Math.min : Math.max; // pixels grow downwards
  const steps = ordered.map(([x, y], i) => {
    if (!i) return `M${x},${y}`;
    const [beforeX, beforeY] = ordered[i - 1];
    return worse(beforeY, y) === y ? `L${beforeX},${y} L${x},${y}` : `L${x},${beforeY} L${x},${y}`;
  });
  return steps.length ? shape("path", { d: steps.join(" "), class: "edge" }) : null;
}

// The point that is pointed at: a recorded candidate rather than one of the sample.
function pointedAt(event) {
  const box = frontPlot.svg.getBoundingClientRect();
  const scale = frontPlot.svg.viewBox.baseVal.width / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let [found, least] = [null, NEAR];
  for (const { point, place } of frontPlot.shown) {
    const distance = Math.hypot(place[0] - x, place[1] - y) + (point.kind === "sample" ? NEAR / 3 : 0);
    if (distance <= least) [found, least] = [point, distance];
  }
  return found;
}

// A ring around the chosen point, and its name on the side where there is more room.
function markChosen() {
  const shown = frontPlot.shown.find(({ point }) => point === view.chosen);
  const parts = shown ? chosenParts(shown.place, frontPlot.svg.viewBox.baseVal.width) : [];
  frontPlot.svg.querySelector(".chosen-mark").replaceChildren(...parts);
}

function chosenParts([x, y], width) {
  const left = x > width * 0.6;
  const room = Math.min(180, (left ? x : width - x) - 20);
  const name = label(view.chosen.name, x + (left ? -13 : 13), y - 9, { anchor: left ? "end" : "start", style: "strong", width: room });
  return [shape("circle", { cx: x, cy: y, r: 9, class: "ring" }), name];
}

function hover(event) {
  const point = pointedAt(event);
  frontPlot.svg.classList.toggle("pointing", point !== null);
  if (!point) return hideHint();
  const lines = [view.x, view.y, ...figures.filter((i) => i !== view.x && i !== view.y)];
  showHint(event, [
    element("b", {}, point.name),
    titles(point).length ? ` ${titles(point).join(", ")}` : "",
    lines.map((i) => element("div", {}, `${columns[i].label} `, element("b", {}, formatValue(columns[i], point.row[i])))),
    element("div", { class: "quiet" }, choices.slice(0, 12).map((i) => `${columns[i].label} ${formatValue(columns[i], point.row[i])}`).join(", "), choices.length > 12 ? ", …" : ""),
  ]);
}

// From candidate to candidate of the front in the order of the picture.
function step(by) {
  const order = trials.filter((point) => point.front && point.row[view.x] !== null).sort((a, b) => a.row[view.x] - b.row[view.x] || a.i - b.i);
  if (!order.length) return;
  const now = order.indexOf(view.chosen);
  choose(order[now < 0 ? 0 : Math.min(order.length - 1, Math.max(0, now + by))]);
}
