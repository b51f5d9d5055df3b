// What the model costs under a workload: archc's own expressions, evaluated here. See archc/ir/expr.py.

const OPERATORS = {
  "+": (...terms) => terms.reduce((a, b) => a + b),
  "-": (a, b) => a - b,
  "*": (...factors) => factors.reduce((a, b) => a * b),
  "/": (a, b) => a / b,
  "**": (a, b) => a ** b,
  min: Math.min,
  max: Math.max,
  ceil: Math.ceil,
};

function evaluate(tree, env) {
  if (typeof tree === "number") return tree;
  if (typeof tree === "string") {
    if (!(tree in env)) throw new Error(`no value for ${tree}`);
    return env[tree];
  }
  return OPERATORS[tree[0]](...tree.slice(1).map((argument) => evaluate(argument, env)));
}

const STATE_FIGURES = ["kv_bytes", "ssm_bytes", "conv_bytes"];

// What can stand for size or colour on the page. `timed` ones need hardware.
const METRICS = [
  { key: "params", name: "parameters", format: formatParams },
  { key: "active", name: "active parameters", format: formatParams },
  { key: "weights_bytes", name: "weights, bytes", format: formatSize },
  { key: "state_bytes", name: "state, bytes", format: formatSize },
  { key: "decode_flops", name: "FLOPs of a decode step", format: formatFlops },
  { key: "prefill_flops", name: "FLOPs of prefill", format: formatFlops },
  { key: "moved_bytes", name: "bytes moved, decode step", format: formatSize },
  { key: "decode_s", name: "time of a decode step", format: formatSeconds, timed: true },
  { key: "prefill_s", name: "time of prefill", format: formatSeconds, timed: true },
];

const metricOf = (key) => METRICS.find((metric) => metric.key === key);

// The format of every class: what follows from the weights', then what was chosen.
function chosenFormats(data, workload) {
  const chosen = { ...data.formats[workload.weights] };
  for (const name of ["kv", "ssm"]) if (workload[name]) chosen[name] = workload[name];
  return chosen;
}

function environment(data, workload) {
  const env = { batch: workload.batch, context: workload.context, input: workload.context, prefill_chunk: 2048 };
  const classes = chosenFormats(data, workload);
  for (const [name, bytes] of Object.entries(data.bytes)) env[`bytes.${name}`] = bytes;
  for (const [name, format] of Object.entries(classes)) env[`bytes.${name}`] = data.bytes[format];
  const device = data.hardware[workload.hardware];
  if (!device) return env;
  for (const [name, rate] of Object.entries(device.rates)) env[`rate.${name}`] = rate * workload.devices;
  for (const [name, format] of Object.entries(classes)) env[`rate.${name}`] = device.rates[format] * workload.devices;
  [env.link_s_per_byte, env.link_latency_s] = device.links[workload.devices];
  return { ...env, bandwidth: device.bandwidth * workload.devices };
}

// Figures of one node of a part; those of time only with hardware.
function partFigures(part, workload, env) {
  const trees = workload.weights && part.plain_figures ? part.plain_figures : part.figures;
  const found = {};
  for (const [name, tree] of Object.entries(trees)) {
    if (workload.hardware || !name.endsWith("_s")) found[name] = evaluate(tree, { ...env, ...part.sizes });
  }
  found.state_bytes = STATE_FIGURES.reduce((sum, name) => sum + found[name], 0);
  return found;
}

function costOf(data, workload) {
  const env = environment(data, workload);
  const next = environment(data, { ...workload, context: workload.context + 1 });
  const parts = data.parts.map((part) => partFigures(part, workload, env));
  const later = data.parts.map((part) => partFigures(part, workload, next));
  return { parts, totals: totalsOf(data, workload, env, parts, later) };
}

function totalsOf(data, workload, env, parts, later) {
  const sum = (name, where, from = parts) =>
    data.parts.reduce((total, part, i) => total + (where(part) ? part.count * from[i][name] : 0), 0);
  const serves = (part) => !part.mtp;
  const state = (from) => STATE_FIGURES.map((n) => workload.batch * Math.ceil(sum(n, serves, from) / workload.batch));
  const totals = { mtp_params: sum("params", (part) => part.mtp) };
  for (const { key, timed } of METRICS) if (!timed || workload.hardware) totals[key] = sum(key, serves);
  totals.weights_bytes = Math.ceil(sum("weights_bytes", () => true));
  STATE_FIGURES.forEach((name, i) => (totals[name] = state(parts)[i]));
  totals.state_bytes = state(parts).reduce((a, b) => a + b);
  totals.state_bytes_per_token = (state(later).reduce((a, b) => a + b) - totals.state_bytes) / workload.batch;
  totals.resident_bytes = totals.weights_bytes + totals.state_bytes;
  totals.activation_bytes = evaluate(data.activation_bytes, env);
  const device = data.hardware[workload.hardware];
  totals.reserve_bytes = device ? device.reserve_bytes * workload.devices : 0;
  totals.memory_bytes = device ? device.memory_bytes * workload.devices : 0;
  totals.peak_bytes = totals.resident_bytes + totals.activation_bytes + totals.reserve_bytes;
  return totals;
}
