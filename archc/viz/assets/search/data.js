// The search on the page: points with their rows, what is chosen, and what passes the brushes.

const data = JSON.parse(byId("data").textContent);
const columns = data.columns;

// A point is a recorded candidate, the base, a model beside it, or one of the sample; `row` has a value, or null, for each column.
const trials = data.candidates.map((candidate, i) => ({ ...candidate, kind: "trial", i }));
const base = { ...data.base_row, kind: "base", name: "base", front: false };
const beside = [base, ...data.compared.map((model) => ({ ...model, kind: "model", front: false }))]; // no candidates
const named = new Map(trials.map((trial) => [trial.name, trial]));
const sample = data.cloud.order.map((order, i) => ({
  kind: "sample",
  name: `proposal ${order + 1}`,
  front: false,
  fits: data.cloud.fits[i] === 1,
  order,
  row: columns.map((column, c) => {
    const stored = data.cloud.columns[c];
    return stored === null ? null : column.values ? column.values[stored[i]] : stored[i];
  }),
}));

const view = { x: data.axes[0], y: data.axes[1], chosen: named.get(data.knee) ?? trials[0] ?? base, brushes: new Map(), historyOf: 0 };

const passes = (point) => [...view.brushes].every(([column, [low, high]]) => point.row[column] !== null && point.row[column] >= low && point.row[column] <= high);
const figures = columns.map((column, i) => i).filter((i) => columns[i].role !== "choice");
const choices = columns.map((column, i) => i).filter((i) => columns[i].role === "choice");

// What a candidate is called for: the knee, the best of the highest rung.
function titles(point) {
  if (point.kind !== "trial") return [];
  return [point.front ? "on the front" : "", point.name === data.knee ? "knee" : "", data.best !== data.knee && point.name === data.best ? "best" : ""].filter(Boolean);
}

// A label that may break after its dots and underscores.
const breakable = (text) => text.split(/(?<=[._])/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));

// A word of a command line as a shell reads it.
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);
