// The model on the page: nodes, blocks and regions by name, what each costs, and what a link may name.

class Model {
  constructor(data) {
    this.data = data;
    this.nodes = new Map(data.nodes.map((node) => [node.id, node]));
    this.regions = new Map(data.regions.map((region) => [region.name, region]));
    this.blocks = new Map();
    for (const region of data.regions) {
      region.blocks.forEach((block, position) => this.blocks.set(block.id, { ...block, region: region.name, position }));
    }
    this.names = this.targets();
  }

  part(node) {
    return this.data.parts[node.part];
  }

  kind(node) {
    return this.data.kinds[this.part(node).kind];
  }

  // The node that a block is about: its mixer, which has a letter.
  mixer(block) {
    const nodes = block.nodes.map((id) => this.nodes.get(id));
    return nodes.find((node) => this.kind(node).block) || nodes[0];
  }

  place(block) {
    return `${block.region}.${block.position}`;
  }

  layerName(block) {
    return block.region === "layers" ? `layer ${block.position}` : this.place(block);
  }

  // What can be linked to: scopes, ids, and blocks by place. Scopes come last, so that an owner wins over who refers.
  targets() {
    const names = new Map();
    for (const block of this.blocks.values()) names.set(this.place(block), { block: block.id });
    for (const node of this.data.nodes) {
      const block = this.blocks.has(node.block) ? node.block : undefined;
      names.set(node.id, { node: node.id, block });
      if (!node.owner) names.set(node.scope, { node: node.id, block });
    }
    return names;
  }

  nodeValue(node, metric, cost) {
    return cost.parts[node.part][metric] ?? 0;
  }

  blockValue(block, metric, cost) {
    return block.nodes.reduce((sum, id) => sum + this.nodeValue(this.nodes.get(id), metric, cost), 0);
  }

  // A node's sizes in words, as a spec says them.
  sizes(node) {
    return this.part(node).text;
  }
}

// The axes of a parameter as archc show writes them: [z:10240 | x:10240, d_model:5120].
function axesText(param) {
  const axis = ({ text, size, parts }) =>
    parts ? parts.map((part) => `${part.name}:${part.size}`).join(" | ") : `${text}:${size}`;
  return `[${param.axes.map(axis).join(", ")}]`;
}

const paramElements = (param) => param.axes.reduce((product, axis) => product * axis.size, 1);
