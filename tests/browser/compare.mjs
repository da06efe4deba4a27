// Loads a comparison in a headless browser, wide and on a phone: its tables and figures are there, no console error, no request.
//
//   node tests/browser/compare.mjs results/compare/compare.html [directory for screenshots]
import { statSync } from "node:fs";
import { PHONE, visit } from "./browser.mjs";

const [file, screenshots] = process.argv.slice(2);
if (!file) {
  console.error("usage: node tests/browser/compare.mjs <compare.html> [directory for screenshots]");
  process.exit(2);
}

await visit(file, screenshots, async page => {
  const { ask, check } = page;
  const bytes = statSync(file).size;
  check(bytes < 5_000_000, `the page has ${bytes.toLocaleString("en-US")} bytes`);
  page.checkSpeed();
  const rows = await ask(`return [...document.querySelectorAll("tbody tr")].map(row => row.children.length === row.closest("table").querySelectorAll("thead th").length)`);
  check(rows.length > 0 && rows.every(Boolean), `${rows.length} comparisons, each with every column`);
  const figures = await ask(`return [...document.querySelectorAll("figure")].map(figure => figure.getAttribute("aria-label") && figure.querySelector("svg").getBoundingClientRect().width)`);
  check(figures.length > 0 && figures.every(width => width > 300), `${figures.length} figures, described in words`);
  check(await ask(`return document.querySelectorAll(".verdict").length`) === rows.length, "every comparison has its verdict");
  check(await ask(`return [...document.querySelectorAll(".scroll")].every(box => box.tabIndex === 0 && box.getAttribute("aria-label"))`), "wide tables scroll by keyboard");
  await page.screenshot("compare-light");
  await page.theme("dark");
  await page.screenshot("compare-dark");
  await page.theme("light");
  await page.size(PHONE);
  await page.sleep(200);
  await page.checkPhone();
  await page.screenshot("compare-narrow");
});
