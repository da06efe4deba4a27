"use strict";
// The interactive part of the report: filters and the front. `cells.js` goes on within the same function: curves, table, beginning.
(() => {
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
};
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// ---------------------------------------------------------------- columns
const columns = new Map(data.columns.map(column => [column.name, column]));
const cell = (column, row) =>
  column.dict ? column.dict[column.codes[row]] : column.values ? column.values[row] : column.const;
const at = (name, row) => cell(columns.get(name), row);
const workloadOf = columns.get("workload").codes, familyOf = columns.get("family").codes;
/** What the chart shows: the objectives, unless the reader chooses other metrics. Of the vertical axis: `latency`, of the other: `cost`. */
const axes = { x: data.cost.column, y: data.latency.column };
const latency = row => at(axes.y, row), cost = row => at(axes.x, row);
const isObjective = () => axes.x === data.cost.column && axes.y === data.latency.column;
const moreIsBetter = name => data.labels[name]?.[1] === "more";
const labelOf = name => name === data.cost.column ? data.cost.label : name === data.latency.column ? data.latency.label : data.labels[name]?.[0] ?? short(name);
const keeps = row => columns.has("keeps_limits") ? at("keeps_limits", row) : null;
const usable = row => at("status", row) === "ok" && Number.isFinite(latency(row)) && Number.isFinite(cost(row));
const short = name => name.replace(/^autoscaler\./, "");
const number = value => value == null ? "" : typeof value !== "number" ? String(value)
  : Number.isInteger(value) ? value.toLocaleString("en-US") : Math.abs(value) < 1e-4 ? value.toExponential(3) : String(+value.toPrecision(5));

// ---------------------------------------------------------------- state
const state = { workload: 0, seed: "", filters: {}, limits: [], keeping: false, hidden: new Set(), chosen: [], log: false, sort: null, page: 0 };
const visible = row => workloadOf[row] === state.workload && matches(row);
const matches = row =>
  !state.hidden.has(familyOf[row]) && (state.seed === "" || String(at("seed", row)) === state.seed)
  && Object.entries(state.filters).every(([name, value]) => value === "" || String(at(name, row)) === value)
  && state.limits.every(({ name, most, value }) => { const found = at(name, row); return found != null && (most ? found <= value : found >= value); })
  && (!state.keeping || keeps(row) === true);
const seeds = [...new Set(Array.from({ length: data.rows }, (_, row) => at("seed", row)))].sort((a, b) => a - b);
const families = () => data.workloads[state.workload].ranked;

// ---------------------------------------------------------------- fronts of what the filters leave
/** Rows that no other beats in both objectives, by rising cost; of equal ones the first. As `non_dominated` of the analysis. */
function nonDominated(rows) {
  let lowest = Infinity;
  const [u, v] = [moreIsBetter(axes.x) ? -1 : 1, moreIsBetter(axes.y) ? -1 : 1];
  return [...rows].sort((a, b) => u * (cost(a) - cost(b)) || v * (latency(a) - latency(b)) || a - b).filter(row => {
    const kept = v * latency(row) < lowest;
    lowest = Math.min(lowest, v * latency(row));
    return kept;
  });
}
/** The border of what at least `percent` % of the sets of [cost, latency] attain, by rising cost. As `attainment` of the analysis. */
function attainment(sets, percent) {
  const needed = Math.max(1, Math.ceil(percent * sets.length / 100)), lowest = sets.map(() => Infinity), border = [];
  const points = sets.flatMap((set, k) => set.map(([c, l]) => [c, l, k])).sort((a, b) => a[0] - b[0]);
  points.forEach(([c, l, k], i) => {
    lowest[k] = Math.min(lowest[k], l);
    if (points[i + 1]?.[0] === c) return;
    const reached = [...lowest].sort((a, b) => a - b)[needed - 1];
    if (reached < (border.at(-1)?.[1] ?? Infinity)) border.push([c, reached]);
  });
  return border;
}
/** `fronts`: of each family and seed; `bands`: of each family what 10, 50 and 90 % of its seeds attain; `onFront`: their rows. */
let view;
function findFronts() {
  const groups = new Map();
  for (let row = 0; row < data.rows; row++) {
    if (!visible(row) || !usable(row)) continue;
    const key = `${familyOf[row]} ${at("seed", row)}`;
    if (!groups.has(key)) groups.set(key, { f: familyOf[row], seed: at("seed", row), rows: [] });
    groups.get(key).rows.push(row);
  }
  const fronts = [...groups.values()].map(group => ({ ...group, rows: nonDominated(group.rows) }));
  const bands = families().map(f => {
    const sets = fronts.filter(front => front.f === f).map(front => front.rows.map(row => [cost(row), latency(row)]));
    return { f, seeds: sets.length, 10: attainment(sets, 10), 50: attainment(sets, 50), 90: attainment(sets, 90) };
  }).filter(band => band.seeds > 0);
  view = { fronts, bands, onFront: new Set(fronts.flatMap(front => front.rows)) };
}

// ---------------------------------------------------------------- markers, drawn alike everywhere
const regular = (n, start) => Array.from({ length: n }, (_, k) => (start + 360 / n * k) * Math.PI / 180).map(a => [Math.cos(a), Math.sin(a)]);
const corners = { square: regular(4, 45), triangle: regular(3, -90), diamond: regular(4, 0), "triangle-down": regular(3, 90), pentagon: regular(5, -90) };
const strokes = { cross: [[-.8, -.8, .8, .8], [-.8, .8, .8, -.8]], plus: [[-1, 0, 1, 0], [0, -1, 0, 1]] };
function drawMarker(context, shape, x, y, radius, edge) {
  context.beginPath();
  const r = radius * 1.25;
  if (strokes[shape]) {
    for (const [x0, y0, x1, y1] of strokes[shape]) { context.moveTo(x + x0 * r, y + y0 * r); context.lineTo(x + x1 * r, y + y1 * r); }
    context.lineWidth = radius * .55;
    context.strokeStyle = context.fillStyle;
    context.stroke();
    return;
  }
  if (corners[shape]) { corners[shape].forEach(([dx, dy]) => context.lineTo(x + dx * r, y + dy * r)); context.closePath(); }
  else context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
  if (edge) { context.lineWidth = edge.width; context.strokeStyle = edge.colour; context.stroke(); }
}
function markerIcon(family) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "marker"); svg.setAttribute("viewBox", "-7 -7 14 14"); svg.setAttribute("aria-hidden", "true");
  svg.style.color = data.families[family].colour;
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", "#m-" + data.families[family].marker);
  svg.append(use);
  return svg;
}

// ---------------------------------------------------------------- filters and legend
function select(label, options, value, change) {
  const box = element("select", { onchange: event => change(event.target.value) },
    ...options.map(([key, text]) => element("option", { value: key, selected: String(key) === String(value) }, text)));
  return element("label", {}, label + " ", box);
}
function buildFilters() {
  const filters = $("filters");
  if (data.workloads.length > 1) filters.append(select("Workload", data.workloads.map((w, k) => [k, w.name]), 0, value => {
    state.workload = +value;
    state.chosen = [];
    findFronts(); resetLog(); chooseDefaults(); refresh(true);
  }));
  if (seeds.length > 1) filters.append(select("Seed", [["", "all"], ...seeds.map(seed => [seed, seed])], "", value => { state.seed = value; refresh(); }));
  for (const name of data.filters) {
    const values = [...new Set(columns.get(name).dict ?? columns.get(name).values)].sort();
    filters.append(select(short(name), [["", "all"], ...values.map(value => [value, value])], "", value => { state.filters[name] = value; refresh(); }));
  }
  if (columns.has("keeps_limits")) filters.append(element("label", {}, element("input", { type: "checkbox", id: "keeping", onchange: event => { state.keeping = event.target.checked; refresh(); } }), " only what keeps the limits"));
  const names = numericColumns();
  if (names.length) {
    const name = element("select", { "aria-label": "Column to limit" }, ...names.map(name => element("option", { value: name, selected: name === data.latency.column }, short(name))));
    const most = element("select", { "aria-label": "At most or at least" }, element("option", { value: "1" }, "≤"), element("option", { value: "" }, "≥"));
    const value = element("input", { type: "number", step: "any", id: "limit-value", "aria-label": "Limit", placeholder: "value" });
    const add = () => {
      if (value.value === "" || !Number.isFinite(+value.value)) return;
      state.limits.push({ name: name.value, most: most.value === "1", value: +value.value });
      value.value = "";
      buildLimits(); refresh();
    };
    value.addEventListener("keydown", event => { if (event.key === "Enter") add(); });
    filters.append(element("span", { class: "tools-inline" }, name, " ", most, " ", value, " ", element("button", { type: "button", id: "add-limit", onclick: add }, "Filter")), element("span", { id: "limits" }));
  }
  filters.hidden = filters.children.length === 0;
}
/** Columns of numbers that differ between runs. */
const numericColumns = () => data.columns.filter(column => !("const" in column) && column.kind !== "id" && column.kind !== "judged"
  && (column.dict ?? column.values ?? []).some(value => typeof value === "number") && !["workload", "family"].includes(column.name)).map(column => column.name);
function buildLimits() {
  $("limits").replaceChildren(...state.limits.map((limit, k) => element("span", { class: "limit" }, `${short(limit.name)} ${limit.most ? "≤" : "≥"} ${limit.value}`,
    element("button", { type: "button", "aria-label": `Remove ${limit.name}`, onclick: () => { state.limits.splice(k, 1); buildLimits(); refresh(); } }, "×"))));
}
function buildAxes() {
  const metrics = data.columns.filter(column => !("const" in column) && ["metric", "objective"].includes(column.kind) && data.labels[column.name]).map(column => column.name);
  const choose = (axis, what) => select(what, metrics.map(name => [name, labelOf(name)]), axes[axis], value => {
    axes[axis] = value;
    findFronts(); resetLog(); refresh(true);
  });
  $("axes").append(choose("x", "Across"), " ", choose("y", "Up"));
}
function buildLegend() {
  $("legend").replaceChildren(...families().map(family => element("button", {
    type: "button", "aria-pressed": String(!state.hidden.has(family)),
    onclick: event => {
      state.hidden.has(family) ? state.hidden.delete(family) : state.hidden.add(family);
      event.currentTarget.setAttribute("aria-pressed", String(!state.hidden.has(family)));
      refresh();
    },
  }, markerIcon(family), data.families[family].label)));
}

// ---------------------------------------------------------------- the front
let chart = null, shown = [], highlighted = null, range = null;
const frontRows = () => view.fronts.flatMap(front => front.rows).sort((a, b) => cost(a) - cost(b));
const extent = values => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

/** The axes' ranges: the fronts inside the reference box, or every visible run. */
function ranges(all) {
  const reference = isObjective() ? data.workloads[state.workload].reference : null;
  let rows = all ? Array.from({ length: data.rows }, (_, row) => row).filter(row => visible(row) && usable(row)) : frontRows();
  const inside = reference ? rows.filter(row => cost(row) < reference[0] && latency(row) < reference[1]) : [];
  if (!all && inside.length) rows = inside;
  let costs = rows.map(cost), latencies = rows.map(latency);
  if (reference && !all) {
    costs.push(reference[0]);
    // A reference that was not given may lie far beyond most of the fronts.
    const median = [...latencies].sort((a, b) => a - b)[latencies.length >> 1] ?? reference[1];
    const top = data.reference_given ? reference[1] : Math.min(reference[1], 4 * median);
    latencies = latencies.filter(value => value <= top).concat(top);
  }
  if (!costs.length) return { x: [0, 1], y: [0, 1] };
  const [cheapest, dearest] = extent(costs), [fastest, slowest] = extent(latencies);
  const pad = (dearest - cheapest) * .07 || Math.abs(dearest) * .1 || 1;
  const x = [cheapest > .4 * dearest ? cheapest - pad : Math.min(cheapest, 0), dearest + pad];
  const y = state.log && fastest > 0 ? [fastest / 1.3, slowest * 1.3] : [Math.min(fastest, 0), slowest * 1.08 || 1];
  return { x, y };
}
function resetLog() {
  const { y } = (state.log = false, ranges(false));
  const low = extent(frontRows().map(latency))[0];
  state.log = low > 0 && y[1] > 15 * low;
  $("log").checked = state.log;
}
function buildChart() {
  chart?.destroy();
  const axis = { filter: (u, splits) => splits, stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif" };
  const box = $("chart");
  range = ranges(false);
  const decimals = (u, splits) => splits.map(value => value == null ? null : +value.toPrecision(4) + "");
  chart = new uPlot({
    width: box.clientWidth, height: clamp(Math.round(box.clientWidth * .55), 320, 560), legend: { show: false },
    cursor: { points: { show: false }, x: false, y: false, drag: { x: true, y: true, uni: 20 }, bind: { dblclick: () => () => { range = ranges(false); applyRange(); return null; } } },
    scales: {
      x: { time: false, range: (u, low, high) => [low ?? range.x[0], high ?? range.x[1]] },
      y: { distr: state.log ? 3 : 1, log: 10, range: (u, low, high) => low == null ? range.y : [low, high] },
    },
    axes: [
      { ...axis, space: 70, label: labelOf(axes.x), labelSize: 24, size: 40, values: decimals },
      { ...axis, space: 44, label: labelOf(axes.y), labelSize: 24, size: 58, values: state.log ? (u, splits) => splits.map(v => v == null ? null : logLabel(u, v)) : decimals },
    ],
    series: [{}, { show: false, points: { show: false } }],
    hooks: { drawClear: [u => drawBox(u, true)], draw: [u => drawBox(u, false), drawFront] },
  }, [[range.x[0], range.x[1]], [range.y[0], range.y[1]]], box);
  applyRange();
  chart.over.addEventListener("mousemove", event => hover(nearest(event)));
  chart.over.addEventListener("mouseleave", () => hover(null));
  chart.over.addEventListener("click", event => { const row = nearest(event, true); if (row != null) choose(row); });
}
/** Whether a value is one of `digits` times a power of ten. */
function isRound(value, digits = [1, 2, 5]) {
  const digit = value / 10 ** Math.floor(Math.log10(value) + 1e-9);
  return digits.some(round => Math.abs(digit - round) < 1e-6);
}
const logLabel = (u, value) => isRound(value, u.scales.y.max > 1000 * u.scales.y.min ? [1] : [1, 2, 5]) ? +value.toPrecision(4) + "" : null;
function applyRange() {
  chart.batch(() => { chart.setScale("x", { min: range.x[0], max: range.x[1] }); chart.setScale("y", { min: range.y[0], max: range.y[1] }); });
}
function clipped(u, paint) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save(); u.ctx.beginPath(); u.ctx.rect(left, top, width, height); u.ctx.clip();
  paint(u.ctx, devicePixelRatio || 1);
  u.ctx.restore();
}
const place = (u, row) => [u.valToPos(cost(row), "x", true), u.valToPos(latency(row), "y", true)];
function drawBox(u, filled) {
  const reference = data.workloads[state.workload].reference;
  if (!reference || !isObjective()) return;
  clipped(u, (context, ratio) => {
    const { left, top, width, height } = u.bbox;
    const x = clamp(u.valToPos(reference[0], "x", true), left - 9, left + width + 9), y = clamp(u.valToPos(reference[1], "y", true), top - 9, top + height + 9);
    if (filled) {
      context.fillStyle = css("--box");
      context.fillRect(left, y, x - left, top + height - y);
      return;
    }
    context.strokeStyle = css("--soft"); context.lineWidth = ratio; context.setLineDash([4 * ratio, 3 * ratio]);
    context.beginPath(); context.moveTo(left, y); context.lineTo(x, y); context.lineTo(x, top + height); context.stroke();
    context.setLineDash([]); context.lineWidth = 2 * ratio; context.strokeStyle = css("--ink");
    const r = 5 * ratio;
    context.beginPath(); context.moveTo(x - r, y - r); context.lineTo(x + r, y + r); context.moveTo(x - r, y + r); context.lineTo(x + r, y - r); context.stroke();
  });
}
function drawFront(u) {
  clipped(u, (context, ratio) => {
    const { left, top, width, height } = u.bbox;
    shown = [];
    context.globalAlpha = .4;
    for (let row = 0; row < data.rows; row++) {
      if (!visible(row) || !usable(row)) continue;
      const [x, y] = place(u, row);
      if (!(x >= left && x <= left + width && y >= top && y <= top + height)) continue;
      shown.push([row, x, y]);
      context.fillStyle = data.families[familyOf[row]].colour;
      drawMarker(context, data.families[familyOf[row]].marker, x, y, 2.8 * ratio);
    }
    if (isObjective()) {
      drawEdge(u, context, ratio, data.workloads[state.workload].edges, [6, 3]);
      drawEdge(u, context, ratio, data.workloads[state.workload].informed, [2, 3]);
    }
    drawLimits(u, context, ratio);
    const stairs = border => {
      let y0 = top - 10;
      const path = border.flatMap(([c, l]) => {
        const x = u.valToPos(c, "x", true), y = u.valToPos(l, "y", true), corner = [[x, y0], [x, y]];
        y0 = y;
        return corner;
      });
      return [...path, [left + width + 10, y0]];
    };
    // The best family on top; its runs above all lines.
    const worstFirst = [...view.bands].reverse();
    context.globalAlpha = .2;
    const minimised = !moreIsBetter(axes.x) && !moreIsBetter(axes.y);
    for (const band of worstFirst.filter(band => band.seeds > 1 && minimised)) {
      context.fillStyle = data.families[band.f].colour;
      context.beginPath();
      [...stairs(band[10]), ...stairs(band[90]).reverse()].forEach(([x, y]) => context.lineTo(x, y));
      context.fill();
    }
    context.globalAlpha = 1;
    for (const band of minimised ? worstFirst : []) {
      context.strokeStyle = data.families[band.f].colour;
      context.lineWidth = 2 * ratio;
      context.setLineDash((data.families[band.f].dash ?? []).map(length => length * ratio));
      context.beginPath();
      stairs(band[50]).forEach(([x, y]) => context.lineTo(x, y));
      context.stroke();
    }
    for (const band of worstFirst) {
      const family = data.families[band.f], edge = { width: ratio, colour: css("--page") };
      context.fillStyle = family.colour;
      for (const front of view.fronts.filter(front => front.f === band.f)) {
        for (const row of front.rows) drawMarker(context, family.marker, ...place(u, row), (band.seeds > 1 ? 3.8 : 5) * ratio, edge);
      }
    }
    context.setLineDash([]);
    // What keeps the limits is ringed, the verdict twice.
    const verdict = new Set(data.workloads[state.workload].verdict ?? []);
    for (const [row, x, y] of shown) {
      if (keeps(row) !== true && !verdict.has(row)) continue;
      if (!view.onFront.has(row) && !verdict.has(row)) continue;
      context.strokeStyle = css("--ink"); context.lineWidth = 1.1 * ratio;
      for (const radius of verdict.has(row) ? [6.5, 9.5] : [6.5]) { context.beginPath(); context.arc(x, y, radius * ratio, 0, 2 * Math.PI); context.stroke(); }
    }
    const ring = (row, radius) => {
      if (!visible(row)) return;
      const [x, y] = place(u, row);
      context.strokeStyle = css("--ink"); context.lineWidth = 1.8 * ratio;
      context.beginPath(); context.arc(x, y, radius * ratio, 0, 2 * Math.PI); context.stroke();
    };
    state.chosen.forEach(row => ring(row, 9));
    if (highlighted != null) ring(highlighted, 11);
  });
}
/** Text that begins at a place, readable across whatever lines pass below it. Axes leave alignments as they need them. */
function write(context, ratio, text, x, y) {
  context.save();
  context.textAlign = "left"; context.textBaseline = "alphabetic";
  context.setLineDash([]); context.lineWidth = 3 * ratio; context.strokeStyle = css("--page");
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
  context.restore();
}
/** Limits on what the axes show, as lines. */
function drawLimits(u, context, ratio) {
  const { left, top, width, height } = u.bbox;
  context.globalAlpha = 1; context.strokeStyle = css("--ink"); context.fillStyle = css("--ink"); context.lineWidth = 1.2 * ratio; context.setLineDash([2 * ratio, 3 * ratio]);
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const { column, limit } of data.workloads[state.workload].limits) {
    const text = `limit ${number(limit)}`;
    if (column === axes.y) {
      const y = u.valToPos(limit, "y", true);
      context.beginPath(); context.moveTo(left, y); context.lineTo(left + width, y); context.stroke();
      write(context, ratio, text, left + width - context.measureText(text).width - 6 * ratio, y - 4 * ratio);
    } else if (column === axes.x) {
      const x = u.valToPos(limit, "x", true);
      context.beginPath(); context.moveTo(x, top); context.lineTo(x, top + height); context.stroke();
      write(context, ratio, text, x + 4 * ratio, top + 12 * ratio);
    }
  }
  context.setLineDash([]);
}
/** What perfect foresight reached, or knowledge of the law alone: dashed, of the chosen seed or by half of them. */
function drawEdge(u, context, ratio, edges, dash) {
  const edge = edges.find(edge => edge.seed === state.seed);
  if (!edge?.points.length) return;
  const { left, top, width } = u.bbox;
  context.globalAlpha = 1; context.strokeStyle = css("--ink"); context.lineWidth = 1.4 * ratio; context.setLineDash(dash.map(length => length * ratio));
  context.beginPath();
  let y0 = top - 10;
  for (const [pointCost, pointLatency] of edge.points) {
    const x = u.valToPos(pointCost, "x", true), y = u.valToPos(pointLatency, "y", true);
    context.lineTo(x, y0); context.lineTo(x, y);
    y0 = y;
  }
  context.lineTo(left + width + 10, y0);
  context.stroke();
  context.setLineDash([]);
}
/** The run whose point lies nearest to the pointer, fronts first; null when none is near. */
function nearest(event, frontOnly = false) {
  const ratio = devicePixelRatio || 1, bounds = chart.over.getBoundingClientRect();
  const x = (event.clientX - bounds.left) * ratio + chart.bbox.left, y = (event.clientY - bounds.top) * ratio + chart.bbox.top;
  let best = null, bestDistance = 16 * ratio;
  for (const [row, px, py] of shown) {
    const known = view.onFront.has(row);
    if (frontOnly && !known) continue;
    const distance = Math.hypot(px - x, py - y) - (known ? 3 * ratio : 0);
    if (distance < bestDistance) { best = row; bestDistance = distance; }
  }
  return best;
}
function hover(row) {
  if (row === highlighted) return;
  highlighted = row;
  chart.redraw(false);
  const tip = $("tip");
  tip.hidden = row == null;
  if (row == null) return;
  const line = (name, value) => value == null || value === "" ? null : element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, number(value)));
  // What matters: the axes, what is limited, a few more metrics, and the settings that differ.
  const varied = data.columns.filter(column => data.varied.includes(column.name) && cell(column, row) != null);
  const limited = data.workloads[state.workload].limits.map(limit => limit.column);
  const more = [...new Set([...limited, "p90_e2e_s", "p99_ttft_s", "attainment", "cost_usd_per_month", "mean_replicas"])].filter(name => columns.has(name) && name !== axes.x && name !== axes.y).slice(0, 5);
  tip.replaceChildren(element("div", {}, markerIcon(familyOf[row]), " ", element("strong", {}, data.families[familyOf[row]].label), view.onFront.has(row) ? " · on its front" : ""),
    element("table", {}, element("tbody", {}, ...[line(labelOf(axes.y), latency(row)), line(labelOf(axes.x), cost(row)), ...more.map(name => line(labelOf(name), at(name, row))), line("Keeps the limits", keeps(row) == null ? null : keeps(row) ? "yes" : "no"), seeds.length > 1 ? line("Seed", at("seed", row)) : null,
      ...varied.map(column => line(short(column.name), cell(column, row)))].filter(Boolean))));
  const [x, y] = place(chart, row), ratio = devicePixelRatio || 1, bounds = $("chart").getBoundingClientRect();
  const left = bounds.left + scrollX + x / ratio, top = bounds.top + scrollY + y / ratio;
  const overflow = left + 18 + tip.offsetWidth > scrollX + document.documentElement.clientWidth;
  tip.style.left = Math.max(scrollX + 6, overflow ? left - 18 - tip.offsetWidth : left + 18) + "px";
  tip.style.top = clamp(top - tip.offsetHeight / 2, scrollY + 6, scrollY + innerHeight - tip.offsetHeight - 6) + "px";
}
function walk(event) {
  const rows = shown.map(([row]) => row).filter(row => view.onFront.has(row)).sort((a, b) => cost(a) - cost(b));
  if (!rows.length) return;
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step) { hover(rows[(rows.indexOf(highlighted) + step + rows.length) % rows.length]); event.preventDefault(); }
  else if (event.key === "Enter" && highlighted != null) choose(highlighted);
  else if (event.key === "Escape") hover(null);
}

