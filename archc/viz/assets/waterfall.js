// From what A costs to what B costs, change by change: bars that hang where the one before ended.

// steps: [{name, delta}]; `format` writes a value; `pick(i)` is called with the index of a step that is clicked.
function waterfall(from, to, steps, format, width, pick) {
  const shown = steps.map((step, i) => ({ ...step, i })).filter((step) => step.delta !== 0);
  const totals = runningTotals(from, shown);
  const values = [from, to, ...totals, 0];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const scale = (width - 8) / (high - low || 1);
  const at = (value) => 4 + (value - low) * scale;
  const rows = [
    bar("A", 0, from, format(from), "whole"),
    ...shown.map((step, n) => bar(step.name, n ? totals[n - 1] : from, totals[n], signed(step.delta, format), step.delta > 0 ? "worse" : "better", step.i)),
    bar("B", 0, to, format(to), "whole"),
  ];
  function bar(name, start, end, text, style, i) {
    return { name, start, end, text, style, i };
  }
  const height = rows.length * 38 + 6;
  const drawn = rows.map((row, n) => {
    const y = n * 38;
    const [left, right] = [at(Math.min(row.start, row.end)), at(Math.max(row.start, row.end))];
    const valueWidth = textWidth(row.text, 12) + 8;
    return shape(
      "g",
      { class: `step ${row.style}`, onclick: row.i === undefined ? null : () => pick(row.i) },
      shape("title", {}, `${row.name}: ${row.text}`),
      shape("rect", { x: 0, y, width, height: 36, class: "hit" }),
      label(row.name, 4, y + 13, { width: width - valueWidth - 12 }),
      label(row.text, width - 4, y + 13, { anchor: "end", style: "strong" }),
      shape("rect", { x: left, y: y + 18, width: Math.max(1.5, right - left), height: 13, rx: 2, class: "fall" }),
      n + 1 < rows.length ? shape("line", { x1: at(row.end), x2: at(row.end), y1: y + 18, y2: y + 38 + 31, class: "rule" }) : null,
    );
  });
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "from A to B, change by change", "font-family": FONT }, drawn);
}

function runningTotals(from, steps) {
  let total = from;
  return steps.map((step) => (total += step.delta));
}

const signed = (value, format) => `${value > 0 ? "+" : "−"}${format(Math.abs(value))}`;
