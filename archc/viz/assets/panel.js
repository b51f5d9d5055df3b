// What is said in words beside the drawing: the headline, the kinds of block, and everything of what is selected.

function card(title, value, ...notes) {
  return element("div", { class: "card" }, element("div", { class: "title" }, title), element("div", { class: "value" }, value), notes.filter(Boolean).map((note) => element("div", { class: "note" }, note)));
}

function headline(model, workload, { totals }) {
  const hardware = workload.hardware ? `${workload.devices > 1 ? `${workload.devices}×` : ""}${workload.hardware}` : "";
  const fits = hardware && (totals.peak_bytes <= totals.memory_bytes ? `peak ${formatSize(totals.peak_bytes)} fits ${hardware}` : `peak ${formatSize(totals.peak_bytes)} does not fit ${hardware}: ${formatSize(totals.memory_bytes)}`);
  const mtp = totals.mtp_params ? `multi-token prediction ${formatParams(totals.mtp_params)} more` : "";
  const active = totals.active !== totals.params ? `active per token ${formatParams(totals.active)}` : "all of them active";
  const fixed = totals.state_bytes - totals.state_bytes_per_token * workload.context * workload.batch;
  return [
    card("Parameters", formatParams(totals.params), active, mtp),
    card("Memory", formatSize(totals.resident_bytes), `weights ${formatSize(totals.weights_bytes)}, state ${formatSize(totals.state_bytes)}`, fits),
    card("One token of context", formatSize(totals.state_bytes_per_token), `of state a sequence, at ${formatCount(workload.context)}`, fixed > 0 ? `beside ${formatSize(fixed)} fixed` : ""),
    card("One decode step", workload.hardware ? formatSeconds(totals.decode_s) : formatFlops(totals.decode_flops), workload.hardware ? `${formatFlops(totals.decode_flops)}, batch ${formatCount(workload.batch)}` : `batch ${formatCount(workload.batch)}`, workload.hardware ? `prefill ${formatSeconds(totals.prefill_s)}` : `prefill ${formatFlops(totals.prefill_flops)}`),
  ];
}

// What shades mean, where colour does not stand for the kind.
function legend(model, view, cost) {
  const heat = new Heat(model, view, cost);
  if (!heat.active) return [];
  const format = heat.overlay ? (value) => String(Number(value.toPrecision(3))) : metricOf(view.measure).format;
  const name = heat.overlay ? heat.overlay.title : metricOf(view.measure).name;
  const shades = [0, 0.25, 0.5, 0.75, 1].map((share) => element("span", { class: "shade", style: `background:${heat.shade(heat.low + share * (heat.high - heat.low))}` }));
  return [element("div", { class: "legend quiet" }, `colour: ${name}  `, format(heat.low), " ", shades, " ", format(heat.high))];
}

// Every kind of block with its share of the measure, the largest first.
function kindTable(model, view, cost, pick) {
  const metric = metricOf(view.measure);
  const kinds = new Map();
  for (const node of model.data.nodes) {
    const part = model.part(node);
    if (part.mtp) continue;
    const entry = kinds.get(part.kind) || { value: 0, nodes: [] };
    entry.value += model.nodeValue(node, metric.key, cost);
    entry.nodes.push(node);
    kinds.set(part.kind, entry);
  }
  const total = [...kinds.values()].reduce((sum, entry) => sum + entry.value, 0);
  const shown = [...kinds.entries()].filter(([, entry]) => entry.value > 0).sort((a, b) => b[1].value - a[1].value);
  return element(
    "table",
    { class: "kinds" },
    element("caption", {}, `Share of ${metric.name}`),
    element("tbody", {}, shown.map(([kind, entry]) => kindRow(model, metric, kind, entry, total, pick))),
  );
}

function kindRow(model, metric, kind, entry, total, pick) {
  const paint = model.data.kinds[kind];
  const positions = entry.nodes.filter((node) => node.region === "layers").map((node) => model.blocks.get(node.block)).filter(Boolean).map((block) => block.position);
  const where = !paint.block || !positions.length ? "" : positions.length <= 14 ? ` in layer${positions.length > 1 ? "s" : ""} ${formatRanges(positions)}` : "";
  const first = entry.nodes[0];
  return element(
    "tr",
    {},
    element("td", {}, element("span", { class: "chip", style: paint.block ? `background:${paint.fill};color:${paint.ink}` : null }, paint.letter || " ")),
    element("td", {}, element("button", { class: "link", onclick: () => pick(first.owner ? first.id : first.scope) }, kind), ` × ${entry.nodes.length}`, element("span", { class: "quiet" }, where)),
    element("td", { class: "bars" }, element("div", { class: "bar", style: `width:${(100 * entry.value) / total}%;background:${paint.block ? paint.fill : "var(--plain)"}` })),
    element("td", { class: "number" }, formatShare(entry.value, total)),
    element("td", { class: "number" }, metric.format(entry.value)),
  );
}

// -- what is selected -------------------------------------------------------------------------------------------------

function details(model, view, workload, cost, pick) {
  const target = model.names.get(view.selected);
  if (!target) return [kindTable(model, view, cost, pick), about(model)];
  const block = model.blocks.get(target.block);
  if (target.node) return nodeDetails(model, model.nodes.get(target.node), block, workload, cost, pick, view);
  return blockDetails(model, block, workload, cost, pick, view);
}

function about(model) {
  const steps = model.data.mtp_steps ? `Multi-token prediction of ${model.data.mtp_steps > 1 ? `${model.data.mtp_steps} steps, all by the same parameters` : "1 step"}, not counted in these shares. ` : "";
  return element("p", { class: "quiet" }, `${steps}Graph ${model.data.hash.slice(0, 16)}.`);
}

function crumbs(model, block, node, pick) {
  const parts = [element("button", { class: "link", onclick: () => pick("") }, model.data.name)];
  if (block) parts.push(" / ", element("button", { class: "link", onclick: () => pick(model.place(block)) }, model.place(block)));
  if (node) parts.push(` / ${node.role}`);
  return element("div", { class: "crumbs" }, parts);
}

function linkTo(name) {
  return element("a", { href: `#${encodeURIComponent(name)}`, class: "quiet", title: "a link to this" }, `#${name}`);
}

function blockDetails(model, block, workload, cost, pick, view) {
  const mixer = model.mixer(block);
  const value = (key) => model.blockValue(block, key, cost);
  const nodes = block.nodes.map((id) => model.nodes.get(id));
  return [
    crumbs(model, block, null, pick),
    element("h2", {}, `${model.layerName(block)}: ${model.part(mixer).kind}`, " ", linkTo(model.place(block))),
    element("p", { class: "quiet" }, model.sizes(mixer)),
    figureTable(model, workload, cost, value),
    element("h3", {}, "Ops"),
    element("ul", { class: "ops" }, nodes.map((node) => element("li", {}, element("button", { class: "link", onclick: () => pick(node.owner ? node.id : node.scope) }, node.role), ` ${model.part(node).kind}`))),
    ...nodes.flatMap((node) => overlayDetails(model, node)),
  ];
}

function nodeDetails(model, node, block, workload, cost, pick) {
  const part = model.part(node);
  const attributes = Object.entries(part.attributes);
  return [
    crumbs(model, block, node, pick),
    element("h2", {}, `${node.role}: ${part.kind}`, " ", linkTo(node.owner ? node.id : node.scope)),
    element("p", {}, part.about.replaceAll("`", "")),
    element("p", { class: "quiet" }, `id ${node.id}, reads ${node.inputs.join(", ") || "nothing"}${node.owner ? `, uses the parameters of ${node.owner}` : ""}`),
    figureTable(model, workload, cost, (key) => model.nodeValue(node, key, cost)),
    ...overlayDetails(model, node),
    element("h3", {}, "Dims"),
    element("table", { class: "plain" }, element("tbody", {}, part.dims.map((dim) => element("tr", {}, element("td", {}, dim.role), element("td", { class: "number" }, formatInteger(dim.size)), element("td", { class: "quiet" }, dim.within ? `within ${dim.within}` : "", dim.order ? ` ${dim.order}` : ""))), Object.entries(part.derived).map(([name, size]) => element("tr", {}, element("td", {}, name), element("td", { class: "number" }, formatInteger(size)), element("td", { class: "quiet" }, "derived"))))),
    ...paramDetails(model, node, part),
    ...stateDetails(part),
    ...(attributes.length ? [element("h3", {}, "Attributes"), element("p", { class: "code" }, attributes.map(([name, value]) => `${name}=${value}`).join("  "))] : []),
  ];
}

function figureTable(model, workload, cost, value) {
  const shown = METRICS.filter((metric) => (!metric.timed || workload.hardware) && value(metric.key) > 0);
  return element(
    "table",
    { class: "plain" },
    element("tbody", {}, shown.map((metric) => element("tr", {}, element("td", {}, metric.name), element("td", { class: "number" }, metric.format(value(metric.key))), element("td", { class: "number quiet" }, formatShare(value(metric.key), cost.totals[metric.key]))))),
  );
}

function paramDetails(model, node, part) {
  if (!part.params.length) return [];
  const total = part.params.reduce((sum, param) => sum + paramElements(param), 0);
  return [
    element("h3", {}, `Parameters: ${formatInteger(total)}`),
    part.params.map((param) => {
      const format = overlayFormat(model, node, param.name);
      return element(
        "div",
        { class: "param" },
        element("div", {}, element("b", {}, param.name), element("span", { class: "quiet" }, `  ${param.axes.map((axis) => axis.size).join(" × ")}  ${format ? `${format} (${param.format} in the model)` : param.format}${param.trained === false ? ", not trained" : ""}  ${formatParams(paramElements(param))}`)),
        element("div", { class: "code" }, axesText(param)),
      );
    }),
  ];
}

function stateDetails(part) {
  if (!part.state.length) return [];
  return [
    element("h3", {}, "State of a sequence"),
    element("table", { class: "plain" }, element("tbody", {}, part.state.map((state) => element("tr", {}, element("td", {}, state.name), element("td", { class: "code" }, `[${state.shape.join(", ")}]`), element("td", { class: "quiet" }, state.stored_tokens ? `for each of ${state.stored_tokens} tokens` : "whatever the context"))))),
  ];
}

// -- overlays ---------------------------------------------------------------------------------------------------------

function overlayFormat(model, node, param) {
  for (const overlay of model.data.overlays) {
    const value = (overlay.nodes[node.id] || {})[param];
    if (typeof value === "string") return value;
  }
  return "";
}

function overlayDetails(model, node) {
  return model.data.overlays.flatMap((overlay) => {
    const values = overlay.nodes[node.id];
    if (!values) return [];
    return [element("h3", {}, overlay.title), ...Object.entries(values).map(([key, value]) => overlayValue(model, node, key, value))];
  });
}

function overlayValue(model, node, key, value) {
  if (typeof value === "number") return element("p", {}, `score ${Number(value.toPrecision(4))}`);
  if (typeof value === "string") return element("p", {}, `${key}: ${value}`);
  if (Array.isArray(value)) {
    const [least, most] = [Math.min, Math.max].map((pick) => value.reduce((a, b) => pick(a, b)).toPrecision(3));
    return element("div", {}, element("div", {}, `${key}: ${value.length} values from ${least} to ${most}`), histogram(value, model.kind(node)));
  }
  const size = model.part(node).sizes[key];
  const choices = element("div", { class: "choices" }, value.choices.map((choice) => element("span", { class: "tick", style: `left:${(100 * choice) / size}%` })));
  return element("div", {}, element("div", {}, `${key}: one of ${value.choices.join(", ")} (of ${size})`), choices);
}

// One bar a unit, or a bin of units where there are many: its mean.
function histogram(values, paint) {
  const bins = Math.min(values.length, 96);
  const means = Array.from({ length: bins }, (_, i) => {
    const part = values.slice(Math.floor((i * values.length) / bins), Math.floor(((i + 1) * values.length) / bins));
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
  const [low, high] = [Math.min(0, ...means), Math.max(0, ...means)];
  const scale = 40 / (high - low || 1);
  const bars = means.map((mean, i) => shape("rect", { x: (i * 288) / bins, y: (high - Math.max(mean, 0)) * scale, width: Math.max(1, 288 / bins - 1), height: Math.max(1, Math.abs(mean) * scale), fill: paint.block ? paint.fill : "var(--plain)" }));
  return shape("svg", { viewBox: "0 0 288 41", class: "histogram", preserveAspectRatio: "none", role: "img", "aria-label": `${values.length} values` }, bars);
}
