// The report's page in a real browser: what it shows, that it is reached with the keyboard, and that it asks nobody.
//
// node check.mjs BINARY: BINARY makes the pages. NEARBENCH_SCREENSHOTS=DIR keeps pictures of them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";
import { HOSTILE, empty, hostile, report, thinned } from "./fixture.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const binary = resolve(process.argv[2]);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pictures = process.env.NEARBENCH_SCREENSHOTS;
const folder = mkdtempSync(join(tmpdir(), "nearbench-page-"));

/** The library in the page is that of the locked package. */
const compareLibrary = () => {
  const installed = join(here, "node_modules/uplot");
  for (const [copy, original] of [["uPlot.iife.min.js", "dist/uPlot.iife.min.js"], ["uPlot.min.css", "dist/uPlot.min.css"], ["LICENSE.uPlot", "LICENSE"]]) {
    const same = readFileSync(join(here, "../vendor", copy)).equals(readFileSync(join(installed, original)));
    assert(same, `cli/page/vendor/${copy} is not the one of uplot ${require("uplot/package.json").version}: copy it from ${installed}/${original}`);
  }
};

const chromium = () => {
  const known = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const found = process.env.CHROMIUM ?? known.flatMap((name) => process.env.PATH.split(":").map((path) => join(path, name))).find((path) => existsSync(path));
  assert(found, "there is no Chromium: run .ci/setup clients, or name one with CHROMIUM=PATH");
  return found;
};

/** The page of a report, made by the command. */
const made = (name, document) => {
  const [json, html] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
  writeFileSync(json, JSON.stringify(document));
  execFileSync(binary, ["report", json, "--html", html], { stdio: ["ignore", "inherit", "pipe"] });
  return html;
};

/** In the page: of each chart and line, how many of the pixels in the plot have its colour when it is drawn alone. */
const marks = async () => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const count = (figure, swatch) => {
    const canvas = figure.querySelector("canvas");
    const [over, all] = [figure.querySelector(".u-over").getBoundingClientRect(), canvas.getBoundingClientRect()];
    const ratio = canvas.width / all.width;
    const copy = Object.assign(document.createElement("canvas"), { width: over.width * ratio, height: over.height * ratio }).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, (all.left - over.left) * ratio, (all.top - over.top) * ratio);
    const { data } = copy.getImageData(0, 0, copy.canvas.width, copy.canvas.height);
    const style = getComputedStyle(swatch);
    const wanted = (swatch.classList.contains("area") ? style.backgroundColor : style.borderTopColor).match(/\d+/g).map(Number);
    let pixels = 0;
    for (let n = 0; n < data.length; n += 4) {
      if (data[n + 3] > 150 && wanted.every((value, k) => Math.abs(value - data[n + k]) < 36)) pixels += 1;
    }
    return pixels;
  };
  const figures = [...document.querySelectorAll("figure[data-chart]")].map((figure) => ({ figure, buttons: [...figure.querySelectorAll(".legend button")] }));
  const found = [];
  for (let n = 0; n < Math.max(...figures.map(({ buttons }) => buttons.length)); n += 1) {
    const others = figures.flatMap(({ buttons }) => buttons[n] ? buttons.filter((button) => button !== buttons[n]) : []);
    others.forEach((button) => button.click());
    await painted();
    for (const { figure, buttons } of figures) {
      if (buttons[n]) found.push({ chart: figure.dataset.chart, line: buttons[n].dataset.line, pixels: count(figure, buttons[n].querySelector(".swatch")) });
    }
    others.forEach((button) => button.click());
  }
  await painted();
  return found;
};

class Visit {
  constructor(page, file) {
    Object.assign(this, { page, file, troubles: [] });
  }

  static async to(browser, file, { width = 800, theme = "light" } = {}) {
    const page = await browser.newPage();
    const visit = new Visit(page, file);
    page.on("console", (message) => visit.troubles.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => visit.troubles.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => visit.troubles.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
    page.on("request", (request) => {
      const url = request.url();
      if (url !== pathToFileURL(file).href && !url.startsWith("data:")) visit.troubles.push(`asked for ${url}`);
    });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, { name: "prefers-reduced-motion", value: "reduce" }]);
    await page.setViewport({ width, height: 900 });
    await page.goto(pathToFileURL(file).href);
    await page.waitForSelector("#verdict .word");
    await visit.painted();
    return visit;
  }

  async painted() {
    await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  }

  async picture(name) {
    if (!pictures) return;
    mkdirSync(pictures, { recursive: true });
    await this.page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  }

  async hasMarks(expected) {
    const found = await this.page.evaluate(marks);
    assert.deepEqual([...new Set(found.map(({ chart }) => chart))].sort(), [...expected].sort());
    for (const { chart, line, pixels } of found) assert(pixels >= 12, `${this.file}: ${pixels} pixels of ${line} in ${chart}`);
  }

  async isAccessible() {
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const told = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
    assert.deepEqual(told, [], this.file);
  }

  async fits() {
    const { page, wide } = await this.page.evaluate(() => ({ page: document.documentElement.clientWidth, wide: document.documentElement.scrollWidth }));
    assert(wide <= page, `${this.file}: ${wide} px of content in ${page} px`);
  }

  async close() {
    assert.deepEqual(this.troubles, [], this.file);
    await this.page.close();
  }
}

const TIME = ["throughput", "latency-over-time", "queue-depth", "transactions-a-second", "batch-size"];
const ALL = [...TIME, "latency-distribution"];

/** Tab comes to everything that can be used, in the page's order, and shows where it is. */
const reachedByKeyboard = async ({ page }) => {
  const all = await page.evaluate(() => {
    const found = [...document.querySelectorAll("a[href], button, summary, [tabindex='0'], input, select")];
    window.usable = found.filter((element) => element.checkVisibility({ visibilityProperty: true }) && !(element.closest("details:not([open])") && element.tagName !== "SUMMARY"));
    document.activeElement.blur();
    return window.usable.length;
  });
  const visited = [];
  for (let n = 0; n < all; n += 1) {
    await page.keyboard.press("Tab");
    visited.push(await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { n: window.usable.indexOf(document.activeElement), shown: outlineStyle !== "none" && outlineWidth !== "0px" };
    }));
  }
  assert.deepEqual(visited.map(({ n }) => n), Array.from({ length: all }, (_, n) => n), "Tab comes to everything, in order");
  assert(visited.every(({ shown }) => shown), "and one sees where it is");
};

/** Charts are read, looked at closer and changed with keys alone. */
const usedByKeyboard = async (visit) => {
  const { page } = visit;
  const plot = (id) => `figure[data-chart=${id}] .plot`;
  const told = (id) => page.$eval(plot(id), (element) => element.getAttribute("aria-valuetext"));
  await page.focus(plot("throughput"));
  await page.keyboard.press("Home");
  for (let n = 0; n < 5; n += 1) await page.keyboard.press("ArrowRight");
  await visit.painted();
  const first = await told("throughput");
  assert.match(first, /^0:\d\d: Offered \d+.*Succeeded \d+/);
  assert.match(await told("latency-over-time"), new RegExp(`^${first.split(" ")[0]}`), "the other charts tell of the same time");
  await page.keyboard.press("End");
  await visit.painted();
  assert.match(await told("throughput"), /^13:05: /);

  assert(await page.$eval("#zoom-out", (button) => button.hidden));
  await page.keyboard.press("+");
  await page.keyboard.press("+");
  await visit.painted();
  assert(!await page.$eval("#zoom-out", (button) => button.hidden), "a stretch is shown");
  await page.focus("#zoom-out");
  await page.keyboard.press("Enter");
  await visit.painted();
  assert(await page.$eval("#zoom-out", (button) => button.hidden), "the whole run again");

  const line = "figure[data-chart=throughput] button[data-line=offered]";
  await page.focus(line);
  await page.keyboard.press("Space");
  await visit.painted();
  assert.equal(await page.$eval(line, (button) => button.ariaPressed), "false");
  await page.keyboard.press("Space");

  await page.focus(plot("latency-distribution"));
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await visit.painted();
  assert.match(await told("latency-distribution"), /^50 %: Settle \d/);
};

/** A table stands beside each chart, of a length that one can read. */
const hasTables = async ({ page }) => {
  const rows = await page.$$eval("figure[data-chart]", (figures) => figures.map((figure) => {
    figure.querySelector("details").open = true;
    return figure.querySelectorAll("tbody tr").length;
  }));
  assert(rows.length === ALL.length && rows.every((count) => count >= 5 && count <= 60), `rows: ${rows}`);
};

const drag = async (visit) => {
  const over = await visit.page.$("figure[data-chart=throughput] .u-over");
  await over.scrollIntoView();
  const box = await over.boundingBox();
  await visit.page.mouse.move(box.x + box.width * 0.3, box.y + 50);
  await visit.page.mouse.down();
  await visit.page.mouse.move(box.x + box.width * 0.6, box.y + 50, { steps: 4 });
  await visit.page.mouse.up();
  await visit.painted();
  assert(!await visit.page.$eval("#zoom-out", (button) => button.hidden), "dragging looks closer");
  await visit.hasMarks(ALL);
  await visit.page.click("#zoom-out");
};

const printed = async (visit) => {
  const { page } = visit;
  await page.emulateMediaType("print");
  await visit.painted();
  const { ground, widths } = await page.evaluate(() => ({
    ground: getComputedStyle(document.body).backgroundColor,
    widths: [...document.querySelectorAll("canvas")].map((canvas) => canvas.getBoundingClientRect().width),
  }));
  assert.equal(ground, "rgb(255, 255, 255)", "paper is white, whatever the theme");
  assert(widths.every((width) => width <= 680), `charts of ${widths} px do not fit on A4`);
  await visit.hasMarks(ALL);
  await visit.picture("print");
  await page.emulateMediaType(null);
  const pdf = await page.pdf({ format: "a4", preferCSSPageSize: false });
  if (pictures) writeFileSync(join(pictures, "print.pdf"), pdf);
  const pages = Buffer.from(pdf).toString("latin1").match(/\/Type\s*\/Page\b/g).length;
  assert(pages >= 2 && pages <= 9, `${pages} pages`);
  await visit.painted();
};

const checks = async (browser) => {
  const ordinary = made("ordinary", report({ errors: { timeout: 3, "nonce conflict": 41, "HTTP 429": 118 } }));
  assert(statSync(ordinary).size < 1 << 20, `a run of 780 s makes a page of ${statSync(ordinary).size} bytes`);
  for (const theme of ["light", "dark"]) {
    for (const width of [360, 800, 1400]) {
      const visit = await Visit.to(browser, ordinary, { width, theme });
      await visit.hasMarks(ALL);
      await visit.fits();
      await visit.picture(`ordinary-${width}-${theme}`);
      await visit.isAccessible();
      if (width === 800) await reachedByKeyboard(visit);
      if (width === 1400) await usedByKeyboard(visit);
      if (width === 1400) await drag(visit);
      if (theme === "dark" && width === 1400) await printed(visit);
      await hasTables(visit);
      await visit.fits();
      if (width === 360) await visit.isAccessible();
      await visit.close();
    }
  }

  const few = await Visit.to(browser, made("ten", report({ seconds: 10 })));
  await few.hasMarks(ALL);
  await few.picture("ten");
  await few.page.evaluate((later) => page.update(later), report({ seconds: 70, name: "later", losses: { failed: 9 } }));
  await few.painted();
  await few.hasMarks(ALL);
  assert.equal(await few.page.$eval("h1", (title) => title.textContent), "later", "a later state takes the place of the earlier");
  await few.close();

  const many = await Visit.to(browser, made("many", report({ seconds: 100_000 })), { width: 1400 });
  await many.hasMarks(ALL);
  await many.picture("many");
  await hasTables(many);
  await many.close();

  const thin = await Visit.to(browser, made("thinned", thinned(20, { seconds: 18_000 })), { width: 1400 });
  await thin.hasMarks(ALL);
  await thin.picture("thinned");
  const told = await thin.page.$eval("figure[data-chart=throughput] tbody tr:nth-child(15)", (row) => row.cells[1].textContent);
  assert.equal(told, "202", "what twenty seconds counted is shown as so many a second");
  await hasTables(thin);
  await thin.close();

  for (const width of [360, 1400]) {
    const visit = await Visit.to(browser, made("hostile", hostile()), { width });
    await visit.hasMarks(ALL);
    await visit.fits();
    await visit.picture(`hostile-${width}`);
    await visit.isAccessible();
    const { title, inserted, name, texts } = await visit.page.evaluate(() => ({
      title: document.title, inserted: document.querySelectorAll("main img, body > script:nth-of-type(n + 4)").length,
      name: document.querySelector("h1").textContent, texts: [...document.querySelectorAll("li, td, th, dd, p")].map((element) => element.textContent),
    }));
    assert(!title.startsWith("taken") && inserted === 0, "nothing of a report is markup");
    assert.equal(name, HOSTILE, "what it says is shown as it is");
    assert(texts.filter((text) => text.includes(HOSTILE)).length >= 10, "and so is every other text");
    await visit.close();
  }

  const nothing = await Visit.to(browser, made("empty", empty()), { width: 800 });
  assert.equal(await nothing.page.$$eval("canvas", (all) => all.length), 0);
  await nothing.picture("empty");
  await nothing.isAccessible();
  await nothing.close();
};

compareLibrary();
const browser = await puppeteer.launch({
  executablePath: chromium(), userDataDir: join(folder, "profile"),
  // Chromium's own sandbox refuses root, which is who CI is.
  args: [...(process.getuid() === 0 ? ["--no-sandbox"] : []), "--force-color-profile=srgb", "--disable-dev-shm-usage"],
});
try {
  await checks(browser);
  console.log("The page is as it should be.");
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
