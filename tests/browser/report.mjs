// Loads a report in a headless browser and uses it: filter, sort, hide a family, click a point; no console error, no request.
//
//   node tests/browser/report.mjs results/lab3/report.html
//
// Needs Node 18 or later and Chromium (CHROMIUM=path, `chromium` otherwise). No packages: it speaks the DevTools protocol over pipes.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const file = process.argv[2];
if (!file) {
  console.error("usage: node tests/browser/report.mjs <report.html>");
  process.exit(2);
}
const profile = mkdtempSync(join(tmpdir(), "scalefront-browser-"));
const browser = spawn(process.env.CHROMIUM ?? "chromium",
  ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const pending = new Map(), problems = [];
let last = 0, received = "", session;
browser.stdio[4].on("data", part => {
  received += part;
  const messages = received.split("\0");
  received = messages.pop();
  messages.map(message => JSON.parse(message)).forEach(message => {
    if (message.id) return pending.get(message.id)(message);
    const { method, params } = message;
    if (method === "Runtime.exceptionThrown") problems.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && ["error", "warning"].includes(params.type)) problems.push(params.args.map(arg => arg.value).join(" "));
    if (method === "Log.entryAdded" && params.entry.level === "error") problems.push(params.entry.text);
    if (method === "Network.requestWillBeSent" && !/^(file|data|about|blob):/.test(params.request.url)) problems.push(`asks for ${params.request.url}`);
  });
});
const send = (method, params = {}) => new Promise((answer, fail) => {
  const id = ++last;
  pending.set(id, message => message.error ? fail(new Error(`${method}: ${message.error.message}`)) : answer(message.result));
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
});
const sleep = ms => new Promise(done => setTimeout(done, ms));
async function page(expression) {
  const { result, exceptionDetails } = await send("Runtime.evaluate", { expression: `(() => {${expression}})()`, returnByValue: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}
const check = (holds, what) => {
  console.log(`${holds ? "ok  " : "FAIL"} ${what}`);
  if (!holds) problems.push(what);
};

try {
  const { targetInfos } = await send("Target.getTargets");
  const { targetId } = targetInfos.find(target => target.type === "page");
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width: 1200, height: 900, deviceScaleFactor: 1, mobile: false });
  await send("Page.navigate", { url: pathToFileURL(resolve(file)).href });
  const started = Date.now();
  while (!await page(`return document.readyState === "complete" && !!document.querySelector("#table tbody tr")`)) {
    if (Date.now() - started > 10_000) throw new Error("no table of cells within 10 s");
    await sleep(50);
  }
  check(await page(`return document.querySelectorAll("#chart canvas").length > 0`), "the chart is drawn");

  const count = () => page(`return parseInt(document.getElementById("cells-count").textContent.replaceAll(",", ""))`);
  const all = await count();
  check(all > 0, `${all} cells are listed`);
  const filtered = await page(`const box = [...document.querySelectorAll("#filters select")].find(box => box.options.length > 2 && box.value === "");
    if (!box) return false; box.value = box.options[1].value; box.dispatchEvent(new Event("change")); return true`);
  if (filtered) {
    const some = await count();
    check(some > 0 && some < all, `a filter leaves ${some} of them`);
    await page(`document.querySelectorAll("#filters select").forEach(box => { if (box.options[0].value === "") { box.value = ""; box.dispatchEvent(new Event("change")); } })`);
    check(await count() === all, "without it all are back");
  }
  const legend = await page(`return document.querySelectorAll("#legend button").length`);
  await page(`document.querySelector("#legend button").click()`);
  check(legend > 0 && await page(`return document.querySelector("#legend button").getAttribute("aria-pressed")`) === "false", "a family can be hidden");
  await page(`document.querySelector("#legend button").click()`);

  const sort = name => page(`const head = () => [...document.querySelectorAll("#table th")].find(th => th.textContent.startsWith(${JSON.stringify(name)}));
    head().querySelector("button").click(); const at = [...head().parentNode.children].indexOf(head());
    return [head().getAttribute("aria-sort"), [...document.querySelectorAll("#table tbody tr")].map(row => parseFloat(row.children[at].textContent.replaceAll(",", ""))).filter(x => !isNaN(x))]`);
  const cost = await page(`return JSON.parse(document.getElementById("data").textContent).cost.column`);
  for (const direction of [1, -1]) {
    const [order, values] = await sort(cost);
    const sorted = values.every((value, i) => i === 0 || direction * (value - values[i - 1]) >= 0);
    check(sorted && order === (direction > 0 ? "ascending" : "descending"), `cells are sorted by cost, ${order}`);
  }
  await page(`document.querySelectorAll("#runs .chip button").forEach(button => button.click())`);
  const before = await page(`return document.querySelectorAll("#runs .chip").length`);
  await page(`document.querySelector("#table tr.on-front").click()`);
  check(await page(`return document.querySelectorAll("#runs .chip").length`) > before, "a point on a front can be chosen");
  check(await page(`return document.querySelectorAll("#curves canvas").length > 0`), "its curves are drawn");
  await page(`document.getElementById("theme").click()`);
  await send("Emulation.setDeviceMetricsOverride", { width: 380, height: 800, deviceScaleFactor: 2, mobile: true });
  await sleep(300);
  check(await page(`return document.documentElement.scrollWidth <= innerWidth + 1`), "nothing sticks out on a phone");
  check(problems.length === 0, "no error on the console, nothing asked of the network");
} catch (error) {
  problems.push(String(error));
  console.error(error);
} finally {
  browser.kill();
  await new Promise(done => browser.exitCode === null ? browser.once("exit", done) : done());
  rmSync(profile, { recursive: true, force: true });
}
problems.forEach(problem => console.error(problem));
process.exit(problems.length ? 1 : 0);
