"use strict";
// The interactive part of the report: filters, the front, curves of chosen runs, the table of all cells.
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
const latency = row => at(data.latency.column, row), cost = row => at(data.cost.column, row);
const usable = row => at("status", row) === "ok" && Number.isFinite(latency(row)) && Number.isFinite(cost(row));
const short = name => name.replace(/^autoscaler\./, "");
const number = value => value == null ? "" : typeof value !== "number" ? String(value)
  : Number.isInteger(value) ? value.toLocaleString("en-US") : Math.abs(value) < 1e-4 ? value.toExponential(3) : String(+value.toPrecision(5));

// ---------------------------------------------------------------- state
const state = { workload: 0, seed: "", filters: {}, hidden: new Set(), chosen: [], log: false, sort: null, page: 0 };
const visible = row => workloadOf[row] === state.workload && matches(row);
const matches = row =>
  !state.hidden.has(familyOf[row]) && (state.seed === "" || String(at("seed", row)) === state.seed)
  && Object.entries(state.filters).every(([name, value]) => value === "" || String(at(name, row)) === value);
const seeds = [...new Set(Array.from({ length: data.rows }, (_, row) => at("seed", row)))].sort((a, b) => a - b);
const families = () => data.workloads[state.workload].ranked;

// ---------------------------------------------------------------- fronts of what the filters leave
/** Rows that no other beats in both objectives, by rising cost; of equal ones the first. As `non_dominated` of the analysis. */
function nonDominated(rows) {
  let lowest = Infinity;
  return [...rows].sort((a, b) => cost(a) - cost(b) || latency(a) - latency(b) || a - b).filter(row => {
    const kept = latency(row) < lowest;
    lowest = Math.min(lowest, latency(row));
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
  filters.hidden = filters.children.length === 0;
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
  const reference = data.workloads[state.workload].reference;
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
      { ...axis, space: 70, label: data.cost.label, labelSize: 24, size: 40, values: decimals },
      { ...axis, space: 44, label: data.latency.label, labelSize: 24, size: 58, values: state.log ? (u, splits) => splits.map(v => v == null ? null : logLabel(u, v)) : decimals },
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
  if (!reference) return;
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
    drawEdge(u, context, ratio);
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
    for (const band of worstFirst.filter(band => band.seeds > 1)) {
      context.fillStyle = data.families[band.f].colour;
      context.beginPath();
      [...stairs(band[10]), ...stairs(band[90]).reverse()].forEach(([x, y]) => context.lineTo(x, y));
      context.fill();
    }
    context.globalAlpha = 1;
    for (const band of worstFirst) {
      context.strokeStyle = data.families[band.f].colour;
      context.lineWidth = 2 * ratio;
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
/** What perfect foresight reached: dashed, of the chosen seed or by half of them. */
function drawEdge(u, context, ratio) {
  const edges = data.workloads[state.workload].edges;
  const edge = edges.find(edge => edge.seed === state.seed);
  if (!edge?.points.length) return;
  const { left, top, width } = u.bbox;
  context.globalAlpha = 1; context.strokeStyle = css("--ink"); context.lineWidth = 1.4 * ratio; context.setLineDash([6 * ratio, 3 * ratio]);
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
  const settings = data.columns.filter(column => column.kind === "setting" && cell(column, row) != null);
  const varied = settings.filter(column => data.varied.includes(column.name)), others = settings.filter(column => !varied.includes(column));
  tip.replaceChildren(element("div", {}, markerIcon(familyOf[row]), " ", element("strong", {}, data.families[familyOf[row]].label), view.onFront.has(row) ? " · on its front" : ""),
    element("table", {}, element("tbody", {}, ...[line(data.latency.label, latency(row)), line(data.cost.label, cost(row)), line("Seed", at("seed", row)),
      ...varied.map(column => line(short(column.name), cell(column, row)))].filter(Boolean))),
    element("div", { class: "others" }, others.map(column => `${short(column.name)}=${number(cell(column, row))}`).join(", ")));
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

// ---------------------------------------------------------------- curves of chosen runs
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const has = row => data.curves[row] != null;
function chooseDefaults() {
  // The middle of the best families' fronts.
  for (const family of families()) {
    const front = data.fronts.find(front => front.w === state.workload && front.f === family);
    const rows = front?.rows.filter(has) ?? [];
    const reference = data.workloads[state.workload].reference;
    const share = row => reference ? Math.max(0, 1 - cost(row) / reference[0]) * Math.max(0, 1 - latency(row) / reference[1]) : 0;
    if (rows.length) state.chosen.push(rows.reduce((best, row) => share(row) > share(best) ? row : best));
    if (state.chosen.length === 3) break;
  }
}
function choose(row) {
  if (state.chosen.includes(row)) state.chosen = state.chosen.filter(other => other !== row);
  else state.chosen = [...state.chosen, row].slice(-DASHES.length);
  buildCurves();
  chart.redraw(false);
}
function points(row, name) {
  const place = data.curves[row]?.[name];
  if (place == null) return null;
  const { even, x, y } = data.pool[place];
  return [even ? y.map((_, k) => x[0] + x[1] * k) : x, y];
}
let curveCharts = [];
function buildCurves() {
  curveCharts.forEach(chart => chart.destroy());
  curveCharts = [];
  const chosen = state.chosen;
  $("runs").replaceChildren(...chosen.map((row, k) => {
    const dash = element("span", {});
    dash.innerHTML = `<svg class="dash" viewBox="0 0 30 16" aria-hidden="true"><path d="M0 8H30" stroke="${data.families[familyOf[row]].colour}" stroke-width="2.5" stroke-dasharray="${DASHES[k].join(" ")}"/></svg>`;
    const settings = data.varied.map(name => [short(name), at(name, row)]).filter(([, value]) => value != null).map(([name, value]) => `${name}=${value}`).join(", ");
    return element("div", { class: "chip" }, dash, element("div", {}, element("strong", {}, data.families[familyOf[row]].label), ` ${number(cost(row))} / ${number(latency(row))}`,
      seeds.length > 1 ? ` · seed ${at("seed", row)}` : "", element("div", { class: "hint" }, settings), has(row) ? null : element("div", { class: "hint" }, "no curves: they are stored of runs on fronts without filters only")),
      element("button", { type: "button", "aria-label": "Remove " + data.families[familyOf[row]].label, onclick: () => choose(row) }, "×"));
  }));
  if (chosen.length) $("runs").prepend(element("p", { class: "hint" }, `Chosen runs (${data.cost.label} / ${data.latency.label}):`));
  const box = $("curves");
  box.replaceChildren();
  if (!chosen.some(has)) {
    if (!Object.keys(data.curves).length) box.append(element("p", { class: "hint" }, "No curves of single runs are stored beside these results."));
    return;
  }
  const end = Math.max(...chosen.flatMap(row => ["num_replicas", "queue_length", "arrival_rate_per_s"].map(name => points(row, name)?.[0].at(-1) ?? 0)));
  const [unit, divisor] = end <= 300 ? ["s", 1] : end <= 10800 ? ["min", 60] : ["h", 3600];
  const perSeed = [...new Map(chosen.filter(has).map(row => [at("seed", row), row])).values()];
  const curves = [
    { title: `Replicas over time`, name: "num_replicas", rows: chosen, also: "num_draining" },
    { title: "Arrival rate (requests/s)", name: "arrival_rate_per_s", rows: perSeed, plain: true },
    { title: "Queue length (requests)", name: "queue_length", rows: chosen },
    { title: "Latency distribution: fraction of requests", name: data.distribution.curve, rows: chosen, cdf: true },
  ];
  for (const curve of curves) {
    const lines = [];
    for (const row of curve.rows) {
      const dash = curve.plain ? [] : DASHES[chosen.indexOf(row)], colour = curve.plain ? css("--ink") : data.families[familyOf[row]].colour;
      const main = points(row, curve.name);
      if (main) lines.push({ row, label: data.families[familyOf[row]].label, xy: main, colour, dash, width: 2 });
      const draining = curve.also && chosen.length === 1 ? points(row, curve.also) : null;
      if (draining) lines.push({ row, label: "draining", xy: draining, colour: css("--soft"), dash: [], width: 1.2 });
    }
    if (!lines.length) continue;
    const figure = element("figure", { role: "img", "aria-label": `${curve.title}: ${lines.map(line => `${line.label}, at most ${number(Math.max(...line.xy[1]))}`).join("; ")}` },
      element("figcaption", {}, curve.title + (curve.also && chosen.length === 1 && lines.length > 1 ? " (thin: draining)" : "")));
    box.append(figure);
    const last = curve.cdf ? Math.max(...lines.map(line => line.xy[0].at(-1))) : end;
    // A distribution stays at 1; what goes over time ends with its run.
    const tables = lines.map(({ row, xy: [x, y] }) => {
      const until = curve.cdf ? last : points(row, "num_replicas")?.[0].at(-1) ?? end;
      const more = until > x.at(-1);
      return [[...x, ...(more ? [until] : [])].map(value => curve.cdf ? value : value / divisor), [...y, ...(more ? [y.at(-1)] : [])]];
    });
    const lowest = Math.min(...lines.map(line => line.xy[0].find(value => value > 0) ?? Infinity));
    const log = curve.cdf && last > 10 * lowest;
    const axis = { filter: (u, splits) => splits, stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const top = Math.max(...lines.flatMap(line => line.xy[1]));
    curveCharts.push(new uPlot({
      width: figure.clientWidth, height: 210, legend: { show: false },
      cursor: { drag: { x: true, y: false }, points: { size: 6 }, sync: curve.cdf ? undefined : { key: "time" } },
      scales: { x: { time: false, distr: log ? 3 : 1, range: (u, low, high) => [low, high] }, y: { range: () => [0, top * 1.07 || 1] } },
      axes: [{ ...axis, space: 60, label: curve.cdf ? data.distribution.label : `Time (${unit})`, labelSize: 20, size: 32, labelFont: "12px system-ui, sans-serif", values: (u, splits) => splits.map(v => v == null || (log && !isRound(v)) ? null : +v.toPrecision(4) + "") }, { ...axis, size: 48, space: 24, ...(curve.cdf ? {} : { incrs: [1, 2, 5].flatMap(k => [k, 10 * k, 100 * k, 1e3 * k, 1e4 * k, 1e5 * k]).sort((a, b) => a - b) }) }],
      series: [{}, ...lines.map(line => ({ label: line.label, stroke: line.colour, width: line.width, dash: line.dash, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }))],
    }, uPlot.join(tables), figure));
  }
}

// ---------------------------------------------------------------- the table of all cells
const PAGE = 100;
function buildTable() {
  const all = $("all-columns").checked, onlyFront = $("only-front").checked;
  const main = new Set(["family", "seed", "status", ...data.varied, data.latency.column, data.cost.column,
    "p90_e2e_s", "p99_e2e_s", "p99_ttft_s", "attainment", "num_rejected", "mean_replicas", "num_restarts"]);
  const rank = column => column.kind === "objective" ? 2 : column.kind === "metric" ? 3 : column.kind === "setting" ? 1 : column.name === "run_id" || column.name === "error" ? 4 : 0;
  const list = data.columns.filter(column => !("const" in column) && (all || main.has(column.name))).sort((a, b) => rank(a) - rank(b));
  const rows = Array.from({ length: data.rows }, (_, row) => row).filter(row => visible(row) && (!onlyFront || view.onFront.has(row)));
  const sort = state.sort ?? { name: data.latency.column, down: false };
  const column = columns.get(sort.name);
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
  rows.sort((a, b) => {
    const [x, y] = [cell(column, a), cell(column, b)];
    if (x == null || y == null) return (x == null) - (y == null) || a - b; // empty cells last, whichever way
    return (sort.down ? -1 : 1) * compare(x, y) || a - b;
  });
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  state.page = clamp(state.page, 0, pages - 1);
  const numeric = column => column.kind === "metric" || column.kind === "objective" || (column.dict ?? column.values ?? []).some(value => typeof value === "number");
  const head = element("tr", {}, ...list.map(column => {
    const sorted = column.name === sort.name;
    return element("th", { scope: "col", class: numeric(column) ? "num" : null, "aria-sort": sorted ? (sort.down ? "descending" : "ascending") : null },
      element("button", { type: "button", onclick: () => { state.sort = { name: column.name, down: sorted && !sort.down }; state.page = 0; buildTable(); } },
        short(column.name) + (sorted ? (sort.down ? " ▼" : " ▲") : "")));
  }));
  const body = rows.slice(state.page * PAGE, (state.page + 1) * PAGE).map(row => element("tr", { "data-row": row, class: view.onFront.has(row) ? "on-front" : null },
    ...list.map((column, k) => {
      const value = cell(column, row), text = number(value);
      const named = column.name === "family" && [markerIcon(familyOf[row]), " ", element("span", {}, text)];
      const content = !named ? [text] : view.onFront.has(row) ? [element("button", { type: "button", "aria-label": `${text}: show or hide its curves` }, ...named)] : named;
      return element("td", { class: numeric(column) ? "num" : null, title: typeof value === "string" && value.length > 40 ? value : null }, ...content);
    })));
  $("table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  $("cells-count").textContent = `${rows.length.toLocaleString("en-US")} cells of this workload, those on a front marked at the left`;
  $("page").textContent = `${state.page + 1} of ${pages}`;
  $("previous").disabled = state.page === 0;
  $("next").disabled = state.page === pages - 1;
}
function buildConstants() {
  const constants = data.columns.filter(column => "const" in column && !["metric", "objective"].includes(column.kind) && column.const != null);
  $("constants").querySelector("dl").append(...constants.flatMap(column => [element("dt", {}, column.name), element("dd", {}, String(column.const))]));
  $("constants").hidden = constants.length === 0;
}

// ---------------------------------------------------------------- all together
/** Families that are nowhere inside the reference box: the chart's ranges leave them out. */
function outsideNote(reference) {
  if (!reference) return "";
  const inside = front => front.rows.some(row => cost(row) < reference[0] && latency(row) < reference[1]);
  const names = families().filter(f => view.fronts.some(front => front.f === f) && !view.fronts.some(front => front.f === f && inside(front)));
  return names.length ? ` Outside the box: ${names.map(f => data.families[f].label).join(", ")} (“Show all runs” shows them).` : "";
}
function note() {
  const usableRows = Array.from({ length: data.rows }, (_, row) => row).filter(row => visible(row) && usable(row)).length;
  const reference = data.workloads[state.workload].reference;
  $("chart-note").textContent = `${usableRows.toLocaleString("en-US")} runs, faint; those on the front of their family and seed bold. ${view.bands.some(band => band.seeds > 1) ? "Line: what half of the seeds attain; band: between what 10 and 90 % of them attain. " : "Line: the front of each family. "}`
    + (reference ? `Shaded: the box of the hypervolume, up to the reference point (${number(reference[0])}, ${number(reference[1])})${data.reference_given ? "" : ", a tenth beyond the worst of the fronts"}.` : "")
    + outsideNote(reference)
    + (data.workloads[state.workload].edges.length ? " Dashed: the edge of the possible, found with perfect foresight." : "");
}
function refresh(rebuild = false) {
  state.page = 0;
  findFronts();
  if (rebuild) { buildLegend(); buildChart(); buildCurves(); } else chart.redraw(false);
  hover(null); note(); buildTable();
}
function resize() { if (Math.abs(chart.width - $("chart").clientWidth) > 2) { buildChart(); buildCurves(); } }
function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  buildChart(); buildCurves();
}

for (const id of ["front", "cells"]) $(id).hidden = false;
buildFilters(); findFronts(); resetLog(); chooseDefaults(); buildConstants(); refresh(true);
$("log").addEventListener("change", event => { state.log = event.target.checked; buildChart(); });
$("zoom-box").addEventListener("click", () => { range = ranges(false); applyRange(); });
$("zoom-all").addEventListener("click", () => { range = ranges(true); applyRange(); });
$("chart").addEventListener("keydown", walk);
$("chart").addEventListener("blur", () => hover(null));
for (const id of ["only-front", "all-columns"]) $(id).addEventListener("change", () => { state.page = 0; buildTable(); });
$("previous").addEventListener("click", () => { state.page--; buildTable(); });
$("next").addEventListener("click", () => { state.page++; buildTable(); });
$("table").addEventListener("click", event => {
  const row = event.target.closest("tr[data-row]")?.dataset.row;
  if (row != null && view.onFront.has(+row)) { choose(+row); $("runs").scrollIntoView({ block: "nearest" }); }
});
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  applyTheme(dark === "dark" ? "light" : "dark");
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (!document.documentElement.dataset.theme) { buildChart(); buildCurves(); } });
new ResizeObserver(resize).observe($("chart"));
// What is drawn, and where on the screen, for tests and the console.
window.scalefront = {
  view: () => ({ fronts: view.fronts, bands: view.bands }),
  places: () => {
    const { left, top } = $("chart").querySelector("canvas").getBoundingClientRect(), ratio = devicePixelRatio || 1;
    return shown.map(([row, x, y]) => ({ row, x: left + x / ratio, y: top + y / ratio, front: view.onFront.has(row) }));
  },
};
if (navigator.clipboard) {
  $("copy").hidden = false;
  $("copy").addEventListener("click", async event => { await navigator.clipboard.writeText($("command").textContent); event.target.textContent = "Copied"; });
}
})();
