// What each variant of a layer loses where it alone is replaced, and which ones the chosen candidate has.

const libraryPlot = { place: null, picks: null };
const CELL = { height: 20, widest: 48, written: 40 }; // pixels; from `written` on a cell says what it loses
const ORDERS = 4; // of magnitude that shades tell apart

function drawLibrary() {
  const library = data.library;
  byId("library-section").hidden = !library;
  if (!library) return;
  const holder = byId("library");
  const width = Math.max(260, holder.clientWidth);
  const left = Math.min(0.5 * width, 12 + Math.max(...library.variants.map((name) => textWidth(name, 12))));
  const wide = Math.min(CELL.widest, (width - left - 2) / library.layers.length);
  const top = 22;
  const height = top + CELL.height * library.variants.length + 2;
  const shade = lossShade(library.cells.map(([, , loss]) => loss));
  const every = Math.ceil(24 / wide);
  libraryPlot.place = (layer, variant) => ({ x: left + layer * wide, y: top + variant * CELL.height, width: wide, height: CELL.height });
  libraryPlot.picks = shape("g", { class: "picks" });
  holder.replaceChildren(
    shape(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${library.metric} of each variant of each layer alone`, "font-family": FONT },
      library.layers.map((layer, i) => (i % every ? null : label(String(layer), left + (i + 0.5) * wide, 15, { size: 11, anchor: "middle", style: "quiet" }))),
      library.variants.map((name, i) => label(name, left - 8, top + i * CELL.height + 14, { anchor: "end", width: left - 10 })),
      library.cells.map((cell) => libraryCell(cell, shade)),
      libraryPlot.picks,
    ),
  );
  libraryScale(shade);
  markPicks();
}

// From nothing at 0 and below to 1 at the largest loss, by orders of magnitude; of those the largest few.
function lossShade(losses) {
  const some = losses.filter((loss) => loss !== null && loss > 0);
  const [least, high] = some.length ? [Math.min(...some), Math.max(...some)] : [1, 1];
  const low = Math.max(least, high * 10 ** -ORDERS);
  const share = (loss) => (loss > 0 ? 0.1 + 0.9 * (high > low ? Math.max(0, Math.log(loss / low) / Math.log(high / low)) : 1) : 0);
  return { low, high, share, known: some.length > 0, clipped: least < low };
}

const shadeColour = (share) => `color-mix(in srgb, var(--accent) ${Math.round(100 * share)}%, var(--raised))`;
const writtenLoss = (loss) => (loss !== 0 && Math.abs(loss) < 1e-3 ? loss.toExponential(1) : String(Number(loss.toPrecision(2))));

function libraryCell([layer, variant, loss, failed], shade) {
  const { x, y, width, height } = libraryPlot.place(layer, variant);
  const [share, middle] = [loss === null ? 0 : shade.share(loss), { x: x + width / 2, y: y + 14 }];
  const names = `layer ${data.library.layers[layer]}, ${data.library.variants[variant]}`;
  const text = loss === null ? "×" : width >= CELL.written ? writtenLoss(loss) : "";
  return shape(
    "g",
    { class: loss === null ? "cell none" : "cell" },
    shape("rect", { x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, style: `fill:${shadeColour(share)}` }),
    text ? shape("text", { ...middle, "font-size": 10, "text-anchor": "middle", class: share > 0.55 ? "over" : "" }, text) : null,
    shape("title", {}, loss === null ? `${names}: ${failed}` : `${names}: ${data.library.metric} ${formatValue({ unit: "" }, loss)}`),
  );
}

// What the shades mean.
function libraryScale({ low, high, known, clipped }) {
  byId("library-scale").replaceChildren(...(known ? [`${clipped ? "≤ " : ""}${writtenLoss(low)}`, element("span", { class: "ramp" }), writtenLoss(high)] : []));
}

// Outlines around the variants of the chosen candidate.
function markPicks() {
  if (!data.library) return;
  const { kind, i, name } = view.chosen;
  const picks = kind === "base" ? data.library.base : kind === "trial" ? data.library.picks[i] : [];
  const there = picks.map((variant, layer) => [layer, variant]).filter(([, variant]) => variant >= 0);
  libraryPlot.picks.replaceChildren(...there.map(([layer, variant]) => shape("rect", { ...libraryPlot.place(layer, variant), class: "pick" })));
  byId("library-picked").textContent = there.length ? name : "-";
}
