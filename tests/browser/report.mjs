// Loads a report in a headless browser and uses it: filter, sort, hide a family, point at a run, click it; no console error, no request.
//
//   node tests/browser/report.mjs results/lab3/report.html [directory for screenshots]
import { readFileSync, statSync } from "node:fs";
import { PHONE, WIDE, visit } from "./browser.mjs";

const [file, screenshots] = process.argv.slice(2);
if (!file) {
  console.error("usage: node tests/browser/report.mjs <report.html> [directory for screenshots]");
  process.exit(2);
}
const data = JSON.parse(readFileSync(file, "utf8").match(/<script type="application\/json" id="data">(.*?)<\/script>/s)[1]);

await visit(file, screenshots, async page => {
  const { ask, check } = page;
  const bytes = statSync(file).size;
  check(bytes < 5_000_000, `the page has ${bytes.toLocaleString("en-US")} bytes for ${data.rows.toLocaleString("en-US")} cells`);
  page.checkSpeed();
  check(await ask(`return !!document.querySelector("#table tbody tr")`), "the table has rows");
  check(await ask(`return document.querySelectorAll("#chart canvas").length > 0`), "the chart is drawn");
  await page.screenshot("light");

  // ---- the fronts and bands that the page draws, against those of the analysis
  const drawn = await ask(`return scalefront.view()`);
  const stored = data.fronts.filter(front => front.w === 0);
  const key = front => `${front.f} ${front.seed}: ${front.rows}`;
  check(drawn.fronts.map(key).sort().join("; ") === stored.map(key).sort().join("; "), `its ${stored.length} fronts are those of the analysis`);
  const csv = readFileSync(file.replace(/report\.html$/, "attainment.csv"), "utf8").trim().split("\n");
  const corners = csv.slice(1).filter(line => line.startsWith(data.workloads[0].name + ",")).map(line => line.split(",").slice(-4).map(Number));
  const close = (a, b) => Math.abs(a - b) <= 1e-6 * Math.abs(b);
  const found = drawn.bands.flatMap(band => [10, 50, 90].flatMap(percent => band[percent].map(([cost, latency]) => [percent, band.seeds, cost, latency])));
  const known = ([percent, seeds, cost, latency]) => corners.some(c => c[0] === percent && c[1] === seeds && close(cost, c[2]) && close(latency, c[3]));
  check(drawn.bands.length === 0 || (found.length === corners.length && found.every(known)), `its bands have the ${corners.length} corners of attainment.csv`);

  const short = name => name.replace(/^autoscaler\./, "");
  // ---- filters
  const count = () => ask(`return parseInt(document.getElementById("cells-count").textContent.replaceAll(",", ""))`);
  const all = await count();
  check(all > 0, `${all} cells of the first workload are listed`);
  const set = (name, index) => ask(`const box = [...document.querySelectorAll("#filters label")].find(label => label.textContent.startsWith(${JSON.stringify(name)}))?.querySelector("select");
    if (!box || box.options.length <= ${index}) return false; box.value = box.options[${index}].value; box.dispatchEvent(new Event("change")); return true`);
  const filters = await ask(`return [...document.querySelectorAll("#filters label")].filter(label => label.querySelector("select")).map(label => label.firstChild.textContent.trim())`);
  for (const name of filters.filter(name => name !== "Workload")) {
    await set(name, 1);
    const some = await count(), fronts = (await ask(`return scalefront.view()`)).fronts;
    check(some > 0 && some < all && fronts.length > 0, `filter ${name} leaves ${some} cells and ${fronts.length} fronts`);
    await set(name, 0);
    check(await count() === all, "without it all are back");
  }
  if (await set("Workload", 1)) {
    check(await ask(`return scalefront.view().fronts.length`) === data.fronts.filter(front => front.w === 1).length, "another workload has its own fronts");
    await page.screenshot("light-second-workload");
    await set("Workload", 0);
  }
  const families = await ask(`return document.querySelectorAll("#legend button").length`);
  await ask(`document.querySelector("#legend button").click()`);
  check(families > 0 && await ask(`return document.querySelector("#legend button").getAttribute("aria-pressed")`) === "false" && await count() < all, "a family can be hidden");
  await ask(`document.querySelector("#legend button").click()`);

  // ---- limits on numbers, other axes, downloads
  const metric = data.columns.find(column => column.kind === "objective" && column.name === data.cost.column);
  const values = (metric.values ?? metric.codes.map(code => metric.dict[code])).filter(value => value != null).sort((a, b) => a - b);
  const middle = values[values.length >> 1];
  await ask(`const tools = document.querySelector("#filters .tools-inline"), [name] = tools.querySelectorAll("select");
    name.value = ${JSON.stringify(metric.name)}; document.getElementById("limit-value").value = ${middle}; document.getElementById("add-limit").click()`);
  const limited = await count();
  check(limited > 0 && limited < all, `a limit on ${metric.name} leaves ${limited} cells`);
  const lines = (await ask(`return scalefront.csv()`)).trim().split("\r\n");
  check(lines.length === limited + 1 && lines[0].split(",").length === data.columns.length, `the CSV to download has these ${limited} and every column`);
  await ask(`document.querySelector("#limits button").click()`);
  check(await count() === all, "without it all are back");
  check((await ask(`return scalefront.picture()`)).startsWith("data:image/png;base64,"), "the chart can be downloaded");
  const before = JSON.stringify(await ask(`return scalefront.places()`));
  const axis = value => ask(`const box = document.querySelector("#axes select"); box.value = ${JSON.stringify(value)}; box.dispatchEvent(new Event("change")); return box.value`);
  check(await axis("mean_replicas") === "mean_replicas" && JSON.stringify(await ask(`return scalefront.places()`)) !== before, "another metric can be laid across");
  await axis(data.cost.column);
  check(JSON.stringify(await ask(`return scalefront.places()`)) === before, "and the objective again");
  check(await ask(`return document.querySelector("main section").id`) === "verdict" || await ask(`return document.getElementById("verdict").getBoundingClientRect().top < document.getElementById("front").getBoundingClientRect().top`), "the verdict stands first");
  if (data.columns.some(column => column.name === "keeps_limits")) {
    await ask(`document.getElementById("keeping").click()`);
    const keeping = await count(), kept = data.columns.find(column => column.name === "keeps_limits").values;
    check(keeping === kept.filter((value, row) => value === true && data.columns.find(column => column.name === "workload").codes[row] === 0).length, `${keeping} cells keep the limits`);
    await ask(`document.getElementById("keeping").click()`);
  }

  // ---- sorting
  const sort = name => ask(`const head = () => [...document.querySelectorAll("#table th")].find(th => th.textContent.startsWith(${JSON.stringify(name)}));
    head().querySelector("button").click(); const at = [...head().parentNode.children].indexOf(head());
    return [head().getAttribute("aria-sort"), [...document.querySelectorAll("#table tbody tr")].map(row => parseFloat(row.children[at].textContent.replaceAll(",", ""))).filter(x => !isNaN(x))]`);
  for (const direction of [1, -1]) {
    const [order, values] = await sort(data.cost.column);
    const sorted = values.every((value, i) => i === 0 || direction * (value - values[i - 1]) >= 0);
    check(sorted && order === (direction > 0 ? "ascending" : "descending"), `cells are sorted by cost, ${order}`);
  }

  // ---- a point: hover tells every setting, a click shows its curves
  const chosen = () => ask(`return document.querySelectorAll("#runs .chip").length`);
  const remove = () => ask(`document.querySelectorAll("#runs .chip button").forEach(button => button.click())`);
  await remove();
  check(await chosen() === 0 && await ask(`return document.querySelectorAll("#curves canvas").length`) === 0, "chosen runs can be put away");
  await ask(`document.getElementById("chart").scrollIntoView({ block: "start" })`);
  const target = await ask(`const places = scalefront.places(), far = one => Math.min(...places.map(other => other === one ? Infinity : Math.hypot(one.x - other.x, one.y - other.y)));
    return places.filter(place => place.front && document.elementFromPoint(place.x, place.y)?.closest("#chart")).reduce((best, place) => far(place) > far(best) ? place : best)`); // one that stands alone
  await page.click(target.x, target.y);
  await page.sleep(100);
  const tip = await ask(`return document.getElementById("tip").innerText`);
  const value = column => column.dict ? column.dict[column.codes[target.row]] : column.values ? column.values[target.row] : column.const;
  const settings = data.columns.filter(column => column.kind === "setting" && value(column) != null);
  const differing = settings.filter(column => data.varied.includes(column.name)), same = settings.filter(column => "const" in column);
  const untold = differing.filter(column => !tip.includes(short(column.name)));
  check(differing.length > 0 && untold.length === 0, `hover tells the ${differing.length} settings by which the run differs${untold.length ? `, but not ${untold.map(c => c.name)}` : ""}`);
  check(!same.some(column => tip.includes(short(column.name) + "\t")), "and none that is the same everywhere");
  check(await ask(`const box = document.getElementById("tip").getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth`), "all of it can be seen");
  await page.screenshot("light-hover", false);
  check(await chosen() === 1, "a click on a point chooses its run");
  const figures = await ask(`return [...document.querySelectorAll("#curves figure")].map(figure => figure.getAttribute("aria-label"))`);
  if (Object.keys(data.curves).length) {
    const kinds = ["Replicas over time", "Arrival rate", "Queue length", "Share of requests that take longer"];
    check(kinds.every(kind => figures.some(text => text.startsWith(kind))) && figures.every(text => text.includes(", at most ")), `its ${figures.length} curves are drawn, and described in words`);
  }
  await remove();

  // ---- the same with the keyboard
  await ask(`document.getElementById("chart").focus()`);
  await page.press("ArrowRight");
  await page.press("Enter");
  check(await chosen() === 1, "a run can be chosen with the keyboard");
  await page.press("Escape");
  check(await ask(`return document.getElementById("tip").hidden`), "Escape closes what hovers");
  await remove();
  await ask(`document.querySelector("#table tr.on-front button").click()`);
  check(await chosen() === 1, "or from the table");
  await ask(`document.activeElement.blur(); scrollTo(0, 0)`);
  await page.screenshot("light-clicked");
  const unnamed = await ask(`return [...document.querySelectorAll("button, select, input, [role=img], [role=region], [role=application]")].filter(node =>
    !(node.getAttribute("aria-label") || node.textContent.trim() || node.closest("label")?.textContent.trim())).map(node => node.outerHTML.slice(0, 80))`);
  check(unnamed.length === 0, `every control and picture has a name${unnamed.length ? `, but not ${unnamed}` : ""}`);

  // ---- dark, and on a phone
  await page.theme("dark");
  await page.screenshot("dark-clicked");
  await page.theme("light");
  await ask(`document.getElementById("theme").click()`);
  check(await ask(`return document.documentElement.dataset.theme`) === "dark", "the theme can be switched");
  await ask(`document.getElementById("theme").click()`);
  await page.size(PHONE);
  await page.sleep(300);
  await page.checkPhone();
  await page.screenshot("narrow");
  await page.size(WIDE);
});
