// The pages of a report and of a comparison in a real browser: what they show, that they are reached with the keyboard, and
// that they ask nobody.
//
// node check.mjs BINARY: BINARY makes the pages. NEARBENCH_SCREENSHOTS=DIR keeps pictures of them.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";
import { HOSTILE, empty, hostile, other, report, slower, thinned } from "./fixture.mjs";

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

/** The page of a comparison, made by the command, which must end so. */
const compared = (name, status, ...documents) => {
  const files = documents.map((document, n) => {
    const json = join(folder, `${name}-${n}.json`);
    writeFileSync(json, JSON.stringify(document));
    return json;
  });
  const html = join(folder, `${name}.html`);
  const ended = spawnSync(binary, ["compare", ...files, "--html", html], { encoding: "utf8" });
  assert.deepEqual([ended.status, ended.stdout], [status, ""], ended.stderr);
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

  /** `file` is a file, or where a page is served, which may ask there for more. */
  static async to(browser, file, { width = 800, theme = "light" } = {}) {
    const page = await browser.newPage();
    const visit = new Visit(page, file);
    const served = file.startsWith("http:");
    const address = served ? file : pathToFileURL(file).href;
    const expected = served ? [address, `${address}events`] : [address];
    page.on("console", (message) => visit.troubles.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => visit.troubles.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => visit.troubles.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
    page.on("request", (request) => {
      const url = request.url();
      if (!expected.includes(url) && !url.startsWith("data:")) visit.troubles.push(`asked for ${url}`);
    });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, { name: "prefers-reduced-motion", value: "reduce" }]);
    await page.setViewport({ width, height: 900 });
    await page.goto(address);
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

const printed = async (visit, name) => {
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
  await visit.picture(name);
  await page.emulateMediaType(null);
  const pdf = await page.pdf({ format: "a4", preferCSSPageSize: false });
  if (pictures) writeFileSync(join(pictures, `${name}.pdf`), pdf);
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
      if (theme === "dark" && width === 1400) await printed(visit, "print");
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

/** Of a comparison's chart: its lines in order, and how each looks. */
const linesOf = ({ page }, id) => page.$$eval(`figure[data-chart=${id}] .legend button`, (buttons) => buttons.map((button) => {
  const { borderTopColor, maskImage } = getComputedStyle(button.querySelector(".swatch"));
  return { line: button.dataset.line, text: button.textContent, colour: borderTopColor, dash: maskImage };
}));

/** What differs is read before what it may have done. */
const saysFirst = async ({ page }, ...texts) => {
  const read = await page.$eval("main", (main) => main.innerText);
  const places = texts.map((text) => read.indexOf(text));
  assert(places.every((place, n) => place >= 0 && (n === 0 || place > places[n - 1])), `${JSON.stringify(texts)} at ${places}`);
  assert(!/\d\s%/.test(read.slice(0, places.at(-1))), "no number comes before");
};

const comparisonUsedByKeyboard = async (visit) => {
  const { page } = visit;
  const plot = (id) => `figure[data-chart=${id}] .plot`;
  const told = (id) => page.$eval(plot(id), (element) => element.getAttribute("aria-valuetext"));
  await page.focus(plot("throughput"));
  await page.keyboard.press("Home");
  for (let n = 0; n < 5; n += 1) await page.keyboard.press("ArrowRight");
  await visit.painted();
  assert.match(await told("throughput"), /^0:\d\d: .*A succeeded \d+.*B succeeded \d+.*C succeeded \d+/);
  assert.match(await told("latency-over-time"), /A longest \d.* B longest \d.* C mean \d/, "the other charts tell of the same time");
  await page.keyboard.press("End");
  await visit.painted();
  assert.match(await told("throughput"), /^13:05: .*A succeeded \d.*C succeeded –/, "a run that is over has no value");
  await page.keyboard.press("+");
  await visit.painted();
  assert(!await page.$eval("#zoom-out", (button) => button.hidden), "a stretch is shown");
  await page.focus("#zoom-out");
  await page.keyboard.press("Enter");
  await visit.painted();
  assert(await page.$eval("#zoom-out", (button) => button.hidden), "the whole runs again");
};

const comparisonChecks = async (browser) => {
  const ordinary = compared("comparison", 1, report(), slower(report(), 1.25), other());
  assert(statSync(ordinary).size < 1 << 20, `three runs of up to 780 s make a page of ${statSync(ordinary).size} bytes`);
  for (const theme of ["light", "dark"]) {
    for (const width of [360, 800, 1400]) {
      const visit = await Visit.to(browser, ordinary, { width, theme });
      await visit.hasMarks(ALL);
      await visit.fits();
      await visit.picture(`comparison-${width}-${theme}`);
      await visit.isAccessible();
      await saysFirst(visit, "The plans differ", "account.keys.generate.count", "The environments differ", "machine.cpus", "Regression");
      if (width === 800) await reachedByKeyboard(visit);
      if (width === 1400) await comparisonUsedByKeyboard(visit);
      if (width === 1400) await drag(visit);
      if (theme === "dark" && width === 1400) await printed(visit, "comparison-print");
      await hasTables(visit);
      await visit.fits();
      if (width === 360) await visit.isAccessible();
      await visit.close();
    }
  }

  // Two of the same name and plan: told apart by letter and file, offered the same.
  const alike = await Visit.to(browser, compared("alike", 0, report(), report()), { width: 1400 });
  await alike.hasMarks(ALL);
  await alike.picture("comparison-alike");
  assert.deepEqual((await linesOf(alike, "throughput")).map(({ line }) => line), ["offered", "succeeded-0", "succeeded-1"]);
  assert.deepEqual((await linesOf(alike, "latency-over-time")).map(({ text }) => text), ["A longest", "B longest", "A mean", "B mean"]);
  const runs = await alike.page.$$eval("#runs li", (rows) => rows.map((row) => row.innerText));
  assert(runs.length === 2 && runs.every((run, n) => run.includes(`alike-${n}.json`)), `${runs}`);
  await saysFirst(alike, "The plans agree", "The environments agree", "No regression");
  await alike.close();

  // As many as have a colour: told apart without it too, as far as there are dashes, and by both beyond.
  const eight = await Visit.to(browser, compared("eight", 1, report({ seconds: 300 }), ...[1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7].map((factor) => slower(report({ seconds: 300 }), factor))), { width: 1400 });
  const looks = await linesOf(eight, "latency-distribution");
  assert.equal(new Set(looks.map(({ colour, dash }) => `${colour} ${dash}`)).size, 8, "each looks like no other");
  assert.equal(new Set(looks.slice(0, 5).map(({ dash }) => dash)).size, 5, "whoever sees no colours knows five");
  await eight.hasMarks(ALL);
  await eight.page.emulateVisionDeficiency("achromatopsia");
  await eight.picture("comparison-eight-without-colours");
  await eight.close();

  // Ten seconds beside seventy, without percentiles beside with, and very many.
  const old = report({ seconds: 70, name: "earlier" });
  delete old.results.latencyDistribution;
  for (const [name, status, ...documents] of [
    ["short", 0, report({ seconds: 10 }), old],
    ["long", 0, report({ seconds: 100_000 }), report({ seconds: 90_000 })],
  ]) {
    const visit = await Visit.to(browser, compared(name, status, ...documents), { width: 1400 });
    await visit.hasMarks(ALL);
    await visit.picture(`comparison-${name}`);
    await hasTables(visit);
    await visit.close();
  }

  for (const width of [360, 1400]) {
    const visit = await Visit.to(browser, compared("hostile-comparison", 1, report({ seconds: 120, phaseNames: [HOSTILE, "b", "c"] }), hostile()), { width });
    await visit.hasMarks(ALL);
    await visit.fits();
    await visit.picture(`comparison-hostile-${width}`);
    await visit.isAccessible();
    const { title, inserted, name, texts } = await visit.page.evaluate(() => ({
      title: document.title, inserted: document.querySelectorAll("main img, body > script:nth-of-type(n + 4)").length,
      name: document.querySelector("h1").textContent, texts: [...document.querySelectorAll("td, th, p, #runs .name")].map((element) => element.textContent),
    }));
    assert(!title.startsWith("taken") && inserted === 0, "nothing of a report is markup");
    assert(name.includes(HOSTILE), "what it says is shown as it is");
    assert(texts.filter((text) => text.includes(HOSTILE)).length >= 4, "and so is every other text");
    await visit.close();
  }

  const nothing = await Visit.to(browser, compared("nothing", 3, empty(), empty()), { width: 800 });
  assert.equal(await nothing.page.$$eval("canvas", (all) => all.length), 0);
  await nothing.picture("comparison-nothing");
  await nothing.isAccessible();
  await nothing.close();
};

const RUN = `
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: watched}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 4}}
  token: {contractId: ft.bench.near, deploy: {}}
  receivers: {count: 5, prefix: user}
  load: {maxSendLag: 1h, phases: [{name: ramp, duration: 8, arrivalRate: 5, rampTo: 40}, {name: steady, duration: 1h, arrivalRate: 40}]}
`;

/** A run under way: what it shows moves, by the same charts, until its report takes its place. */
const liveChecks = async (browser) => {
  writeFileSync(join(folder, "run.yaml"), RUN);
  const run = spawn(binary, ["run", "run.yaml", "--ui"], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  try {
    const said = [];
    const lines = createInterface({ input: run.stderr }).on("line", (line) => said.push(line));
    const ended = once(run, "exit");
    let address;
    while (!address) {
      const [line] = await Promise.race([once(lines, "line"), ended.then(([code]) => { throw new Error(`the run ended with ${code}: ${said.join("\n")}`); })]);
      [, address] = line.match(/it is shown at (\S+)/) ?? [];
    }
    const visits = [];
    for (const [width, theme] of [[1400, "light"], [1400, "dark"], [800, "light"], [360, "dark"]]) {
      visits.push({ width, theme, visit: await Visit.to(browser, address, { width, theme }) });
    }
    const stage = (word) => (visit) => visit.page.waitForFunction((word) => document.querySelector("#verdict .word")?.textContent === word, { timeout: 120_000 }, word);
    const points = ({ page }) => page.$eval("figure[data-chart=throughput] .plot", (plot) => Number(plot.ariaValueMax));
    const enough = (visit, least) => visit.page.waitForFunction((least) => Number(document.querySelector("figure[data-chart=throughput] .plot")?.ariaValueMax) >= least, { timeout: 120_000 }, least);
    for (const { width, theme, visit } of visits) {
      await visit.page.bringToFront();
      await stage("Running")(visit);
      await enough(visit, 12);
      await visit.hasMarks(ALL);
      await visit.fits();
      await visit.picture(`live-${width}-${theme}`);
      await visit.isAccessible();
    }
    // Whoever looks closer goes on looking at the same stretch while the run goes on.
    const { visit } = visits[0];
    await visit.page.bringToFront();
    const before = await points(visit);
    await visit.page.focus("figure[data-chart=throughput] .plot");
    await visit.page.keyboard.press("Home");
    await visit.page.keyboard.press("+");
    const stretch = () => visit.page.$eval("#zoom-out", (button) => !button.hidden);
    await visit.page.waitForFunction(() => !document.getElementById("zoom-out").hidden);
    await enough(visit, before + 2);
    assert(await stretch(), "a closer look lasts");
    assert.equal(await visit.page.evaluate(() => document.activeElement?.className), "plot", "and so does the focus");
    // It is stopped once all is seen, however long that took, and says so in its report.
    run.kill("SIGINT");
    for (const { width, theme, visit } of visits) {
      await visit.page.bringToFront();
      await visit.page.waitForFunction(() => document.querySelector("#verdict .word")?.textContent === "Inconclusive", { timeout: 120_000 });
      await visit.painted();
      await visit.hasMarks(ALL);
      await visit.fits();
      await visit.picture(`live-${width}-${theme}-report`);
      await hasTables(visit);
      await visit.close();
    }
    const [code] = await ended;
    assert.equal(code, 3, said.join("\n"));
  } finally {
    run.kill();
  }
};

compareLibrary();
const browser = await puppeteer.launch({
  executablePath: chromium(), userDataDir: join(folder, "profile"),
  // Chromium's own sandbox refuses root, which is who CI is.
  args: [...(process.getuid() === 0 ? ["--no-sandbox"] : []), "--force-color-profile=srgb", "--disable-dev-shm-usage"],
});
try {
  await checks(browser);
  await comparisonChecks(browser);
  await liveChecks(browser);
  console.log("The pages are as they should be.");
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
