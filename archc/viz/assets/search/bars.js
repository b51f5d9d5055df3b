// Bars: which choices decide a figure, and how each budget binds.

const SHOWN_CHOICES = 12;

function drawImportance() {
  const names = choices.map((i) => columns[i].label);
  const charts = data.importance.map((shares, i) => importanceChart(columns[i], shares, names)).filter(Boolean); // of objectives, then budgets
  byId("importance").replaceChildren(...charts);
  byId("importance-section").hidden = !charts.length;
}

function importanceChart(column, shares, names) {
  const rows = shares.map((share, i) => ({ share, name: names[i], chance: data.by_chance[i] })).sort((a, b) => b.share - a.share);
  const whole = shares.reduce((sum, share) => sum + share, 0);
  if (whole === 0) return null;
  const [shown, more] = [rows.slice(0, SHOWN_CHOICES), rows.length - SHOWN_CHOICES];
  const rest = whole < 1 ? `${formatShare(1 - whole, 1)} by no choice alone` : "";
  return element(
    "figure",
    { class: "chart" },
    element("figcaption", { title: column.text }, column.label),
    element("table", { class: "plain" }, element("tbody", {}, shown.map(shareRow))),
    element("p", { class: "quiet" }, [more > 0 ? `${more} more, each below ${formatShare(shown[shown.length - 1].share, 1)}` : "", rest].filter(Boolean).join("; ")),
  );
}

function shareRow({ name, share, chance }) {
  const tick = chance > 0.001 ? element("span", { class: "chance", style: `left:${Math.min(100, 100 * chance)}%`, title: `${formatShare(chance, 1)} by chance` }) : null;
  return element(
    "tr",
    {},
    element("td", {}, name),
    element("td", { class: "bars" }, element("div", { class: "track" }, element("div", { class: "fill", style: `width:${Math.min(100, 100 * share)}%` }), tick)),
    element("td", { class: "number" }, formatShare(share, 1)),
  );
}

function drawBudgets() {
  byId("budgets").replaceChildren(...data.budgets.map(budgetFigure));
  byId("budgets-section").hidden = !data.budgets.length;
}

function budgetFigure(budget) {
  const [shared, alone] = [budget.broken - budget.alone, budget.alone].map((count) => (100 * count) / Math.max(data.proposed, 1));
  return element(
    "figure",
    { class: "budget" },
    element("figcaption", {}, budget.text),
    element("div", { class: "track", role: "img", "aria-label": "share of proposals that it rejects" }, element("div", { class: "fill alone", style: `width:${alone}%` }), element("div", { class: "fill shared", style: `width:${shared}%` })),
    element("p", {}, `rejects ${formatShare(budget.broken, data.proposed) || "0%"} of proposals, ${formatShare(budget.alone, data.proposed) || "0%"} alone`),
    budget.slack.length ? [slackStrip(budget), element("p", {}, slackWords(budget))] : null,
  );
}

// What each candidate of the front leaves of the budget: dots from none at the left to the most at the right.
function slackStrip(budget) {
  const most = budget.slack[budget.slack.length - 1] || 1;
  const places = budget.slack.map((value) => 6 + (value / most) * 288);
  return shape("svg", { viewBox: "0 0 300 26", class: "strip", role: "img", "aria-label": "what candidates of the front leave of it" }, shape("path", { d: "M6,13 H294", class: "rule" }), shape("path", { d: "M6,4 V22", class: "limit" }), places.map((cx) => shape("circle", { cx, cy: 13, r: 4, class: "slack" })));
}

function slackWords(budget) {
  const { slack: left, limit } = budget;
  const write = (value) => `${formatValue(budget, value)} (${formatShare(value, Math.abs(limit)) || "0%"})`;
  const close = left.filter((value) => value <= Math.abs(limit) / 100).length;
  return `the front leaves ${write(left[0])} to ${write(left[left.length - 1])} of it; ${close} of ${left.length} within 1% of the limit`;
}
