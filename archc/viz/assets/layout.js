// Where everything stands: rows from top to bottom, folded runs in frames. Nothing is drawn here.

const ROW = { gap: 8, block: 44, node: 34, op: 32, param: 42, head: 26, least: 26, tallest: 150, pad: 8, indent: 12 };

// The tree of what is visible. An item has a key by which it opens, and children when it is open.
function visibleItems(model, open) {
  return model.data.order.flatMap((entry) => {
    if (entry.node) return [nodeItem(model, entry.node, open, 1)];
    return regionItems(model, model.regions.get(entry.region), open);
  });
}

function nodeItem(model, id, open, level) {
  const node = model.nodes.get(id);
  const key = `op:${id}`;
  const params = model.part(node).params;
  const children = open.has(key) ? params.map((param) => ({ type: "param", key: `${key}/${param.name}`, param, node, level: level + 1 })) : [];
  return { type: "node", key, node, level, children, opens: params.length > 0, isOpen: open.has(key) };
}

function regionItems(model, region, open) {
  return region.folds.map((fold) => foldItem(model, region, fold, 0, [], open, 1));
}

function foldItem(model, region, fold, offset, shifts, open, level) {
  const start = fold.start + offset;
  if (fold.times === 1) return blockItem(model, region, start, shifts, open, level);
  const key = `fold:${region.name}:${start}:${fold.length}x${fold.times}`;
  const isOpen = open.has(key);
  const inner = fold.inner || [{ start: fold.start, length: 1, times: 1 }];
  const outer = isOpen ? shifts : [...shifts, [fold.length, fold.times]];
  const rounds = isOpen ? fold.times : 1;
  const children = [];
  for (let round = 0; round < rounds; round++) {
    for (const each of inner) {
      children.push(foldItem(model, region, each, offset + round * fold.length, outer, open, level + 1));
    }
  }
  return { type: "fold", key, region, fold, start, shifts, level, children, opens: true, isOpen };
}

function blockItem(model, region, position, shifts, open, level) {
  const block = model.blocks.get(region.blocks[position].id);
  const key = `block:${block.id}`;
  const isOpen = open.has(key);
  const children = isOpen ? block.nodes.map((id) => nodeItem(model, id, open, level + 1)) : [];
  return { type: "block", key, block, shifts, level, children, opens: true, isOpen };
}

// Every position that a block in closed folds stands for.
function standsFor(start, shifts) {
  let found = [start];
  for (const [length, times] of shifts) {
    found = found.flatMap((at) => Array.from({ length: times }, (_, round) => at + round * length));
  }
  return found.sort((a, b) => a - b);
}

// What must be open for a block to be seen for itself, and (for a node) inside its block.
function keysTo(model, target) {
  const keys = [];
  const block = model.blocks.get(target.block);
  if (block) {
    const region = model.regions.get(block.region);
    const walk = (fold, offset) => {
      const start = fold.start + offset;
      if (block.position < start || block.position >= start + fold.length * fold.times) return;
      if (fold.times === 1) return;
      const round = Math.floor((block.position - start) / fold.length);
      if (round > 0) keys.push(`fold:${region.name}:${start}:${fold.length}x${fold.times}`);
      for (const inner of fold.inner || []) walk(inner, offset + round * fold.length);
    };
    for (const fold of region.folds) walk(fold, 0);
    if (target.node) keys.push(`block:${block.id}`);
  }
  return keys;
}

// Heights: equal, or by the chosen metric, the largest block being the tallest.
class Heights {
  constructor(model, metric, cost) {
    Object.assign(this, { model, metric, cost });
    const blocks = [...model.blocks.values()].map((block) => this.block(block));
    const alone = model.data.order.filter((entry) => entry.node).map((entry) => this.node(model.nodes.get(entry.node)));
    this.largest = metric ? Math.max(...blocks, ...alone, 0) : 0;
  }

  block(block) {
    return this.metric ? this.model.blockValue(block, this.metric, this.cost) : 0;
  }

  node(node) {
    return this.metric ? this.model.nodeValue(node, this.metric, this.cost) : 0;
  }

  of(item) {
    if (item.type === "param") return ROW.param;
    const plain = item.type === "block" ? ROW.block : item.level > 1 ? ROW.op : ROW.node;
    if (!this.largest || item.isOpen || (item.type === "node" && item.level > 1)) return plain;
    const value = item.type === "block" ? this.block(item.block) : this.node(item.node);
    return Math.max(ROW.least, (ROW.tallest * value) / this.largest);
  }
}

// Rows with x, y, width and height, in the order of reading; frames around folds and open blocks.
function layOut(items, width, heights) {
  const rows = [];
  let y = 14;
  const place = (item, x, right) => {
    const framed = item.type === "fold" || (item.type === "block" && item.isOpen);
    const height = framed ? ROW.head : heights.of(item);
    const row = { item, x, y, width: right - x, height };
    rows.push(row);
    y += height + ROW.gap;
    for (const child of item.children || []) {
      place(child, x + (framed ? ROW.indent : 2 * ROW.indent), right - (framed ? ROW.indent : 0));
    }
    if (framed) {
      row.frame = y - row.y + 2;
      y += ROW.gap + 2;
    }
  };
  for (const item of items) place(item, streamX(width) + 34, width - 12);
  return { rows, width, height: y + 8 };
}

const streamX = (width) => (width < 480 ? 22 : 40);
