// The drawing: rows as SVG, the residual stream beside them, frames around repeats. Colours come from the page's style.

class Drawing {
  constructor(model, view, cost, layout) {
    Object.assign(this, { model, view, cost, layout });
    this.metric = metricOf(view.measure);
    this.heat = new Heat(model, view, cost);
  }

  svg() {
    const { rows, width, height } = this.layout;
    const frames = rows.filter((row) => row.frame).map((row) => this.frame(row));
    return shape(
      "svg",
      {
        viewBox: `0 0 ${width} ${height}`,
        width: width * this.view.zoom,
        height: height * this.view.zoom,
        role: "tree",
        "aria-label": `${this.model.data.name}, top to bottom`,
        "font-family": FONT,
      },
      shape("g", { "aria-hidden": "true" }, frames, this.streams()),
      rows.map((row) => this.row(row)),
    );
  }

  // -- the residual stream ------------------------------------------------------------------------------------------

  streams() {
    const tops = this.layout.rows.filter((row) => row.item.level === 1);
    const isMtp = (row) => row.item.type === "node" && this.model.part(row.item.node).mtp || this.regionOf(row) === "mtp.layers";
    const sections = [tops.filter((row) => !isMtp(row)), tops.filter(isMtp)].filter((section) => section.length);
    return sections.flatMap((section) => this.stream(section));
  }

  regionOf({ item }) {
    return item.type === "fold" ? item.region.name : item.type === "block" ? item.block.region : "";
  }

  // A node that reads the row above it hangs from that; what begins the stream and what reads it stand on it.
  stream(section) {
    const x = streamX(this.layout.width);
    const hangs = section.map((row, i) => i > 0 && this.reads(row, section[i - 1]));
    let begin = 0;
    while (hangs[begin + 1]) begin++;
    const on = section.filter((row, i) => i === begin || (i > begin && !hangs[i]));
    const [first, last] = [on[0], on[on.length - 1]];
    const from = first.y + first.height / 2;
    const to = last.y + (last.frame || last.height / 2);
    const inside = this.layout.rows.filter((row) => row.item.type === "block" && row.y >= from && row.y <= to);
    return [
      on.length > 1 ? shape("line", { x1: x, x2: x, y1: from, y2: to, class: "stream" }) : null,
      ...section.map((row, i) => (hangs[i] ? this.hang(row, section[i - 1]) : null)),
      ...on.filter((row) => on.length > 1 && row.item.type === "node").map((row) => this.tap(row, x, row !== first)),
      ...inside.map((row) => this.branch(row, x)),
    ];
  }

  reads({ item }, above) {
    return item.type === "node" && above.item.type === "node" && item.node.inputs.includes(above.item.node.id);
  }

  hang(row, above) {
    const x = row.x + 14;
    return shape("g", {}, shape("path", { d: `M${x},${above.y + above.height} V${row.y - 4}`, class: "wire" }), shape("path", { d: `M${x},${row.y} l-3.5,-7 h7 z`, class: "head" }));
  }

  // A node on the stream itself: the first feeds it, the others read it.
  tap(row, x, reads) {
    const y = row.y + row.height / 2;
    if (reads) return shape("g", {}, arrow(x, row.x, y));
    return shape("g", {}, shape("path", { d: `M${row.x},${y} H${x}`, class: "wire" }), shape("circle", { cx: x, cy: y, r: 4, class: "joint" }));
  }

  // A block: reads the stream, adds to it.
  branch(row, x) {
    const height = row.frame || row.height;
    const [from, to] = [row.y + Math.min(9, height / 3), row.y + height - Math.min(9, height / 3)];
    return shape(
      "g",
      {},
      arrow(x, row.x, from),
      shape("path", { d: `M${row.x},${to} H${x + 5}`, class: "wire" }),
      shape("circle", { cx: x, cy: to, r: 5, class: "joint" }),
      shape("path", { d: `M${x - 3},${to} h6 M${x},${to - 3} v6`, class: "plus" }),
    );
  }

  frame(row) {
    const tint = row.item.type === "block" ? this.model.kind(this.model.mixer(row.item.block)).fill : null;
    return shape("rect", {
      x: row.x, y: row.y, width: row.width, height: row.frame, rx: 8,
      class: row.item.type === "fold" ? "frame repeat" : "frame unfolded", stroke: tint,
    });
  }

  // -- rows ---------------------------------------------------------------------------------------------------------

  row(row) {
    const { item } = row;
    const parts = { fold: this.foldRow, block: this.blockRow, node: this.nodeRow, param: this.paramRow }[item.type].call(this, row);
    return shape(
      "g",
      {
        class: `row ${item.type}`,
        role: "treeitem",
        "data-key": item.key,
        "aria-level": item.level,
        "aria-expanded": item.opens ? String(item.isOpen) : null,
        "aria-label": this.spoken(item),
        tabindex: -1,
      },
      parts,
    );
  }

  spoken(item) {
    if (item.type === "fold") return `${item.fold.times} times ${item.fold.length} layers from ${item.start}`;
    if (item.type === "param") return `${item.param.name} ${axesText(item.param)}`;
    const node = item.type === "block" ? this.model.mixer(item.block) : item.node;
    const name = item.type === "block" ? this.model.layerName(item.block) : item.node.id;
    return `${name}, ${this.model.part(node).kind}, ${this.value(item)}`;
  }

  value(item) {
    const value = item.type === "block" ? this.model.blockValue(item.block, this.metric.key, this.cost) : this.model.nodeValue(item.node, this.metric.key, this.cost);
    return this.metric.format(value);
  }

  foldRow(row) {
    const { item } = row;
    const { fold } = item;
    const last = item.start + fold.length * fold.times - 1;
    const where = item.region.name === "layers" ? `layers ${item.start}-${last}` : `${item.region.name} ${item.start}-${last}`;
    const letters = this.foldText(item.region, fold);
    const hint = item.isOpen ? "fold" : `unfold ${fold.times * fold.length} layers`;
    const right = row.x + row.width - 10;
    const room = row.width - 40 - textWidth(hint, 11);
    return [
      shape("rect", { x: row.x, y: row.y, width: row.width, height: row.height, class: "hit" }),
      marker(row.x + 10, row.y + 13, item.isOpen),
      label(`${fold.times} × [${letters}]  ·  ${where}`, row.x + 22, row.y + 17, { width: room, style: "strong" }),
      label(hint, right, row.y + 17, { size: 11, anchor: "end", style: "quiet" }),
    ];
  }

  foldText(region, fold) {
    const inner = fold.inner || [{ start: fold.start, length: 1, times: 1 }];
    return inner.map((one) => (one.times === 1 ? region.blocks[one.start].letter : `${one.times}×[${this.foldText(region, one)}]`)).join(" ");
  }

  blockRow(row) {
    const { item } = row;
    const node = this.model.mixer(item.block);
    const positions = standsFor(item.block.position, item.shifts);
    const many = positions.length > 1 ? ` ×${positions.length}` : "";
    const title = `${this.model.part(node).kind}${many}`;
    const where = item.block.region === "layers" ? `layer${positions.length > 1 ? "s" : ""} ${formatRanges(positions)}` : this.model.place(item.block);
    return this.box(row, { title, where, detail: this.model.sizes(node), letter: item.block.letter, paint: this.model.kind(node), value: positions.length > 1 ? `${this.value(item)} each` : this.value(item), open: item.isOpen, heat: this.heat.ofBlocks(positions.map((at) => this.blockAt(item.block.region, at))) });
  }

  blockAt(region, position) {
    return this.model.blocks.get(this.model.regions.get(region).blocks[position].id);
  }

  nodeRow(row) {
    const { item } = row;
    const part = this.model.part(item.node);
    const detail = this.model.sizes(item.node);
    const shares = item.node.owner ? `parameters of ${item.node.owner}` : "";
    return this.box(row, { title: item.node.role, where: part.kind === item.node.role ? shares : part.kind, detail: shares || detail, paint: this.model.kind(item.node), value: this.value(item), open: item.isOpen, opens: item.opens, heat: this.heat.ofNode(item.node) });
  }

  box(row, { title, where, detail, letter = "", paint, value, open, opens = true, heat }) {
    const { x, y, width, height } = row;
    const framed = row.frame !== undefined;
    const stripes = Array.isArray(heat) && !framed ? heat : [];
    const fill = stripes.length ? null : heat ?? (paint.block ? paint.fill : null);
    const tall = height >= 40;
    const baseline = tall ? y + 19 : y + height / 2 + 4;
    const left = x + (opens ? 24 : 12);
    const ink = heat || paint.block ? paint.ink : null;
    const inked = ink && !framed ? `fill:${ink}` : null;
    const right = x + width - 10;
    const valueWidth = textWidth(value, 12, "600") + 8;
    const titleText = letter ? `${letter} ${title}` : title;
    const titleWidth = Math.min(textWidth(titleText, 13, "600") + 10, Math.max(width * 0.55, 60), right - valueWidth - left);
    const parts = [
      shape("rect", { x, y, width, height, rx: 6, class: framed ? "hit" : fill ? "box" : "box plain", fill: framed ? null : fill }),
      stripes.map((shade, i) => shape("rect", { x: x + (i * width) / stripes.length, y, width: width / stripes.length, height, fill: shade, class: "stripe" })),
      opens ? marker(x + 12, baseline - 4, open, inked) : null,
      label(titleText, left, baseline, { size: 13, width: titleWidth + 4, style: "strong" }),
      label(where, left + titleWidth, baseline, { width: right - valueWidth - left - titleWidth, style: "quiet" }),
      label(value, right, baseline, { anchor: "end", style: "strong" }),
      tall ? label(detail, left, y + 35, { size: 11, width: right - left, style: "quiet" }) : null,
    ];
    if (inked) for (const part of parts.flat()) if (part && part.tagName === "text") part.setAttribute("style", inked);
    return parts;
  }

  // A parameter: its name and axes, and how its rows are made up.
  paramRow(row) {
    const { x, y, width } = row;
    const { param, node } = row.item;
    const right = x + width - 10;
    const count = formatParams(paramElements(param));
    const rows = param.axes[0];
    const parts = rows.parts || [{ name: rows.text, size: rows.size }];
    const paint = this.model.kind(node);
    let at = x + 8;
    const bar = parts.flatMap((part) => {
      const length = Math.max(2, ((width - 18) * part.size) / rows.size - 2);
      const piece = [
        shape("rect", { x: at, y: y + 21, width: length, height: 15, rx: 2, class: "piece", fill: paint.block ? paint.fill : null }),
        label(`${part.name}:${part.size}`, at + 4, y + 32, { size: 10, width: length - 6, style: "inside" }),
      ];
      at += length + 2;
      return piece;
    });
    return [
      shape("rect", { x, y, width, height: row.height, rx: 6, class: "box param" }),
      label(`${param.name}  ${axesText(param)}`, x + 8, y + 15, { size: 11, width: right - x - 20 - textWidth(count, 11) }),
      label(count, right, y + 15, { size: 11, anchor: "end", style: "quiet" }),
      bar,
    ];
  }
}

// From the stream into a box.
function arrow(from, to, y) {
  return shape("g", {}, shape("path", { d: `M${from},${y} H${to - 4}`, class: "wire" }), shape("path", { d: `M${to - 1},${y} l-7,-3.5 v7 z`, class: "head" }));
}

function marker(x, y, open, style) {
  return shape("path", { d: open ? `M${x - 4},${y - 2} h8 l-4,5 z` : `M${x - 2},${y - 4} v8 l5,-4 z`, class: "marker", style });
}

// Colour by a number: the chosen measure, or an overlay's score. Null where colour stands for the kind.
class Heat {
  constructor(model, view, cost) {
    Object.assign(this, { model, view, cost });
    this.overlay = view.colour.startsWith("overlay:") ? model.data.overlays[Number(view.colour.slice(8))] : null;
    const alone = model.data.nodes.filter((node) => !model.blocks.has(node.block)).map((node) => this.rawNode(node));
    const values = [...[...model.blocks.values()].map((block) => this.rawBlock(block)), ...alone].filter((value) => value !== null);
    this.low = this.overlay ? Math.min(...values) : 0;
    this.high = Math.max(...values);
  }

  get active() {
    return this.view.colour !== "kind";
  }

  rawBlock(block) {
    if (!this.overlay) return this.model.blockValue(block, this.view.measure, this.cost);
    const scores = block.nodes.map((id) => this.rawNode(this.model.nodes.get(id))).filter((value) => value !== null);
    return scores.length ? Math.max(...scores) : null;
  }

  rawNode(node) {
    if (!this.overlay) return this.model.nodeValue(node, this.view.measure, this.cost);
    return overlayScore(this.overlay.nodes[node.id]);
  }

  ofBlock(block) {
    return this.ofBlocks([block]);
  }

  // The shade of every layer that a row stands for: one where they are all equal.
  ofBlocks(blocks) {
    if (!this.active) return null;
    const shades = blocks.map((block) => this.shade(this.rawBlock(block)));
    return shades.every((shade) => shade === shades[0]) ? shades[0] : shades;
  }

  ofNode(node) {
    return this.active ? this.shade(this.rawNode(node)) : null;
  }

  // From pale to deep blue, lightness falling evenly, as far as the ink of kinds can be read on it.
  shade(value) {
    if (value === null) return "var(--unknown)";
    const share = this.high > this.low ? Math.max(0, Math.min(1, (value - this.low) / (this.high - this.low))) : 0.5;
    return `hsl(${212 - 12 * share} ${45 + 25 * share}% ${90 - 45 * share}%)`;
  }
}

// The number of a node in an overlay: its score, else the mean of its first list of units; null without either.
function overlayScore(values) {
  if (!values) return null;
  if (typeof values["*"] === "number") return values["*"];
  const units = Object.values(values).find(Array.isArray);
  return units ? units.reduce((a, b) => a + b, 0) / units.length : null;
}

// All layers side by side: a bar each, its height the measure, its colour the kind (or heat).
function overview(model, view, cost, width, pick) {
  const region = model.regions.get("layers");
  const blocks = region ? region.blocks.map((block) => model.blocks.get(block.id)) : [];
  const height = 64;
  const heat = new Heat(model, view, cost);
  const values = blocks.map((block) => model.blockValue(block, view.measure, cost));
  const largest = Math.max(...values, 0);
  const step = width / Math.max(blocks.length, 1);
  const metric = metricOf(view.measure);
  const bars = blocks.map((block, i) => {
    const node = model.mixer(block);
    const tall = largest ? Math.max(3, (46 * values[i]) / largest) : 46;
    const name = `${model.layerName(block)}: ${model.part(node).kind}, ${metric.format(values[i])}`;
    return shape(
      "g",
      { class: view.selected === model.place(block) ? "bar chosen" : "bar", "data-target": model.place(block), onclick: () => pick(model.place(block)) },
      shape("title", {}, name),
      shape("rect", { x: i * step, y: 0, width: step, height, class: "hit" }),
      shape("rect", { x: i * step + step * 0.08, y: 48 - tall, width: step * 0.84, height: tall, fill: heat.ofBlock(block) ?? model.kind(node).fill }),
      step >= 7 ? label(block.letter, i * step + step / 2, 60, { size: Math.min(12, step + 2), anchor: "middle", style: "quiet" }) : null,
    );
  });
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${metric.name} of every layer`, "font-family": FONT }, bars);
}
