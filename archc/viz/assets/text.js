// Texts in SVG, measured and cut to fit.

const FONT = "system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

function textWidth(text, size, weight = "") {
  ruler.font = `${weight} ${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

// The text, cut where it would not fit.
function fitted(text, width, size, weight) {
  if (textWidth(text, size, weight) <= width) return text;
  let kept = text;
  while (kept.length > 1 && textWidth(`${kept}…`, size, weight) > width) kept = kept.slice(0, -Math.ceil(kept.length / 12));
  return width < 12 ? "" : `${kept.trimEnd()}…`;
}

function label(text, x, y, { size = 12, width = Infinity, anchor = "start", style = "" } = {}) {
  return shape("text", { x, y, "font-size": size, "text-anchor": anchor, class: style }, fitted(text, width, size, style === "strong" ? "600" : ""));
}
