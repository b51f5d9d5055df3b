// Axes: a column's values along so many pixels, in a unit that people read, with round marks.

const AXIS_UNITS = {
  bytes: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
  parameters: [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]],
  FLOPs: [[1e15, "PFLOP"], [1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1e3, "kFLOP"]],
  s: [[1, "s"], [1e-3, "ms"], [1e-6, "us"]],
  sequences: [[1, "sequences"]],
  "tokens/s": [[1, "tokens/s"]],
};

// A value of a column as archc.viz.search_scene writes it.
function formatValue(column, value) {
  if (value === null || value === undefined || (column.unit === "tokens/s" && value === 0)) return "-";
  if (column.shown) return String(column.shown[column.values.indexOf(value)] ?? "-");
  if (column.unit === "bytes") return formatSize(value);
  if (column.unit === "parameters" || column.unit === "FLOPs") return formatParams(value);
  if (column.unit === "s") {
    const [factor, unit] = AXIS_UNITS.s.find(([size]) => value >= size) ?? AXIS_UNITS.s[2];
    return `${(value / factor).toFixed(2)} ${unit}`;
  }
  if (column.unit && column.unit !== "score") return `${value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} ${column.unit}`;
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

// The axis of values from pixel `start` to pixel `end`; `margin` is a share of the range beside the outermost.
function makeAxis(column, values, start, end, margin = 0.04) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const units = AXIS_UNITS[column.unit] ?? [[1, ""]];
  const [factor, unit] = units.find(([size]) => size <= Math.max(Math.abs(low), Math.abs(high))) ?? units[units.length - 1];
  const more = (high - low) * margin;
  [low, high] = [low - more, high + more];
  return {
    low,
    high,
    title: unit ? `${column.label}, ${unit}` : column.label,
    at: (value) => start + ((value - low) / (high - low)) * (end - start),
    value: (pixel) => low + ((pixel - start) / (end - start)) * (high - low),
    marks: () => roundMarks(low / factor, high / factor).map((mark) => [mark * factor, mark.toLocaleString("en-US", { maximumFractionDigits: 9 })]),
  };
}

// Round values between two, about six.
function roundMarks(low, high) {
  const raw = (high - low) / 6;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * unit).find((size) => size >= raw * 0.999999);
  const marks = [];
  for (let n = Math.ceil(low / step); n <= Math.floor(high / step); n++) marks.push(Number((n * step).toPrecision(12)));
  return marks;
}

// Marks and a title of an axis below a plot or left of it; lines across where it is the left one.
function axisMarks(x, y, left, right, bottom) {
  return [
    ...y.marks().map(([value, text]) => [
      shape("path", { d: `M${left},${y.at(value)} H${right}`, class: "rule" }),
      label(text, left - 8, y.at(value) + 4, { size: 11, anchor: "end", style: "quiet" }),
    ]),
    ...x.marks().map(([value, text]) => label(text, x.at(value), bottom + 18, { size: 11, anchor: "middle", style: "quiet" })),
    shape("path", { d: `M${left},${bottom} H${right}`, class: "rule" }),
  ];
}

// Dots as one path: lines of no length, with round ends.
const dots = (points) => points.map(([x, y]) => `M${Math.round(x)},${Math.round(y)}h0`).join("");
