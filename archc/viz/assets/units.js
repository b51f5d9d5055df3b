// Numbers as archc.units reads and writes them: contexts and batches are binary, parameters decimal, memory in GiB.

const COUNTS = { "": 1, k: 2 ** 10, M: 2 ** 20 };
const SIZES = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const DECIMALS = { "": 1, k: 1e3, M: 1e6, B: 1e9, T: 1e12, P: 1e15, E: 1e18 };

function largestUnit(value, units) {
  const fitting = Object.keys(units).filter((unit) => Math.abs(value) >= units[unit]);
  return fitting.length ? fitting[fitting.length - 1] : Object.keys(units)[0];
}

// A context or batch such as 131072, 128k or 4M; null for anything else.
function parseCount(text) {
  const match = /^\s*(\d[\d_]*(?:\.\d+)?)\s*([kKmM]?)\s*$/.exec(text);
  if (!match) return null;
  const unit = { k: "k", K: "k", m: "M", M: "M", "": "" }[match[2]];
  const value = Number(match[1].replaceAll("_", "")) * COUNTS[unit];
  return Number.isInteger(value) && value >= 1 && value <= 2 ** 40 ? value : null;
}

function formatCount(value) {
  const unit = ["M", "k", ""].find((name) => value % COUNTS[name] === 0);
  return `${value / COUNTS[unit]}${unit}`;
}

function formatSize(bytes) {
  const unit = largestUnit(bytes, SIZES);
  const number = bytes / SIZES[unit];
  return unit === "B" ? `${Math.round(number)} B` : `${number.toFixed(2)} ${unit}`;
}

function formatParams(value) {
  const unit = largestUnit(value, { "": 1, k: 1e3, M: 1e6, B: 1e9, T: 1e12 });
  return unit ? `${(value / DECIMALS[unit]).toFixed(2)}${unit}` : String(Math.round(value));
}

function formatFlops(value) {
  const names = { "": "", k: "k", M: "M", B: "G", T: "T", P: "P", E: "E" };
  const unit = largestUnit(value, DECIMALS);
  return `${(value / DECIMALS[unit]).toPrecision(3)} ${names[unit]}FLOP`;
}

function formatSeconds(value) {
  if (value === 0) return "0";
  const [unit, name] = value >= 1 ? [1, "s"] : value >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"];
  return `${(value / unit).toPrecision(3)} ${name}`;
}

const formatShare = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : "");
const formatInteger = (value) => Math.round(value).toLocaleString("en-US");

// [0, 1, 2, 5] -> "0-2, 5"
function formatRanges(numbers) {
  const runs = [];
  for (const number of numbers) {
    const last = runs[runs.length - 1];
    if (last && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}
