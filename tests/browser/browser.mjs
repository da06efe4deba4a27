// A page in headless Chromium, spoken to in the DevTools protocol over pipes: Node 18 or later and no packages.
// CHROMIUM=path names the browser, `chromium` otherwise. What goes wrong on the page is gathered in `problems`.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

export const WIDE = { width: 1200, height: 900, deviceScaleFactor: 1, mobile: false };
export const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, mobile: true };

/** Opens `file`, hands the page to `use`, and exits with 1 if a check failed or the page complained. */
export async function visit(file, screenshots, use) {
  const profile = mkdtempSync(join(tmpdir(), "scalefront-browser-"));
  // A process group of its own, so that its children can be ended with it: they write to the profile after it has gone.
  const browser = spawn(process.env.CHROMIUM ?? "chromium",
    ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], detached: true });
  const pending = new Map(), problems = [];
  let last = 0, received = "", session;
  browser.on("error", error => { console.error(`${error.message}; CHROMIUM=path names the browser`); process.exit(2); });
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
  const page = {
    send, sleep, problems,
    /** What `expression`, a function's body, returns on the page. */
    async ask(expression) {
      const { result, exceptionDetails } = await send("Runtime.evaluate", { expression: `(() => {${expression}})()`, returnByValue: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    },
    check(holds, what) {
      console.log(`${holds ? "ok  " : "FAIL"} ${what}`);
      if (!holds) problems.push(what);
    },
    size: size => send("Emulation.setDeviceMetricsOverride", size),
    theme: value => send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] }),
    async click(x, y) {
      for (const type of ["mouseMoved", "mousePressed", "mouseReleased"]) {
        await send("Input.dispatchMouseEvent", { type, x, y, button: type === "mouseMoved" ? "none" : "left", clickCount: type === "mouseMoved" ? 0 : 1 });
      }
    },
    async press(key) {
      for (const type of ["keyDown", "keyUp"]) await send("Input.dispatchKeyEvent", { type, key, code: key, ...(key === "Enter" ? { text: "\r", windowsVirtualKeyCode: 13 } : {}) });
    },
    /** The page, or the part of it that can be seen, as `<name>.png`; only if screenshots were asked for. */
    async screenshot(name, whole = true) {
      if (!screenshots) return;
      mkdirSync(screenshots, { recursive: true });
      await sleep(250);
      const { data } = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole });
      writeFileSync(join(screenshots, `${name}.png`), Buffer.from(data, "base64"));
    },
    /** A page is open within a second; a busy machine may allow more in OPEN_WITHIN_MS. */
    checkSpeed() {
      this.check(this.loaded_ms < Number(process.env.OPEN_WITHIN_MS ?? 1000), `it is open after ${this.loaded_ms} ms`);
    },
    /** Nothing is wider than the screen, and what can be pressed is large enough for a thumb (WCAG 2.2, 2.5.8: 24 pixels). */
    async checkPhone() {
      this.check(await this.ask(`return document.documentElement.scrollWidth <= innerWidth + 1`), "nothing sticks out on a phone");
      const small = await this.ask(`return [...document.querySelectorAll("button, select, input, summary, nav a")].filter(node => {
        const box = (node.closest("label") ?? node).getBoundingClientRect(); return box.width > 0 && (box.width < 24 || box.height < 24); })
        .map(node => node.textContent.trim().slice(0, 20) || node.id)`);
      this.check(small.length === 0, `everything can be pressed with a thumb${small.length ? `, but not ${[...new Set(small)].join(", ")}` : ""}`);
    },
  };
  try {
    const { targetInfos } = await send("Target.getTargets");
    const { targetId } = targetInfos.find(target => target.type === "page");
    session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
    await page.size(WIDE);
    await page.theme("light");
    await send("Page.navigate", { url: pathToFileURL(resolve(file)).href });
    const started = Date.now();
    while (!await page.ask(`return location.protocol === "file:" && document.readyState === "complete" && performance.getEntriesByType("navigation")[0]?.loadEventEnd > 0`)) {
      if (Date.now() - started > 10_000) throw new Error("not loaded within 10 s");
      await sleep(20);
    }
    page.loaded_ms = await page.ask(`return Math.round(performance.getEntriesByType("navigation")[0].loadEventEnd)`);
    await use(page);
    page.check(problems.length === 0, "no error on the console, nothing asked of the network");
  } catch (error) {
    problems.push(String(error));
    console.error(error);
  } finally {
    const exited = new Promise(done => browser.exitCode === null && browser.signalCode === null ? browser.once("exit", done) : done());
    try {
      process.kill(-browser.pid, "SIGKILL");
    } catch {} // it has gone already
    await exited;
    try {
      rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    } catch (error) {
      console.error(`${profile} is left behind: ${error.message}`); // says nothing of the page
    }
  }
  problems.forEach(problem => console.error(problem));
  process.exit(problems.length ? 1 : 0);
}
