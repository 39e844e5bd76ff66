// Draws a report, or runs beside each other. `page.update(report)` shows one, and may be called again and again with later
// states of it; `page.compare(comparison)` shows several, laid over each other; `page.follow()` shows a run under way, as it is
// told by whoever served the page, and its report once there is one.
//
// What is shown is a function of the report: `charts(report)` says which lines there are, and a `…Section(report)` makes
// the nodes of each section. Whatever comes from the report is set as text, never as markup.
"use strict";

const page = (() => {
  // ── Words and numbers ────────────────────────────────────────────────────────────────────────────────────────────

  const decimals = (places) => new Intl.NumberFormat("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  const [whole, one, two] = [0, 1, 2].map(decimals);
  const upToTwo = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const NONE = "–";
  const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
  const or = (format) => (value) => known(value) ? format(value) : NONE;

  const count = or((value) => whole.format(value));
  const rate = or((value) => two.format(value));
  const plain = or((value) => upToTwo.format(value));
  const percent = or((value) => `${upToTwo.format(value)} %`);
  const milliseconds = or((ms) => {
    if (ms >= 100_000) return `${whole.format(ms / 1000)} s`;
    if (ms >= 1000) return `${two.format(ms / 1000)} s`;
    if (ms >= 100) return `${whole.format(ms)} ms`;
    return `${upToTwo.format(ms)} ms`;
  });
  const bytes = or((value) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    const unit = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), units.length - 1);
    return `${unit < 1 ? whole.format(value) : one.format(value / 1024 ** unit)} ${units[unit]}`;
  });
  const seconds = or((value) => `${upToTwo.format(value)} s`);
  const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

  /** Seconds since the load's start, as a clock. */
  const clock = (time) => {
    const [total, sign] = [Math.round(Math.abs(time)), time < 0 ? "−" : ""];
    const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
    const pad = (n) => String(n).padStart(2, "0");
    return sign + (hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`);
  };
  const length = or((ms) => {
    const total = Math.round(ms / 1000);
    const parts = [[Math.floor(total / 3600), "h"], [Math.floor(total / 60) % 60, "min"], [total % 60, "s"]];
    return parts.filter(([n]) => n > 0).map(([n, unit]) => `${n} ${unit}`).join(" ") || "0 s";
  });
  const day = (text) => {
    const time = new Date(text);
    if (!text || Number.isNaN(time.getTime())) return text || NONE;
    return `${time.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "medium", timeZone: "UTC" })} UTC`;
  };
  const oneLine = (text) => String(text).replace(/\s+/g, " ");

  // ── Nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** An element with attributes; children are nodes or texts. */
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null) element.setAttribute(key, value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  };

  /** A table in a region that scrolls, which the keyboard therefore reaches. Columns: {title, class, cell}. */
  const table = (label, columns, rows, totals = []) => {
    const head = columns.map(({ title, kind }) => make("th", { scope: "col", class: kind }, title));
    const line = (row, attributes) => make("tr", attributes, columns.map(({ kind, cell, header }) => {
      const content = cell(row);
      return header ? make("th", { scope: "row", class: kind }, content) : make("td", { class: kind }, content);
    }));
    const body = [...rows.map((row) => line(row, {})), ...totals.map((row) => line(row, { class: "total" }))];
    return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
      make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)));
  };
  const number = (title, cell) => ({ title, cell, kind: "number" });
  const text = (title, cell) => ({ title, cell, kind: "text" });

  const facts = (pairs) => make("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))));

  // ── What a report says ───────────────────────────────────────────────────────────────────────────────────────────

  /** The highest steady rate; where none is steady, the highest. */
  const target = (plan) => {
    const rates = (of) => plan.load.phases.map(of).filter((value) => known(value));
    const steady = rates(({ arrivals, durationMs }) => arrivals.rate ?? (arrivals.count ?? NaN) / (durationMs / 1000));
    const ramps = rates(({ arrivals }) => arrivals.ramp ? Math.max(arrivals.ramp.from, arrivals.ramp.to) : NaN);
    const all = steady.length ? steady : ramps;
    return all.length ? Math.max(...all) : null;
  };

  /** The phase whose numbers are the run's: the longest that offered anything. */
  const longestPhase = ({ results }) => results.phases.filter(({ offered }) => offered > 0)
    .reduce((longest, phase) => !longest || phase.durationMs > longest.durationMs ? phase : longest, null);

  const loadMs = ({ results }) => results.phases.reduce((end, phase) => Math.max(end, phase.startMs + phase.durationMs), 0);

  const isDevnet = ({ environment, plan }) => plan.network.profile === "devnet" || /devnet/i.test(environment.chain.software);

  /** Means over windows of `width` around each value. */
  const smooth = (values, width) => {
    const sums = new Float64Array(values.length + 1);
    values.forEach((value, n) => { sums[n + 1] = sums[n] + (value ?? 0); });
    const before = Math.floor(width / 2);
    return values.map((_, n) => {
      const [from, to] = [Math.max(0, n - before), Math.min(values.length, n - before + width)];
      return (sums[to] - sums[from]) / (to - from);
    });
  };

  /** A point that stands for several seconds, with what was counted in it as so many a second. */
  const perSecond = (point, step) => ({
    ...point, ...Object.fromEntries(["offered", "sent", "accepted", "rejected", "succeeded", "failed", "transactions"].map((count) => [count, point[count] / step])),
  });

  const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
  const mean = (values) => {
    const there = values.filter(known);
    return there.length ? sum(there) / there.length : null;
  };
  const highest = (values) => values.filter(known).reduce((top, value) => top === null || value > top ? value : top, null);

  /** What charts that are laid over each other have in common: windows of means, in seconds, and the distribution's scales. */
  const scalesOf = (reports) => {
    const seconds = highest(reports.map(({ results: { series = [] } }) => series.length));
    const folded = reports.some(({ results: { seriesStepSeconds = 1 } }) => seriesStepSeconds > 1);
    const points = reports.flatMap(distributionPoints);
    const [places, ms] = [points.filter(({ percentile }) => percentile < 100).map(({ percentile }) => nines(percentile)), points.map(({ ms }) => ms)];
    // Every three seconds hold as many blocks where there is one every 600 ms: such windows all have the same number.
    const window = folded ? 1 : Math.max(1, Math.min(12, Math.floor(seconds / 30) * 3));
    return {
      window,
      // Where there are several runs, lines that are too restless would hide each other.
      batchWindow: reports.length > 1 ? window : 1,
      // The longest has no place on the scale: it is drawn a step after the last.
      last: places.length ? Math.max(...places) + 0.15 : 1,
      log: ms.length > 0 && Math.max(...ms) > 20 * Math.max(Math.min(...ms), 0.001),
    };
  };

  /**
   * Every chart of a report, as values:
   * {id, title, unit, note, x, lines: [{id, label, values, fold, area, width, dash, colour, stepped, untold}], format, …}.
   * `fold` makes one value of the many that a row of the table stands for. A line's colour is the custom property of that
   * name, or of its id.
   */
  const charts = (report, { window, batchWindow, ...scales } = scalesOf([report])) => {
    const { results: { series: points = [], seriesStepSeconds: step = 1, phases } } = report;
    const series = step > 1 ? points.map((point) => perSecond(point, step)) : points;
    const x = series.map(({ second }) => second);
    const column = (field) => series.map((point) => point[field]);
    // The points of a run under way are as far apart as it was looked at.
    const apart = x.length > 1 ? (x[x.length - 1] - x[0]) / (x.length - 1) : 1;
    const meanOf = (points) => `${count(points * apart)} s`;
    const succeeded = column("succeeded");
    const some = (line) => sum(line.values) > 0 ? [line] : [];
    const marks = phases.map(({ name, startMs, durationMs }) => ({ name, from: startMs / 1000, to: (startMs + durationMs) / 1000 }));
    const time = { kind: "time", x, marks, step };
    const [moved, executed] = [succeeded, column("transactions")].map((values) => smooth(values, batchWindow));
    const batch = moved.map((value, n) => executed[n] ? value / executed[n] : null);
    return [
      {
        ...time, id: "throughput", title: "Transfers", unit: "a second", height: 300, format: plain,
        note: window > 1
          ? `Succeeded counts a transfer in the second of the block that executed it. Blocks do not end with seconds, so its line is the mean over ${meanOf(window)}.`
          : `Succeeded counts a transfer in the second of the block that executed it.${step > 1 ? ` Each point is the mean of ${step} s, in all charts; the longest and the deepest are the most of them.` : ""}`,
        lines: [
          { id: "offered", label: "Offered", values: column("offered"), fold: mean, area: true, width: 1, stepped: true },
          ...(window > 1 ? [{ id: "each-second", label: "Succeeded, each second", values: succeeded, fold: mean, width: 1, untold: true }] : []),
          { id: "accepted", label: "Accepted", values: column("accepted"), fold: mean, width: 1.5 },
          { id: "succeeded", label: "Succeeded", values: window > 1 ? smooth(succeeded, window) : succeeded, fold: mean, width: 2.5 },
          ...some({ id: "failed", label: "Failed", values: column("failed"), fold: mean, width: 1.5 }),
          ...some({ id: "rejected", label: "Rejected", values: column("rejected"), fold: mean, width: 1.5 }),
        ],
      },
      {
        ...time, id: "latency-over-time", title: "Settle latency", unit: "intended arrival to finality", height: 240,
        format: milliseconds, note: "Of the transfers that became final in each second.",
        lines: [
          { id: "longest", label: "Longest", values: column("settleMaxMs"), fold: highest, width: 1.25 },
          { id: "mean", label: "Mean", values: column("settleMeanMs"), fold: mean, width: 2.25 },
        ],
      },
      distributionOf(report, scales),
      {
        ...time, id: "queue-depth", title: "Queue depth", unit: "transfers waiting", height: 190, narrow: true, format: plain,
        note: "The queue at its deepest in each second.",
        lines: [{ id: "queue", label: "Waiting", values: column("queueDepth"), fold: highest, area: true, width: 1.5 }],
      },
      {
        ...time, id: "transactions-a-second", title: "Transactions", unit: "a second", height: 190, narrow: true, format: plain,
        note: "Executed, by the blocks’ times.",
        lines: [{
          id: "transactions", label: window > 1 ? `Mean of ${meanOf(window)}` : "Executed", fold: mean, area: true, width: 1.75,
          values: window > 1 ? smooth(column("transactions"), window) : column("transactions"),
        }],
      },
      {
        ...time, id: "batch-size", title: "Batch size", unit: "transfers in a transaction", height: 190, narrow: true, format: plain,
        note: `Succeeded transfers by executed transactions of each ${batchWindow > 1 ? meanOf(batchWindow) : "second"}.`,
        lines: [{ id: "batch", label: "Transfers", values: batch, fold: mean, width: 1.75 }],
      },
    ];
  };

  /** Percentiles by how many nines they have: that stretches the end that matters. */
  const NINES = [[0, "0 %"], [50, "50 %"], [90, "90 %"], [99, "99 %"], [99.9, "99.9 %"], [99.99, "99.99 %"], [99.999, "99.999 %"], [99.9999, "99.9999 %"], [99.99999, "99.99999 %"]];
  const nines = (percentile) => -Math.log10(1 - percentile / 100);
  const percentileText = (percentile) => `${new Intl.NumberFormat("en", { maximumFractionDigits: 6 }).format(percentile)} %`;

  const distributionPoints = ({ results: { latencyDistribution: distribution = [], latencyMs: { settle } } }) => {
    if (distribution.length || !settle) return distribution;
    // A report of an earlier version has the summary alone.
    return [[50, "p50"], [90, "p90"], [95, "p95"], [99, "p99"], [99.9, "p999"]].map(([percentile, name]) => ({ percentile, ms: settle[name] }));
  };

  const distributionOf = (report, { last, log }) => {
    const points = distributionPoints(report);
    const below = points.filter(({ percentile }) => percentile < 100);
    const longest = points.filter(({ percentile }) => percentile >= 100);
    const x = [...below.map(({ percentile }) => nines(percentile)), ...longest.map(() => last)];
    const values = [...below, ...longest].map(({ ms }) => ms);
    const bounds = report.ensure.filter(({ metric, phase, bound }) => /^latencyMs\.settle\.p\d+$/.test(metric) && !phase && /^<= /.test(bound))
      .map(({ metric, bound }) => ({ percentile: Number(metric.match(/\.p(\d\d)(\d*)$/).slice(1).join(".")), ms: Number(bound.slice(3)) }))
      .filter(({ ms }) => Number.isFinite(ms));
    return {
      kind: "percentile", id: "latency-distribution", title: "Settle latency, distribution", unit: "by percentile", height: 240,
      format: milliseconds, x, marks: [], log,
      labels: [...below.map(({ percentile }) => percentileText(percentile)), ...longest.map(() => "longest")],
      bounds: bounds.map(({ percentile, ms }) => ({ x: nines(percentile), ms, text: `p${percentile} ≤ ${milliseconds(ms)}` })),
      note: "So many percent of the transfers were final within that time. Each nine has the same width"
        + `${log ? ", and the latency is on a logarithmic scale too" : ""}.${bounds.length ? " Flags are thresholds." : ""}`,
      lines: [{ id: "mean", label: "Settle", values, fold: highest, area: !log, width: 2.25 }],
    };
  };

  /** How the runs of a comparison are called: A is the base. */
  const letter = (run) => (run >= 26 ? letter(Math.floor(run / 26) - 1) : "") + String.fromCharCode(65 + run % 26);
  const COLOURS = 6;
  /** Lines and gaps in pixels: with the colours, thirty runs of which none looks like another; five of them need no colours. */
  const DASHES = [[], [9, 4], [2.5, 3], [12, 4, 2.5, 4], [18, 5]];
  const looksOf = (run) => ({ colour: `run-${run % COLOURS}`, dash: DASHES[run % DASHES.length] });
  /** Lines that are shown of a run that stands alone. */
  const ALONE = new Set(["each-second", "accepted", "failed", "rejected"]);

  /** The charts of several runs, laid over each other: what matters most of each. */
  const overlay = (runs) => {
    const scales = scalesOf(runs);
    const each = runs.map((run) => charts(run, scales));
    return each[0].map((_, n) => laidOver(each.map((all) => all[n])));
  };

  /** The same chart of several runs as one. */
  const laidOver = (each) => {
    const [base] = each;
    const shown = each.map(({ lines }) => lines.filter(({ id }) => !ALONE.has(id)));
    const [x, ...columns] = uPlot.join(each.map((chart, run) => [chart.x, ...shown[run].map(({ values }) => values)]));
    const time = base.kind === "time";
    // Where a run has no second its line ends. A curve goes on between its percentiles, and a folded series between its points:
    // those of another are no gap in it.
    const valuesOf = (run, n) => time && each[run].step === 1 ? columns[run * shown[0].length + n].map((value) => value ?? null) : columns[run * shown[0].length + n];
    const lines = shown[0].flatMap((line, n) => {
      const values = each.map((_, run) => valuesOf(run, n));
      const same = values.every((those) => those.every((value, at) => (value ?? 0) === (values[0][at] ?? 0)));
      if (line.id === "offered" && same) return [{ ...line, values: values[0] }];
      return each.map((_, run) => ({
        ...shown[run][n], ...looksOf(run), id: `${line.id}-${run}`, label: `${letter(run)} ${shown[run][n].label.toLowerCase()}`, values: values[run], area: false,
      }));
    });
    const labels = new Map(each.flatMap(({ x, labels = [] }) => labels.map((label, n) => [x[n], label])));
    const otherPhases = each.some(({ marks }) => JSON.stringify(marks) !== JSON.stringify(base.marks));
    return { ...base, x, lines, labels: x.map((at) => labels.get(at)), note: `${base.note}${otherPhases ? " The phases are those of A." : ""}` };
  };

  // ── Charts ───────────────────────────────────────────────────────────────────────────────────────────────────────

  const NICE_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400];
  const MOST_ROWS = 60;

  const colour = (id) => getComputedStyle(document.documentElement).getPropertyValue(`--${id}`).trim();
  const colourOf = (line) => colour(line.colour ?? line.id);
  /** The same, mostly transparent: colours are written with six hexadecimal digits. */
  const faint = (line) => `${colourOf(line)}24`;
  const FONT = "11.5px Inter, system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", Arial, sans-serif";

  /** The phase that a time is in. */
  const phaseAt = (marks, time) => marks.findLast(({ from }) => from <= time);

  /** The chart's values as rows, of at most so many: {label, phase, values}. */
  const rowsOf = ({ kind, x, labels, lines, marks }) => {
    if (kind === "percentile") return x.map((_, n) => ({ label: labels[n], values: lines.map(({ values }) => values[n]) }));
    const step = NICE_STEPS.find((step) => x.length / step <= MOST_ROWS) ?? Math.ceil(x.length / MOST_ROWS);
    const rows = [];
    for (let from = 0; from < x.length; from += step) {
      const part = lines.map(({ values, fold }) => fold(values.slice(from, from + step)));
      rows.push({ label: clock(x[from]), phase: oneLine(phaseAt(marks, x[from])?.name ?? ""), values: part });
    }
    return Object.assign(rows, { step });
  };

  const tableOf = (chart) => {
    const rows = rowsOf(chart);
    const time = chart.kind === "time";
    const rowSeconds = (rows.step ?? 1) * (chart.step ?? 1);
    const folded = rowSeconds > 1 ? `, each row ${length(rowSeconds * 1000)}` : "";
    const columns = [
      { title: time ? "From" : "Percentile", header: true, kind: "number", cell: ({ label }) => label },
      ...chart.lines.map(({ label, fold }, n) => number(
        rows.step > 1 && fold === highest && !/longest/i.test(label) ? `${label} (most)` : label,
        ({ values }) => chart.format(values[n]))),
      ...(time ? [text("Phase", ({ phase }) => phase)] : []),
    ];
    return table(`${chart.title}, ${chart.unit}${folded}`, columns, rows);
  };

  /** Shades every second phase and names each above the plot, where there is room. */
  const drawMarks = (u, { marks }) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    const at = (time) => Math.min(Math.max(u.valToPos(time, "x", true), bbox.left), bbox.left + bbox.width);
    ctx.save();
    ctx.font = FONT.replace("11.5", String(11.5 * ratio));
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    marks.forEach(({ name, from, to }, n) => {
      const [left, right] = [at(from), at(to)];
      if (right <= left) return;
      if (n % 2 === 0) {
        ctx.fillStyle = colour("band");
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
      }
      ctx.fillStyle = colour("edge");
      if (left > bbox.left) ctx.fillRect(Math.round(left), bbox.top - 14 * ratio, ratio, bbox.height + 14 * ratio);
      if (n === marks.length - 1 && right < bbox.left + bbox.width) ctx.fillRect(Math.round(right), bbox.top - 14 * ratio, ratio, bbox.height + 14 * ratio);
      const room = right - left - 8 * ratio;
      let label = oneLine(name).slice(0, 80);
      while (label.length > 1 && ctx.measureText(label).width > room) label = `${label.slice(0, -2)}…`;
      if (label.length < 2 && label !== oneLine(name)) return;
      if (ctx.measureText(label).width > room) return;
      ctx.fillStyle = colour("soft");
      ctx.fillText(label, left + 5 * ratio, bbox.top - 5 * ratio);
    });
    ctx.restore();
  };

  /** Flags where thresholds are. */
  const drawBounds = (u, { bounds = [] }) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = FONT.replace("11.5", String(11.5 * ratio));
    for (const { x, ms, text } of bounds) {
      const [left, top] = [u.valToPos(x, "x", true), u.valToPos(ms, "y", true)];
      if (!(left >= bbox.left && left <= bbox.left + bbox.width && top >= bbox.top && top <= bbox.top + bbox.height)) continue;
      ctx.strokeStyle = ctx.fillStyle = colour("bad");
      ctx.lineWidth = 1.5 * ratio;
      ctx.beginPath();
      ctx.moveTo(left - 12 * ratio, top);
      ctx.lineTo(left + 12 * ratio, top);
      ctx.stroke();
      // The curve rises: before the flag and above it is room.
      const before = left - 16 * ratio - ctx.measureText(text).width > bbox.left;
      ctx.textAlign = before ? "right" : "left";
      ctx.textBaseline = "middle";
      ctx.strokeStyle = colour("ground");
      ctx.lineWidth = 4 * ratio;
      for (const write of ["strokeText", "fillText"]) ctx[write](text, left + (before ? -16 : 16) * ratio, top);
    }
    ctx.restore();
  };

  const stepped = uPlot.paths.stepped({ align: 1 });
  const straight = uPlot.paths.linear();

  /** What uPlot needs to draw a chart. */
  const options = (chart, width, hidden, hooks) => {
    const { kind, x, lines, height, format, log, labels } = chart;
    const few = x.length <= 40;
    const axis = {
      stroke: () => colour("soft"), font: FONT, grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false }, gap: 7,
    };
    const time = kind === "time";
    const [first, last] = [x[0] ?? 0, x[x.length - 1] ?? 1];
    return {
      width, height, padding: [22, time ? 10 : 18, 0, 0], legend: { show: false },
      cursor: {
        y: false, sync: time ? { key: "time" } : undefined, drag: { x: time, y: false, dist: 8 },
        points: { size: 7, width: 0, fill: (u, n) => colourOf(lines[n - 1]), stroke: (u, n) => colourOf(lines[n - 1]) },
      },
      scales: {
        x: { time: false, range: (u, min, max) => min === null ? [0, 1] : [min, max > min ? max : min + 1] },
        y: log
          ? { distr: 3, range: (u, min, max) => min === null ? [1, 10] : [10 ** Math.floor(Math.log10(Math.max(min, 0.001))), max * 1.3] }
          : { range: (u, min, max) => [0, topOf(chart, max)] },
      },
      axes: [
        time
          ? {
            ...axis, size: 34, space: 64, incrs: NICE_STEPS, grid: { show: false },
            values: (u, splits) => splits.map(clock),
          }
          : {
            ...axis, size: 34, splits: () => [...NINES.map(([percentile]) => nines(percentile)).filter((n) => n < last - 0.1), last],
            grid: { stroke: () => colour("grid"), width: 1 },
            values: (u, splits) => {
              const gap = u.bbox.width / devicePixelRatio / Math.max(last - first, 1);
              return splits.map((split) => {
                const named = NINES.find(([percentile]) => nines(percentile) === split);
                if (split === last) return labels[labels.length - 1] === "longest" ? "max" : "";
                if (!named || (split === 0 && nines(50) * gap < 44) || (last - split) * gap < 54 || (gap < 44 && named[0] > 90 && named[0] !== 99.9)) return "";
                return named[1];
              });
            },
          },
        {
          ...axis, space: 34,
          size: (u, values) => {
            const widest = (values ?? []).reduce((most, value) => Math.max(most, (value ?? "").length), 0);
            return Math.max(34, Math.ceil(widest * 6.6) + 12);
          },
          values: (u, splits) => log
            ? splits.map((value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9 ? axisValue(format)(value) : "")
            : splits.map(axisValue(format)),
        },
      ],
      series: [{}, ...lines.map((line) => ({
        label: line.label, width: line.width, show: !hidden.has(line.id), stroke: () => colourOf(line),
        dash: line.dash?.map((part) => part * devicePixelRatio),
        fill: line.area ? () => faint(line) : undefined,
        paths: line.stepped ? stepped : straight,
        points: { show: few, size: 5, fill: () => colourOf(line), stroke: () => colourOf(line) },
      }))],
      hooks,
    };
  };

  /** A little above the highest value, and above the thresholds that are near enough to be shown. */
  const topOf = ({ bounds = [] }, max) => {
    const top = max > 0 ? max : 1;
    const near = bounds.map(({ ms }) => ms).filter((ms) => ms <= top * 3);
    return Math.max(top, ...near) * 1.08;
  };

  const axisValue = (format) => (value) => format === milliseconds
    ? value === 0 ? "0" : value >= 1000 ? `${upToTwo.format(value / 1000)} s` : `${plain(value)} ms`
    : value >= 10_000 ? `${upToTwo.format(value / 1000)}k` : plain(value);

  /** A piece of a line. */
  const swatchOf = ({ id, colour: name = id, area, dash, width }) => {
    const swatch = make("span", { class: area ? "swatch area" : "swatch" });
    swatch.style[area ? "background" : "borderColor"] = `var(--${name})`;
    if (dash) {
      swatch.classList.add("run");
      swatch.style.borderTopWidth = `${Math.max(1.5, width * 1.3)}px`;
      let [at, stops] = [0, []];
      dash.forEach((part, n) => { stops.push(`${n % 2 ? "transparent" : "#000"} ${at}px ${at += part}px`); });
      if (stops.length) swatch.style.maskImage = `repeating-linear-gradient(to right, ${stops.join(", ")})`;
    }
    return swatch;
  };

  /** One chart on the page: its figure, which stays, and what is drawn in it. */
  const place = (chart, onZoom) => {
    const titleId = `${chart.id}-title`;
    const at = make("span", { class: "at" });
    const legend = make("div", { class: "legend", role: "group", "aria-label": `Lines of: ${chart.title}` });
    const plot = make("div", { class: "plot", tabindex: "0", role: "slider", "aria-labelledby": titleId, "aria-valuemin": "0" });
    const note = make("figcaption");
    const data = make("div");
    const unit = make("span", { class: "unit" });
    const figure = make("figure", { class: chart.narrow ? "chart third" : "chart", "data-chart": chart.id },
      make("div", { class: "head" }, make("h3", { id: titleId }, chart.title), unit, at), legend, plot, note,
      make("details", {}, make("summary", {}, "As a table"), data));
    const hidden = new Set();
    let [shown, u, values] = [chart, null, []];

    const say = () => {
      const n = u?.cursor.idx;
      const there = known(n) && u.cursor.left >= 0;
      const moment = !there ? "" : shown.kind === "time" ? clock(shown.x[n]) : shown.labels[n];
      at.textContent = moment;
      shown.lines.forEach((line, k) => { values[k].textContent = there ? shown.format(line.values[n]) : ""; });
      plot.setAttribute("aria-valuenow", there ? n : 0);
      const told = shown.lines.filter(({ id, untold }) => !hidden.has(id) && !untold);
      plot.setAttribute("aria-valuetext", there
        ? `${moment}: ${told.map(({ label, values }) => `${label} ${shown.format(values[n])}`).join(", ")}`
        : "no value chosen");
    };

    const point = (n) => {
      const bounded = Math.min(Math.max(n, 0), shown.x.length - 1);
      const value = shown.x[bounded];
      const { min, max } = u.scales.x;
      if (value < min || value > max) {
        const half = (max - min) / 2;
        u.setScale("x", clamp(value - half, value + half));
      }
      u.setCursor({ left: u.valToPos(value, "x"), top: 4 }, true, true);
    };

    const whole = () => [shown.x[0], shown.x[shown.x.length - 1]];
    const clamp = (min, max) => {
      const [first, last] = whole();
      const width = Math.min(max - min, last - first);
      const from = Math.min(Math.max(min, first), last - width);
      return { min: from, max: from + width };
    };
    const zoom = (factor) => {
      const { min, max } = u.scales.x;
      const middle = known(u.cursor.idx) && u.cursor.left >= 0 ? shown.x[u.cursor.idx] : (min + max) / 2;
      const half = Math.max((max - min) * factor / 2, 2.5);
      return clamp(middle - half, middle + half);
    };

    plot.addEventListener("keydown", (event) => {
      if (!u || !shown.x.length || event.ctrlKey || event.metaKey || event.altKey) return;
      const { min, max } = u.scales.x;
      const visible = shown.kind === "time" ? Math.max(max - min, 1) : shown.x.length;
      const step = shown.kind === "time" ? Math.max(1, Math.round(visible / 300)) : 1;
      const here = known(u.cursor.idx) && u.cursor.left >= 0 ? u.cursor.idx : null;
      const by = (n) => point(here === null ? shown.x.findIndex((value) => value >= min) : here + n);
      const keys = {
        ArrowRight: () => by(step), ArrowUp: () => by(step), ArrowLeft: () => by(-step), ArrowDown: () => by(-step),
        PageUp: () => by(Math.ceil(visible / 10)), PageDown: () => by(-Math.ceil(visible / 10)),
        Home: () => point(0), End: () => point(shown.x.length - 1),
        Escape: () => u.setCursor({ left: -10, top: -10 }, true, true),
      };
      if (shown.kind === "time") {
        Object.assign(keys, { "+": () => onZoom(zoom(0.5)), "=": () => onZoom(zoom(0.5)), "-": () => onZoom(zoom(2)), 0: () => onZoom(null) });
      }
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    plot.addEventListener("blur", () => u?.setCursor({ left: -10, top: -10 }, true, true));

    const drawLegend = () => {
      values = shown.lines.map(() => make("span", { class: "value" }));
      legend.replaceChildren(...shown.lines.map((line, k) => {
        const { id, label } = line;
        const button = make("button", { type: "button", "aria-pressed": String(!hidden.has(id)), "data-line": id }, swatchOf(line), label, values[k]);
        button.addEventListener("click", () => {
          hidden.has(id) ? hidden.delete(id) : hidden.add(id);
          button.setAttribute("aria-pressed", String(!hidden.has(id)));
          u.setSeries(k + 1, { show: !hidden.has(id) });
          say();
        });
        return button;
      }));
    };

    const columns = () => [shown.x, ...shown.lines.map(({ values }) => values)];
    const width = () => Math.max(Math.floor(plot.clientWidth), 120);
    // What a drawn chart cannot change any more: of one over time its stretch can, of a distribution nothing but its heights.
    const shape = ({ kind, lines, x, log, bounds = [] }) => JSON.stringify(
      [lines.map(({ id, label }) => [id, label]), x.length <= 40, log, bounds, kind === "time" ? null : [x[0], x[x.length - 1]]]);

    return {
      figure, kind: chart.kind,
      /** Shows a later state of the same chart. */
      show(next) {
        const same = u && shape(next) === shape(shown);
        const zoomed = this.isZoomed();
        shown = next;
        unit.textContent = shown.unit;
        note.textContent = shown.note;
        plot.setAttribute("aria-valuemax", Math.max(shown.x.length - 1, 0));
        data.replaceChildren(tableOf(shown));
        if (same) {
          // Whoever looks closer at a stretch of a run under way goes on looking at it.
          u.setData(columns(), !zoomed);
          if (zoomed) u.redraw();
        } else {
          u?.destroy();
          drawLegend();
          u = new uPlot(options(shown, width(), hidden, {
            drawClear: [(u) => drawMarks(u, shown)], draw: [(u) => drawBounds(u, shown)], setCursor: [say],
            setScale: [(u, key) => { if (key === "x") onZoom(); }],
          }), columns(), plot);
        }
        say();
      },
      /** Fits it to its place, or to `fixed` pixels. */
      fit(fixed) {
        const size = fixed ?? width();
        if (u && u.width !== size) u.setSize({ width: size, height: shown.height });
      },
      redraw() { u?.redraw(false, false); },
      zoomTo(range) {
        const [min, max] = whole();
        if (shown.x.length) u?.setScale("x", range ?? { min, max });
      },
      isZoomed() {
        const { min, max } = u?.scales.x ?? {};
        const [first, last] = whole();
        return known(min) && shown.x.length > 1 && (min > first || max < last);
      },
    };
  };

  // ── Sections ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const ON_DEVNET = "measured on nearbench’s own devnet, which is not NEAR: it shows what this machine and nearbench can do, not what a public network does.";
  const badges = { Passed: "✓", Failed: "✕", Inconclusive: "?" };

  const verdictSection = (report) => {
    const { verdict, reasons, ensure } = report;
    const why = reasons.length
      ? [make("ul", {}, reasons.map((reason) => make("li", {}, reason)))]
      : [make("p", {}, `The load was as scheduled, ${ensure.length === 1 ? "the threshold" : `all ${count(ensure.length)} thresholds`} held, and the chain agrees.`)];
    const lead = { Failed: "The run does not do what was asked of it:", Inconclusive: "These numbers are no result:" }[verdict];
    return [
      make("div", { class: `verdict ${String(verdict).toLowerCase()}` },
        make("div", { class: "badge", "aria-hidden": "true" }, badges[verdict] ?? "?"),
        make("div", {}, make("p", { class: "word" }, verdict), lead && reasons.length ? make("p", {}, lead) : null, why)),
      isDevnet(report)
        ? make("p", { class: "notice" }, `It was ${ON_DEVNET}`)
        : null,
    ].filter(Boolean);
  };

  const figuresSection = (report) => {
    const { results, plan } = report;
    const { tps, transactionsPerSecond, latencyMs: { settle }, audit } = results;
    const aim = target(plan);
    const phase = longestPhase(report);
    const [p95, unit] = settle ? milliseconds(settle.p95).split(" ") : [NONE, null];
    const figure = (title, value, ...lines) => make("div", {}, make("dt", {}, title), make("dd", { class: "value" }, value),
      lines.filter(Boolean).map((line) => make("dd", {}, line)));
    const audited = !audit ? make("span", {}, "None") : make("span", { class: audit.matches ? "good" : "bad" }, audit.matches ? "Matches" : "Differs");
    return [make("dl", { class: "figures" },
      figure("Transfers a second (TPS)", rate(tps.mean),
        `${known(aim) ? `target ${plain(aim)}, ` : ""}peak ${rate(tps.peak)}${phase ? `; mean of ${oneLine(phase.name)}` : ""}`,
        `${rate(transactionsPerSecond.mean)} transactions a second`),
      figure("Success", known(results.successRate) ? [plain(results.successRate), make("small", {}, "%")] : NONE,
        `${count(results.succeeded)} of ${count(results.offered)} offered`),
      figure("Settle latency, p95", unit ? [p95, make("small", {}, unit)] : NONE,
        settle ? `median ${milliseconds(settle.p50)}, p99 ${milliseconds(settle.p99)}` : "nothing was measured"),
      figure("Audit on chain", audited,
        audit ? `${count(audit.transfersFound)} found, ${count(audit.missing)} missing, ${count(audit.doubled)} doubled` : "the chain was not searched"))];
  };

  /** A metric's value with its unit. */
  const unitOf = (metric) => metric.startsWith("latencyMs.") ? " ms" : /Rate$/.test(metric) ? " %" : "";
  const boundText = ({ metric, bound }) => {
    const [, sign, value] = bound.match(/^([<>])= (-?[\d.]+)$/) ?? [];
    return sign ? `${sign === ">" ? "≥" : "≤"} ${plain(Number(value))}${unitOf(metric)}` : bound;
  };

  const thresholdsSection = ({ ensure }) => ensure.length
    ? [table("Thresholds", [
      { title: "Outcome", cell: ({ ok }) => make("span", { class: `mark ${ok ? "good" : "bad"}` }, ok ? "✓ held" : "✕ failed") },
      { title: "Metric", kind: "word-of-ours", header: true, cell: ({ metric }) => metric },
      number("Measured", ({ metric, actual }) => known(actual) ? `${plain(actual)}${unitOf(metric)}` : "no data"),
      number("Bound", boundText),
      text("Of", ({ phase }) => phase ?? "the whole run"),
    ], ensure)]
    : [make("p", { class: "soft" }, "None is set: ensure.thresholds in the manifest says what must hold.")];

  const LATENCIES = [["settle", "Settle", "to finality"], ["execution", "Execution", "to execution in a block"], ["accept", "Accept", "to the queue’s or the API’s answer"], ["sendLag", "Send lag", "to the actual sending"]];

  const latencySection = ({ results, environment }) => {
    const rows = LATENCIES.map(([key, name, what]) => ({ name, what, ...results.latencyMs[key] })).filter(({ mean }) => known(mean));
    if (!rows.length) return [make("p", { class: "soft" }, "No latency was measured.")];
    const columns = [{ title: "Latency", header: true, cell: ({ name }) => name }, text("From the intended arrival", ({ what }) => what),
      ...[["mean", "Mean"], ["p50", "p50"], ["p90", "p90"], ["p95", "p95"], ["p99", "p99"], ["p999", "p99.9"], ["max", "Longest"]]
        .map(([key, title]) => number(title, (row) => milliseconds(row[key])))];
    return [table("Latencies", columns, rows),
      make("p", { class: "soft" }, `Outcomes are asked for only so often: execution and settle latencies may be up to ${milliseconds(environment.pollingErrorMs)} too long.`)];
  };

  const errorsSection = ({ results }) => {
    const rows = Object.entries(results.errors).sort(([, a], [, b]) => b - a);
    if (!rows.length) return [make("p", { class: "soft" }, "None: no request failed and no transfer timed out.")];
    const [most, all] = [rows[0][1], sum(rows.map(([, n]) => n))];
    const bar = (n) => {
      const line = make("i", { "aria-hidden": "true" });
      line.style.width = `${n * 100 / most}%`;
      return line;
    };
    return [table("Errors by type", [
      { ...text("Type", ([label]) => label), header: true },
      number("Count", ([, n]) => count(n)),
      number("Share", ([, n]) => percent(n * 100 / all)),
      { title: make("span", {}, "Of the most frequent"), kind: "bar", cell: ([, n]) => bar(n) },
    ], rows), make("p", { class: "soft" }, "Errors are counted whether or not they were put right: one that was asked again and then succeeded is here, and among the transfers that succeeded.")];
  };

  const phasesSection = (report) => {
    const { results } = report;
    const p = (key) => ({ latencyMs: { settle } }) => milliseconds(settle?.[key]);
    const all = { ...results, name: "the whole run", startMs: 0, durationMs: loadMs(report) };
    const columns = [
      { ...text("Phase", ({ name }) => name), header: true },
      number("From", ({ startMs }) => clock(startMs / 1000)),
      number("Length", ({ durationMs }) => length(durationMs)),
      number("Offered", ({ offered }) => count(offered)),
      number("Succeeded", ({ succeeded }) => count(succeeded)),
      number("Success", ({ successRate }) => percent(successRate)),
      number("TPS", ({ tps }) => rate(tps.mean)),
      number("Peak", ({ tps }) => rate(tps.peak)),
      number("Transactions/s", ({ transactionsPerSecond }) => rate(transactionsPerSecond.mean)),
      number("Batch", ({ batchSize }) => plain(batchSize?.mean)),
      number("Settle p50", p("p50")), number("p95", p("p95")), number("p99", p("p99")),
    ];
    const counts = [["Offered", "offered"], ["Sent", "sent"], ["Not sent", "notSent"], ["Rejected", "rejected"], ["Accepted", "accepted"], ["Included in a block", "included"], ["Succeeded", "succeeded"], ["Failed", "failed"], ["Cancelled", "cancelled"], ["Expired, proven", "expired"], ["Unknown, no proof", "unknown"]];
    return [table("Phases", columns, results.phases, [all]),
      make("p", { class: "soft" }, "A transfer belongs to the phase in which it was meant to arrive. TPS divides by the phase’s length, or by the time that its blocks took where a backlog made that longer; the run’s is its longest phase’s."),
      make("h3", {}, "Where every transfer went"),
      facts(counts.map(([name, key]) => [name, count(results[key])]))];
  };

  const endpointsSection = ({ plan, environment, results }) => {
    const { endpoints } = plan.network;
    const { chain } = environment;
    const served = new Map((results.endpoints ?? []).map((endpoint) => [endpoint.url, endpoint]));
    const did = (title, of) => number(title, ({ url }) => served.has(url) ? of(served.get(url)) : NONE);
    const quantile = (key) => did(key, ({ latencyMs }) => milliseconds(latencyMs?.[key]));
    const columns = served.size ? [
      did("Requests", ({ requests }) => count(requests)),
      did("Said no", ({ endings }) => count(endings.error)),
      did("Refused (429)", ({ endings }) => count(endings.refused)),
      did("Timed out", ({ endings }) => count(endings.timeout)),
      did("Failed", ({ endings }) => count(endings.failed)),
      quantile("p50"), quantile("p95"), quantile("p99"),
      did("Breaker open", ({ breakerOpenMs, breakerOpen }) => breakerOpenMs ? `${milliseconds(breakerOpenMs)}, ${percent(breakerOpen)}` : NONE),
      did("Opened", ({ timesOpened }) => count(timesOpened)),
    ] : [];
    const during = served.size
      ? make("p", { class: "soft" }, "What it did is of the load’s time, told by those who carried transfers to the chain and added up over their processes; latencies are right to 3 %, and hold what requests for an outcome let the node wait. A node that says no is no fault of the endpoint.")
      : null;
    const known = facts([["Chain", chain.chainId], ["Software", chain.software], ["Version", chain.version], ["Protocol", String(chain.protocolVersion)], ["Between blocks", milliseconds(chain.blockTimeMs)]]);
    if (!endpoints.length) {
      const own = served.size ? [table("Endpoints", [{ ...text("Endpoint", ({ url }) => url), header: true }, ...columns], [...served.values()]), during] : [];
      return [make("p", {}, "None is named: the run brought up a devnet of its own."), ...own, known];
    }
    return [table("Endpoints", [
      { ...text("URL", ({ url }) => url), header: true },
      number("Priority", ({ priority }) => count(priority)),
      number("Requests/s, at most", ({ maxRequestsPerSecond }) => maxRequestsPerSecond === null ? "no limit" : count(maxRequestsPerSecond)),
      text("Credentials", ({ authSecret }) => authSecret ? `Secret ${authSecret}` : "none"),
      ...columns,
    ], endpoints), make("p", { class: "soft" }, "The one with the lowest priority is asked, and the next while it is set aside."), during, known].filter(Boolean);
  };

  const auditSection = ({ results: { audit } }) => {
    if (!audit) return [make("p", {}, "The chain was not searched: nothing proves these numbers.")];
    const lead = audit.matches
      ? ["The chain agrees. ", "Every block of the run was walked, apart from what the run believed, and every transfer was found by its id, exactly once, with its amount and receiver."]
      : ["The chain disagrees with the report. ", "Every block of the run was walked, and what was found is not what was reported."];
    return [make("p", { class: "lead" }, make("strong", {}, lead[0]), lead[1]), facts([
      ["Found on chain", count(audit.transfersFound)], ["Missing", count(audit.missing)], ["Doubled", count(audit.doubled)],
      ["Contradicted", count(audit.contradicted)], ["Foreign transactions", count(audit.foreign)],
      ["Receivers’ balances checked", count(audit.receivers)], ["Wrong balances", count(audit.wrongBalances)],
      ["Total supply", audit.supplyConserved ? "conserved" : "NOT conserved"],
    ])];
  };

  const limitSection = ({ results, environment }) => {
    const { limitedBy, signals, restartsByPart } = results;
    const name = { nothing: "Nothing", generator: "The load generator", keys: "Too few access keys", store: "The store", endpoint: "The RPC endpoints", chain: "The chain" }[limitedBy.what] ?? limitedBy.what;
    return [make("p", { class: "lead" }, make("strong", {}, `${name}. `), limitedBy.evidence), facts([
      ...(signals ? [
        ["Of the lanes’ time: nothing to sign", percent(signals.lanesIdle)],
        ["Of the lanes’ time: waiting for the store", percent(signals.storeWait)],
        ["Transfers waited, every lane full", percent(signals.lanesFull)],
        ["Steps of the store, mean", milliseconds(signals.storeLatencyMs?.mean)],
        ["Steps of the store, p99", milliseconds(signals.storeLatencyMs?.p99)],
        ["Requests that endpoints failed", percent(signals.endpointTrouble)],
        ["A breaker was open", signals.breakerOpenMs ? `${percent(signals.breakerOpen)}, ${milliseconds(signals.breakerOpenMs)}` : percent(signals.breakerOpen)],
      ] : []),
      ["Chunks’ gas used, longest phase", percent(results.chunkFill)],
      ["Send lag, p99", milliseconds(results.latencyMs.sendLag?.p99)],
      ["Nonce conflicts", percent(results.nonceConflictRate)],
      ...(restartsByPart
        ? [["The run, resumed", restartsByPart.run], ["Workers started again", restartsByPart.workers], ["Generators started again", restartsByPart.generators]]
          .filter(([, times]) => known(times)).map(([part, times]) => [part, count(times)])
        : [["Processes started again", count(results.restarts)]]),
      ["Kept from the CPUs by a quota", milliseconds(environment.throttledMs)],
      ["CPU time taken by other guests", percent(environment.stealPercent)],
      ["Largest batch", count(results.batchSize?.max)],
    ])];
  };

  const environmentSection = (report) => {
    const { environment: { chain, machine, ...environment }, run } = report;
    return [facts([
      ["nearbench", environment.nearbenchVersion], ["Chain", `${chain.software}, ${chain.version}`], ["Chain id", chain.chainId],
      ["Protocol", String(chain.protocolVersion)], ["Between blocks", milliseconds(chain.blockTimeMs)],
      ["Gas in a chunk", `${count(chain.limits.chunkGasLimit / 1e12)} Tgas`],
      ["Actions in a transaction", `${count(chain.limits.maxActions)} at most`],
      ["A transaction is valid for", `${count(chain.limits.transactionValidityPeriod)} blocks`],
      ["CPUs", `${count(machine.cpus)} × ${machine.cpuModel}`], ["Memory", bytes(machine.memoryBytes)], ["System", machine.os],
      ["Most memory held", bytes(environment.peakRssBytes)],
      ["Provisioning began", day(run.startTime)], ["The load began", day(run.loadStartTime)], ["Report made", day(run.completionTime)],
    ])];
  };

  const MOST_RECEIVERS = 20;

  const againSection = ({ plan }) => {
    const { receivers, network, load, workers, store } = plan;
    const more = receivers.length - MOST_RECEIVERS;
    const shown = more > 0 ? { ...plan, receivers: [...receivers.slice(0, MOST_RECEIVERS), `… and ${count(more)} more, in the file`] } : plan;
    const secrets = [plan.account.masterKeySecret, plan.account.createFrom?.secret, plan.account.keys.prepared?.secret, store.redis?.secret,
      ...network.endpoints.map(({ authSecret }) => authSecret)].filter(Boolean);
    const shared = workers > 1 && !store.redis ? ` --workers ${count(workers).replaceAll(",", "")} --redis-url redis://127.0.0.1:6379` : "";
    const command = [
      "mkdir again && mv ~/Downloads/plan.json again/",
      `nearbench run --plan again${secrets.length ? " --secrets secrets" : ""}${shared} --out out/again`,
    ].join("\n");
    const save = make("button", { type: "button", class: "plain" }, "Save plan.json");
    save.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([JSON.stringify(plan, null, 2), "\n"], { type: "application/json" }));
      make("a", { href: url, download: "plan.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
    const keys = plan.account.keys.generate?.count;
    return [
      make("p", {}, "The report holds the whole plan: the manifest with every default filled in. Save it, and run it again, or run the manifest that it was made of."),
      make("p", {}, save),
      make("pre", { tabindex: "0", "aria-label": "Commands" }, make("code", {}, command)),
      secrets.length ? make("p", { class: "soft" }, `It names Secrets, which are not in it: ${secrets.join(", ")}. Each is a folder of that name under --secrets.`) : null,
      load.via === "external" ? make("p", { class: "soft" }, "The load came from somebody else: they have to send it again.") : null,
      facts([
        ["Profile", network.profile], ["Paying account", plan.account.accountId], ["Access keys", known(keys) ? `${count(keys)}, made for the run` : "prepared"],
        ["Token", plan.token.contractId], ["Receivers", count(receivers.length)], ["Each transfer moves", plan.transferAmount],
        ["Load", { queue: "straight into the queue", http: "over the HTTP API", external: "sent by others" }[load.via] ?? load.via],
        ["Generators", count(load.generators)], ["Workers", count(workers)], ["Batch", `${plan.engine.batch.min} to ${plan.engine.batch.max}, queue ÷ ${plan.engine.batch.depthDivisor}`],
        ["Under way in a lane", `${count(plan.engine.maxInFlightPerKey)} at most`], ["Under way in all", `${count(plan.engine.concurrency)} at most`],
      ]),
      make("details", {}, make("summary", {}, "The plan"),
        make("pre", { class: "long", tabindex: "0", "aria-label": "The plan as JSON" }, make("code", {}, JSON.stringify(shown, null, 2)))),
    ].filter(Boolean);
  };

  // ── A run under way ──────────────────────────────────────────────────────────────────────────────────────────────

  /** What a run does now, where a report has its verdict. */
  const progressSection = ({ stage, phase, percent, remainingMs, message, workers }) => {
    const left = known(remainingMs) ? `; the load ends in ${length(remainingMs)}` : "";
    const bar = make("progress", { max: "100", value: String(percent), "aria-label": "How much of the load’s time is over" });
    return [make("div", { class: "verdict under-way" },
      make("div", { class: "badge", "aria-hidden": "true" }, "●"),
      make("div", { class: "grows" },
        make("p", { class: "word" }, stage),
        phase ? make("p", {}, `${phase}: ${percent} % of the load${left}.`) : null,
        phase ? bar : null,
        message ? make("p", {}, message) : null,
        workers ? make("p", {}, `Workers: ${count(workers.ready)} of ${count(workers.replicas)} ready, ${plural(workers.restarts, "restart")}.`) : null))];
  };

  const liveFiguresSection = ({ tps, target, offered, succeeded, failed, rejected, inFlight, queueDepth, settle }) => {
    const figure = (title, value, line) => make("div", {}, make("dt", {}, title), make("dd", { class: "value" }, value), make("dd", {}, line));
    const [p95, unit] = settle ? milliseconds(settle.p95).split(" ") : [NONE, null];
    const lost = [[failed, "failed"], [rejected, "rejected"]].filter(([n]) => n).map(([n, word]) => `, ${count(n)} ${word}`).join("");
    return [make("dl", { class: "figures" },
      figure("Transfers a second (TPS)", rate(tps), `over the last ten seconds${known(target) ? `; target ${plain(target)}` : ""}`),
      figure("Succeeded", count(succeeded), `of ${count(offered)} offered${lost}`),
      figure("Settle latency, p95", unit ? [p95, make("small", {}, unit)] : NONE, settle ? `median ${milliseconds(settle.p50)}, p99 ${milliseconds(settle.p99)}` : "nothing has settled yet"),
      figure("Under way", count(inFlight), `${count(queueDepth)} of them wait in the queue`))];
  };

  const LIVE_NOTES = {
    throughput: "As counted from look to look; the report will count a transfer in the second of the block that executed it.",
    "latency-over-time": "Of what became final in the ten seconds before.",
    "latency-distribution": "Of all that became final so far.",
    "queue-depth": "The queue at each look.",
    "transactions-a-second": "As counted from look to look.",
    "batch-size": "Succeeded transfers by executed transactions, from look to look.",
  };

  /** What the charts are made of, from what is seen of a run under way. */
  const reportSoFar = ({ phases, series, settle }) => {
    let startMs = 0;
    const stretches = phases.map(({ name, durationMs }) => {
      startMs += durationMs;
      return { name, durationMs, startMs: startMs - durationMs };
    });
    const latencyDistribution = !settle ? [] : [[50, "p50"], [90, "p90"], [95, "p95"], [99, "p99"], [99.9, "p999"], [100, "max"]]
      .map(([percentile, name]) => ({ percentile, ms: settle[name] }));
    return { results: { series, phases: stretches, latencyDistribution, latencyMs: { settle } }, ensure: [] };
  };

  const underWay = (view) => {
    const { name, place, stage, series } = view;
    document.title = `${oneLine(name)}: ${stage} · nearbench`;
    document.querySelector(".kicker").textContent = "nearbench, live";
    document.getElementById("name").textContent = name;
    document.getElementById("meta").textContent = place;
    document.getElementById("footer").textContent = "The report takes the place of this once there is one. All times count from the load’s start.";
    for (const [id, section, shown] of [["verdict", progressSection, true], ["figures", liveFiguresSection, view.phase]]) {
      const element = document.getElementById(id);
      element.hidden = !shown;
      element.replaceChildren(...section(view));
    }
    document.getElementById("charts").hidden = !series.length;
    if (series.length) draw(charts(reportSoFar(view)).map((chart) => ({ ...chart, note: LIVE_NOTES[chart.id] ?? chart.note })));
  };

  /** Shows what whoever served the page tells of a run: each event holds all there is to be seen. */
  const follow = () => {
    const notice = document.getElementById("link");
    const say = (text) => { notice.hidden = !text; notice.textContent = text; };
    for (const section of document.querySelectorAll("main > section")) section.hidden = true;
    say("Waiting for the run.");
    const events = new EventSource("events");
    const told = (show) => ({ data }) => { say(""); show(JSON.parse(data)); };
    const last = (show) => told((what) => { events.close(); show(what); });
    events.addEventListener("view", told(underWay));
    events.addEventListener("report", last(update));
    events.addEventListener("ended", last((why) => say(`The run ended without a report: ${why}`)));
    events.addEventListener("error", () => say("Nothing is heard of the run any more; this is what was last known. It is asked for again and again."));
  };

  // ── Sections of a comparison ─────────────────────────────────────────────────────────────────────────────────────

  const listed = new Intl.ListFormat("en");
  const signed = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" });
  const change = or((percent) => `${signed.format(percent)}\u00a0%`);
  const newRuns = (comparisons) => comparisons.map((comparison, n) => ({ ...comparison, name: letter(n + 1) }));

  const runsSection = ({ runs }) => {
    const devnet = runs.flatMap(({ environment }, n) => /devnet/i.test(environment.chain.software) ? [letter(n)] : []);
    return [
      make("ul", { class: "runs" }, runs.map((run, n) => make("li", {}, swatchOf({ ...looksOf(n), width: 2.5 }), make("strong", {}, letter(n)), make("div", {},
        make("div", {}, make("span", { class: "name" }, run.run.name), n ? null : " is the base"),
        make("div", { class: "soft" }, make("span", { class: `mark ${TONES[run.verdict] ?? ""}` }, `${badges[run.verdict] ?? "?"} ${run.verdict}`),
          ` · ${run.source} · ${day(run.run.loadStartTime ?? run.run.startTime)} · ${length(loadMs(run))} of load`))))),
      devnet.length ? make("p", { class: "notice" }, `${listed.format(devnet)} ${devnet.length === 1 ? "was" : "were"} ${ON_DEVNET}`) : null,
    ].filter(Boolean);
  };
  const TONES = { Passed: "good", Failed: "bad", Inconclusive: "doubt" };

  /** A path that may go on in the next line after each of its dots. */
  const path = (field) => field.split(".").flatMap((part, n) => n ? [".", make("wbr"), part] : [part]);

  /** What differs: a row for each field and a column for each run. */
  const differing = (comparisons, key, agree) => {
    const news = newRuns(comparisons);
    const those = news.filter((comparison) => comparison[key]);
    if (!those.length) return [make("p", { class: "agrees" }, agree)];
    const rows = new Map();
    for (const { name, [key]: { fields } } of those) {
      for (const { field, base, new: value } of fields) rows.set(field, { field, base, ...rows.get(field), [name]: value });
    }
    const { what } = those[0][key];
    return [
      make("p", { class: "differs" }, make("strong", { "aria-hidden": "true" }, "≠"), what),
      table(what, [
        { title: "Field", header: true, kind: "field", cell: ({ field }) => path(field) }, text("A", ({ base }) => base),
        ...news.map(({ name }) => text(name, (row) => row[name] ?? make("span", { class: "soft" }, "as A"))),
      ], [...rows.values()]),
      ...those.filter((comparison) => comparison[key].more).map(({ name, [key]: { more } }) => make("p", { class: "soft" }, `Of ${name}: ${more}`)),
    ];
  };
  const differencesSection = ({ comparisons }) => [
    ...differing(comparisons, "plan", "The plans agree: the same was asked for."),
    ...differing(comparisons, "environment", "The environments agree in version, chain and machine."),
  ];

  const OUTCOMES = {
    noRegression: { tone: "passed", badge: "✓", word: "No regression" }, regression: { tone: "failed", badge: "✕", word: "Regression" },
    noResult: { tone: "inconclusive", badge: "?", word: "No result" },
  };
  const FINDINGS = { held: ["good", "✓"], chance: ["doubt", "?"], regression: ["bad", "✕"], untestedRegression: ["bad", "✕"], notJudged: ["", ""] };

  const outcomeSection = ({ runs, comparisons, tolerancePercent }) => newRuns(comparisons).map(({ name, outcome, remarks, changes }, n) => {
    const { tone, badge, word } = OUTCOMES[outcome];
    const found = (...kinds) => changes.filter(({ finding }) => kinds.includes(finding))
      .map(({ measure, base, new: value, percent, told }) => `${measure}: ${rate(base)} → ${rate(value)}, ${change(percent)}: ${told}`);
    const chance = found("chance");
    const why = [...remarks, ...found("regression", "untestedRegression"), ...chance];
    const good = `Nothing that is judged is worse by more than ${plain(tolerancePercent)} %${chance.length ? " but what may be chance:" : "."}`;
    return make("div", { class: `verdict ${tone}` },
      make("div", { class: "badge", "aria-hidden": "true" }, badge),
      make("div", {}, make("p", { class: "word" }, word), make("p", {}, `${name}, ${oneLine(runs[n + 1].run.name)}, beside A, ${oneLine(runs[0].run.name)}`),
        outcome === "noRegression" ? make("p", {}, good) : null, why.length ? make("ul", {}, why.map((line) => make("li", {}, line))) : null));
  });

  const changesSection = ({ comparisons }) => {
    const news = newRuns(comparisons);
    const mark = ({ finding, told }) => {
      const [tone, sign] = FINDINGS[finding];
      return make("span", { class: `mark ${tone}` }, `${sign} ${told}`.trim());
    };
    // Of several, all that is said of one is in one column: side by side it would not fit.
    const one = ({ name, changes }) => [
      number(name, (n) => rate(changes[n].new)), number("Change", (n) => change(changes[n].percent)),
      { title: "Finding", kind: "finding", cell: (n) => mark(changes[n]) },
    ];
    const several = ({ name, changes }) => ({
      title: name, kind: "number stacked",
      cell: (n) => [
        rate(changes[n].new), make("span", { class: "soft" }, change(changes[n].percent)),
        changes[n].finding === "held" ? mark(changes[n]) : [make("span", { class: "mark" }), make("div", {}, mark(changes[n]))],
      ].flat(),
    });
    return [table("What changed", [
      { title: "Measure", kind: "field", header: true, cell: (n) => path(news[0].changes[n].measure) },
      number("A", (n) => rate(news[0].changes[n].base)), ...(news.length > 1 ? news.map(several) : one(news[0])),
    ], news[0].changes.map((_, n) => n))];
  };

  const testsSection = ({ comparisons, explanation }) => {
    const news = newRuns(comparisons);
    const rows = news.flatMap(({ name, tests }) => tests.map((test) => ({ ...test, name })));
    const [which, other] = news.length > 1 ? [[{ title: "Runs", kind: "word-of-ours", cell: ({ name }) => `${name} beside A` }], "the other"] : [[], news[0].name];
    return [make("p", {}, explanation), table("Statistical tests", [
      { title: "Series", kind: "word-of-ours", header: true, cell: ({ title }) => title }, ...which,
      text("Phase", ({ phase }) => phase),
      number("Blocks of A", ({ base }) => count(base.blocks)), number(`of ${other}`, (test) => count(test.new.blocks)),
      number("Mean of A", ({ base }) => rate(base.mean)), number(`of ${other}`, (test) => rate(test.new.mean)),
      text("Chance", ({ chance }) => chance),
    ], rows)];
  };

  // ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const SECTIONS = {
    verdict: verdictSection, figures: figuresSection, thresholds: thresholdsSection, latency: latencySection, errors: errorsSection,
    phases: phasesSection, endpoints: endpointsSection, audit: auditSection, limit: limitSection, environment: environmentSection, again: againSection,
  };
  const COMPARED = {
    runs: runsSection, differences: differencesSection, verdict: outcomeSection, changes: changesSection, tests: testsSection,
  };
  /** The width of a chart on paper: what A4 leaves between its margins. */
  const PAPER = 680;

  const placed = new Map();
  const zoomOut = document.getElementById("zoom-out");
  const times = () => [...placed.values()].filter(({ kind }) => kind === "time");
  let zooming = false;

  /** All time charts show the same stretch; without an argument, tells whether it is the whole run. */
  const onZoom = (range) => {
    if (zooming) return;
    zooming = true;
    if (range !== undefined) times().forEach((chart) => chart.zoomTo(range));
    zooming = false;
    requestAnimationFrame(() => { zoomOut.hidden = !times().some((chart) => chart.isZoomed()); });
  };
  zoomOut.addEventListener("click", () => {
    onZoom(null);
    document.getElementById("charts").focus();
  });

  const update = (report) => {
    const { run, verdict, environment } = report;
    document.title = `${oneLine(run.name)}: ${verdict} · nearbench`;
    document.getElementById("name").textContent = run.name;
    document.getElementById("meta").textContent = [day(run.loadStartTime ?? run.startTime), `${length(loadMs(report))} of load`, environment.chain.software].join(" · ");
    document.getElementById("footer").textContent = `Made by nearbench ${environment.nearbenchVersion}.${run.loadStartTime ? ` All times count from the load’s start, ${day(run.loadStartTime)}.` : ""}`;
    document.querySelector(".kicker").textContent = "nearbench report";
    fill(SECTIONS, report);
    draw(charts(report), "This report has no series by the second.");
  };

  const compare = (comparison) => {
    const { runs, comparisons, nearbenchVersion } = comparison;
    const base = runs[0].run.name;
    const others = new Set(runs.map(({ run }) => run.name).filter((name) => name !== base));
    const title = !others.size ? base : `${others.size > 3 ? `${count(runs.length - 1)} runs` : listed.format(others)} beside ${base}`;
    document.title = `${oneLine(title)}: ${listed.format(new Set(comparisons.map(({ outcome }) => OUTCOMES[outcome].word.toLowerCase())))} · nearbench`;
    document.getElementById("name").textContent = title;
    document.getElementById("meta").textContent = `${count(runs.length)} runs, measured by A`;
    document.getElementById("footer").textContent = `Made by nearbench ${nearbenchVersion}. All times count from each load’s start.`;
    fill(COMPARED, comparison);
    draw(overlay(runs), "None of these reports has a series by the second.");
  };

  const fill = (sections, shown) => {
    for (const [id, section] of Object.entries(sections)) {
      const element = document.getElementById(id);
      element.hidden = false;
      (element.querySelector(":scope > .content") ?? element).replaceChildren(...section(shown));
    }
  };

  /** Shows these charts, each where it was. `without` is said where nothing is by the second. */
  const draw = (now, without) => {
    const content = document.querySelector("#charts > .content");
    const series = now.some(({ kind, x }) => kind === "time" && x.length);
    document.getElementById("charts").hidden = false;
    document.getElementById("zoom-hint").hidden = !series;
    if (!series) {
      now.splice(0, now.length, ...now.filter(({ kind, x }) => kind !== "time" && x.length));
      if (!content.querySelector(".soft")) content.prepend(make("p", { class: "soft" }, without));
    }
    if (!content.querySelector(".grid")) content.append(make("div", { class: "grid" }));
    for (const chart of now) {
      if (!placed.has(chart.id)) {
        placed.set(chart.id, place(chart, onZoom));
        content.querySelector(".grid").append(placed.get(chart.id).figure);
        resized.observe(placed.get(chart.id).figure);
      }
      placed.get(chart.id).show(chart);
    }
    onZoom();
  };

  const each = (what) => placed.forEach(what);
  const print = matchMedia("print");
  const fit = () => each((chart) => chart.fit(print.matches ? PAPER : undefined));
  const resized = new ResizeObserver(fit);
  const repaint = () => {
    fit();
    each((chart) => chart.redraw());
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  print.addEventListener("change", repaint);
  addEventListener("beforeprint", () => each((chart) => { chart.fit(PAPER); chart.redraw(); }));
  addEventListener("afterprint", repaint);

  return { update, compare, follow };
})();

{
  const held = document.querySelector("script[type='application/json']");
  const show = { report: page.update, comparison: page.compare, live: page.follow }[held.id];
  show(JSON.parse(held.textContent));
}
