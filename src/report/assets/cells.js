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
/** Pools of which one of some runs has a curve. */
const poolsOf = rows => [...new Set(rows.flatMap(row => Object.keys(data.curves[row] ?? {})).map(name => name.match(/^num_replicas\[(.*)\]$/)?.[1]).filter(name => name != null))];
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
  if (chosen.length) $("runs").prepend(element("p", { class: "hint" }, `Chosen runs (${labelOf(axes.x)} / ${labelOf(axes.y)}):`));
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
    ...poolsOf(chosen).map(pool => ({ title: `Replicas of pool ${pool} over time`, name: `num_replicas[${pool}]`, rows: chosen })),
    { title: "Arrival rate (requests/s)", name: "arrival_rate_per_s", rows: perSeed, plain: true },
    { title: "Queue length (requests)", name: "queue_length", rows: chosen },
    { title: "Share of requests that take longer", name: data.distribution.curve, rows: chosen, cdf: true },
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
      if (curve.cdf) return [x, y.map(share => Math.max(1 - share, LEAST))];
      return [[...x, ...(more ? [until] : [])].map(value => value / divisor), [...y, ...(more ? [y.at(-1)] : [])]];
    });
    const lowest = Math.min(...lines.map(line => line.xy[0].find(value => value > 0) ?? Infinity));
    const log = curve.cdf && last > 10 * lowest;
    const axis = { filter: (u, splits) => splits, stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const top = Math.max(...lines.flatMap(line => line.xy[1]));
    curveCharts.push(new uPlot({
      width: figure.clientWidth, height: 210, legend: { show: false },
      cursor: { drag: { x: true, y: false }, points: { size: 6 }, sync: curve.cdf ? undefined : { key: "time" } },
      scales: { x: { time: false, distr: log ? 3 : 1, range: (u, low, high) => [low, high] }, y: curve.cdf ? { distr: 3, log: 10, range: () => [LEAST, 1] } : { range: () => [0, top * 1.07 || 1] } },
      hooks: curve.cdf ? { draw: [u => drawLimit(u)] } : {},
      axes: [{ ...axis, space: 60, label: curve.cdf ? data.distribution.label : `Time (${unit})`, labelSize: 20, size: 32, labelFont: "12px system-ui, sans-serif", values: (u, splits) => splits.map(v => v == null || (log && !isRound(v)) ? null : +v.toPrecision(4) + "") }, { ...axis, size: 48, space: 24, ...(curve.cdf ? { values: (u, splits) => splits.map(v => v == null || !isRound(v, [1]) ? null : +v.toPrecision(4) + "") } : { incrs: [1, 2, 5].flatMap(k => [k, 10 * k, 100 * k, 1e3 * k, 1e4 * k, 1e5 * k]).sort((a, b) => a - b) }) }],
      series: [{}, ...lines.map(line => ({ label: line.label, stroke: line.colour, width: line.width, dash: line.dash, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }))],
    }, uPlot.join(tables), figure));
  }
}

/** The smallest share of requests that has a place in a distribution. */
const LEAST = 1e-4;
/** The limit on the latency that is shown. */
function drawLimit(u) {
  const limit = data.workloads[state.workload].limits.find(limit => limit.column === data.latency.column)?.limit;
  if (limit == null) return;
  clipped(u, (context, ratio) => {
    const { left, top, width, height } = u.bbox, x = u.valToPos(limit, "x", true), text = `limit ${number(limit)} s`;
    context.strokeStyle = css("--ink"); context.fillStyle = css("--ink"); context.lineWidth = 1.2 * ratio; context.setLineDash([2 * ratio, 3 * ratio]);
    context.beginPath(); context.moveTo(x, top); context.lineTo(x, top + height); context.stroke();
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    write(context, ratio, text, Math.min(x + 4 * ratio, left + width - context.measureText(text).width - 4 * ratio), top + 12 * ratio);
  });
}

// ---------------------------------------------------------------- the table of all cells
const PAGE = 100;
function buildTable() {
  const all = $("all-columns").checked, onlyFront = $("only-front").checked;
  const main = new Set(["family", "seed", "status", ...data.varied, data.latency.column, data.cost.column,
    "p90_e2e_s", "p99_e2e_s", "p99_ttft_s", "attainment", "num_rejected", "mean_replicas", "num_restarts", "keeps_limits", "cost_usd_per_month",
    ...data.workloads[state.workload].limits.map(limit => limit.column)]);
  const rank = column => column.kind === "judged" ? .5 : column.kind === "objective" ? 2 : column.kind === "metric" ? 3 : column.kind === "setting" ? 1 : column.name === "run_id" || column.name === "error" ? 4 : 0;
  const list = data.columns.filter(column => !("const" in column) && (all || main.has(column.name))).sort((a, b) => rank(a) - rank(b));
  const rows = tableRows(onlyFront);
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
      const value = cell(column, row), text = value === true ? "yes" : value === false ? "no" : number(value);
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
const tableRows = onlyFront => Array.from({ length: data.rows }, (_, row) => row).filter(row => visible(row) && (!onlyFront || view.onFront.has(row)));
/** Hands a file to the reader. */
function save(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link); link.click(); link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
/** The rows that the filters leave, every column of the page, as CSV (RFC 4180). */
function csv() {
  const field = value => { const text = value == null ? "" : String(value); return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
  const lines = tableRows($("only-front").checked).map(row => data.columns.map(column => field(cell(column, row))).join(","));
  return [data.columns.map(column => field(column.name)).join(","), ...lines].join("\r\n") + "\r\n";
}
/** The chart with its axes and a legend, on the page's ground. */
function picture() {
  const source = $("chart").querySelector("canvas"), ratio = devicePixelRatio || 1, line = 20 * ratio;
  const drawn = families().filter(family => !state.hidden.has(family));
  const canvas = element("canvas", { width: source.width, height: source.height + line * (drawn.length + 1) }), context = canvas.getContext("2d");
  context.fillStyle = css("--page"); context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0);
  context.font = `${13 * ratio}px system-ui, sans-serif`; context.textBaseline = "middle";
  drawn.forEach((family, k) => {
    const y = source.height + line * (k + .5);
    context.fillStyle = data.families[family].colour;
    drawMarker(context, data.families[family].marker, 20 * ratio, y, 4.5 * ratio);
    context.fillStyle = css("--ink"); context.fillText(data.families[family].label, 34 * ratio, y);
  });
  return canvas;
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
  const reference = isObjective() ? data.workloads[state.workload].reference : null;
  $("chart-note").textContent = `${usableRows.toLocaleString("en-US")} runs, faint; those on the front of their family and seed bold. ${view.bands.some(band => band.seeds > 1) ? "Line: what half of the seeds attain; band: between what 10 and 90 % of them attain. " : "Line: the front of each family. "}`
    + (reference ? `Shaded: the box of the hypervolume, up to the reference point (${number(reference[0])}, ${number(reference[1])})${data.reference_given ? "" : ", a tenth beyond the worst of the fronts"}.` : "")
    + outsideNote(reference)
    + (columns.has("keeps_limits") ? " Ringed: keeps every limit; twice: the verdict. Dotted: a limit." : "")
    + (isObjective() && data.workloads[state.workload].edges.length ? " Dashed: the edge of the possible, found with perfect foresight." : "")
    + (isObjective() && data.workloads[state.workload].informed.length ? " Short dashes: the informed edge, which knows the law of the traffic and not the draw." : "");
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
buildFilters(); buildAxes(); findFronts(); resetLog(); chooseDefaults(); buildConstants(); refresh(true);
$("log").addEventListener("change", event => { state.log = event.target.checked; buildChart(); });
$("zoom-box").addEventListener("click", () => { range = ranges(false); applyRange(); });
$("zoom-all").addEventListener("click", () => { range = ranges(true); applyRange(); });
$("save-table").addEventListener("click", () => save(`${document.title.split(" ")[0]}.csv`, new Blob([csv()], { type: "text/csv" })));
$("save-chart").addEventListener("click", () => picture().toBlob(blob => save(`${document.title.split(" ")[0]}.png`, blob)));
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
  csv, picture: () => picture().toDataURL(),
  places: () => {
    const { left, top } = $("chart").querySelector("canvas").getBoundingClientRect(), ratio = devicePixelRatio || 1;
    return shown.map(([row, x, y]) => ({ row, x: left + x / ratio, y: top + y / ratio, front: view.onFront.has(row) }));
  },
};
for (const button of navigator.clipboard ? document.querySelectorAll("button.copy") : []) {
  button.hidden = false;
  button.addEventListener("click", async event => { await navigator.clipboard.writeText(button.closest("details").querySelector("pre").textContent); event.target.textContent = "Copied"; });
}
if (navigator.clipboard) {
  $("copy").hidden = false;
  $("copy").addEventListener("click", async event => { await navigator.clipboard.writeText($("command").textContent); event.target.textContent = "Copied"; });
}
})();
