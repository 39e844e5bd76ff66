// Reports to draw, made of numbers that look like a run's; the same at every call.

/** Values from 0 to 1 that look random (mulberry32). */
const noise = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

const counts = (offered, { failed = 0, rejected = 0, notSent = 0, unknown = 0 } = {}) => {
  const sent = offered - notSent;
  const accepted = sent - rejected;
  return {
    offered, sent, notSent, rejected, accepted, included: accepted - unknown, succeeded: accepted - unknown - failed, failed,
    cancelled: 0, expired: 0, unknown,
  };
};

const latency = (p50) => ({ mean: p50 * 1.03, p50, p90: p50 * 1.3, p95: p50 * 1.5, p99: p50 * 2.2, p999: p50 * 4, max: p50 * 9 });

const distribution = (p50) => {
  const points = [];
  for (let halving = 0; halving < 17; halving += 1) {
    for (const left of [100 / 2 ** halving, 75 / 2 ** halving]) {
      const percentile = 100 - left;
      points.push({ percentile, ms: p50 * (0.7 + 0.3 * Math.log2(100 / left)) });
    }
  }
  return [...points, { percentile: 100, ms: points.at(-1).ms * 1.1 }];
};

const measures = (offered, seconds, losses) => {
  const of = counts(offered, losses);
  return {
    ...of,
    tps: { mean: of.succeeded / seconds, peak: of.succeeded / seconds * 1.04 },
    transactionsPerSecond: { mean: of.succeeded / seconds / 4, peak: of.succeeded / seconds / 3.8 },
    successRate: offered ? of.succeeded * 100 / offered : null,
    latencyMs: { settle: latency(1900), execution: latency(1100), accept: latency(12), sendLag: latency(1.5) },
    batchSize: { mean: 4.02, max: 19 },
  };
};

const ENDPOINTS = [
  { url: "https://rpc.example.com/v1", priority: 0, maxRequestsPerSecond: 200, authSecret: "rpc-token" },
  { url: "https://archival.example.org", priority: 1, maxRequestsPerSecond: null, authSecret: null },
];

/** A report of a run of `seconds`. */
export const report = ({ seconds = 780, name = "ft-200tps", losses = {}, errors = {}, phaseNames = ["ramp", "sustain", "cooldown"], ...over } = {}) => {
  const random = noise(7);
  const lengths = [Math.max(1, Math.floor(seconds * 0.15)), 0, Math.max(1, Math.floor(seconds * 0.08))];
  lengths[1] = seconds - lengths[0] - lengths[2];
  const rateAt = (second) => second < lengths[0] ? 50 + 150 * second / lengths[0] : second < lengths[0] + lengths[1] ? 202 : 50;
  const series = [];
  let queue = 0;
  for (let second = 0; second < seconds + Math.min(6, seconds); second += 1) {
    const offered = second < seconds ? Math.round(rateAt(second)) : 0;
    const trouble = second > seconds * 0.55 && second < seconds * 0.6;
    queue = Math.max(0, trouble ? queue + 4 : queue * 0.7 + random() * 8);
    const accepted = offered ? offered - Math.floor(random() * 3) : 0;
    const succeeded = second < 2 ? 0 : Math.round(rateAt(Math.max(0, second - 2)) * (second % 3 ? 0.9 : 1.2) * (second < seconds ? 1 : 0.4));
    series.push({
      second, offered, sent: offered, accepted, rejected: losses.rejected ? Math.floor(random() * 2) : 0, succeeded,
      failed: losses.failed ? Math.floor(random() * 2) : 0, transactions: Math.ceil(succeeded / (3.5 + random())),
      settleMeanMs: second < 2 ? null : 1900 + random() * 300 + (trouble ? 1500 : 0),
      settleMaxMs: second < 2 ? null : 2600 + random() * 900 + (trouble ? 4000 : 0), queueDepth: Math.round(queue),
    });
  }
  const arrivals = [{ ramp: { from: 50, to: 200 } }, { rate: 202 }, { rate: 50 }];
  let start = 0;
  const phases = phaseNames.map((phase, n) => {
    const offered = series.slice(start, start + lengths[n]).reduce((all, point) => all + point.offered, 0);
    start += lengths[n];
    return { name: phase, startMs: (start - lengths[n]) * 1000, durationMs: lengths[n] * 1000, ...measures(offered, lengths[n], n === 1 ? losses : {}) };
  });
  const offered = phases.reduce((all, phase) => all + phase.offered, 0);
  const results = {
    ...measures(offered, seconds, losses), tps: phases[1].tps, transactionsPerSecond: phases[1].transactionsPerSecond,
    latencyDistribution: distribution(1900), errors, nonceConflictRate: 0.02, restarts: 1,
    restartsByPart: { run: null, workers: 1, generators: 0 },
    signals: {
      lanesIdle: 41.3, lanesFull: 0.6, storeWait: 7.9, storeLatencyMs: latency(1.9), endpointTrouble: 0.31, breakerOpenMs: 30_000, breakerOpen: 0.96,
    },
    endpoints: (over.endpoints ?? ENDPOINTS).map(({ url }, n) => ({
      url, requests: n ? 812 : 412_207, endings: { ok: n ? 812 : 410_903, error: n ? 0 : 26, refused: n ? 0 : 118, timeout: n ? 0 : 1147, failed: n ? 0 : 13 },
      latencyMs: latency(24), breakerOpenMs: n ? 0 : 30_000, breakerOpen: n ? 0 : 0.96, timesOpened: n ? 0 : 1,
    })),
    limitedBy: { what: "nothing", evidence: "202.0 of 202.0 transfers/s succeeded: the run was as fast as it was asked to be" },
    chunkFill: 22.17, phases, series,
    audit: {
      matches: true, transfersFound: counts(offered, losses).succeeded, missing: 0, doubled: 0, foreign: 0, contradicted: 0, receivers: 100,
      wrongBalances: 0, supplyConserved: true,
    },
    ...over.results,
  };
  return {
    apiVersion: "nearbench.dev/v1alpha1", kind: "BenchmarkReport",
    run: { name, startTime: "2026-03-02T09:58:31.017Z", loadStartTime: "2026-03-02T10:00:00.000Z", completionTime: "2026-03-02T10:13:20.315Z" },
    environment: {
      nearbenchVersion: "0.1.0",
      chain: {
        software: "nearcore", version: "2.9.0", chainId: "testnet", protocolVersion: 86, blockTimeMs: 601.2,
        limits: { protocolVersion: 86, maxActions: 100, maxTotalPrepaidGas: 1e15, maxTransactionSize: 1572864, chunkGasLimit: 1e15, transactionValidityPeriod: 86400 },
      },
      machine: { cpus: 8, memoryBytes: 33_554_432_000, os: "linux 6.12", cpuModel: "AMD EPYC 9354" },
      throttledMs: 0, stealPercent: 0.21, pollingErrorMs: 25.3, peakRssBytes: 134_443_008,
      ...over.environment,
    },
    plan: {
      name,
      network: {
        profile: "testnet", chainId: "testnet",
        endpoints: over.endpoints ?? ENDPOINTS,
      },
      account: { accountId: "ft-benchmark.testnet", createFrom: null, masterKeySecret: "payer", keys: { generate: { count: 12 } }, minBalance: "20 NEAR" },
      token: { contractId: "ft.ft-benchmark.testnet", deploy: null },
      receivers: Array.from({ length: 100 }, (_, n) => `user-${n}.ft-benchmark.testnet`), transferAmount: "1", store: "own",
      load: {
        via: "queue", generators: 2, timeoutMs: 60000, connections: 100, maxSockets: 200, maxSendLagMs: 1000,
        phases: phaseNames.map((phase, n) => ({ name: phase, durationMs: lengths[n] * 1000, arrivals: arrivals[n], maxVusers: null })),
      },
      workers: 4,
      engine: {
        concurrency: 300, maxInFlightPerKey: 5, maxTps: 0, batch: { min: 1, max: 20, depthDivisor: 10 },
        breaker: { timeoutMs: 5000, errorThresholdPercentage: 50, resetTimeoutMs: 30000 }, gasPerTransfer: 3e12, maxQueueDepth: 100000,
      },
      ensure: { thresholds: [], maxErrorRate: null }, cleanup: "Always", activeDeadlineMs: null,
    },
    results,
    ensure: over.ensure ?? [
      { metric: "tps.mean", phase: phaseNames[1], bound: ">= 200", actual: phases[1].tps.mean, ok: true },
      { metric: "latencyMs.settle.p95", phase: null, bound: "<= 5000", actual: 2850, ok: true },
      { metric: "errorRate", phase: null, bound: "<= 5", actual: 0, ok: true },
    ],
    verdict: over.verdict ?? "Passed",
    reasons: over.reasons ?? [],
  };
};

/** The same run on a slower day: every settle latency is `factor` times as long. */
export const slower = (made, factor) => {
  const times = (values, keys) => ({ ...values, ...Object.fromEntries(keys.map((key) => [key, values[key] === null ? null : values[key] * factor])) });
  const settle = ({ latencyMs, ...of }) => ({ ...of, latencyMs: { ...latencyMs, settle: times(latencyMs.settle, Object.keys(latencyMs.settle)) } });
  const { phases, series, latencyDistribution: distribution, ...results } = made.results;
  return {
    ...made,
    results: {
      ...settle(results), phases: phases.map(settle), latencyDistribution: distribution.map((point) => times(point, ["ms"])),
      series: series.map((point) => times(point, ["settleMeanMs", "settleMaxMs"])),
    },
  };
};

/** A shorter run of something else, elsewhere. */
export const other = (name = "ft-200tps, 3 keys") => {
  const made = report({ seconds: 420, name });
  made.plan.account.keys.generate.count = 3;
  made.environment.machine.cpus = 4;
  return made;
};

/** What a page must show as the text that it is. */
export const HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">\nsecond\u2028line {{script}} <!--";

/** The same, of which `step` seconds are one point, as in a ConfigMap. */
export const thinned = (step, over) => {
  const made = report(over);
  const points = new Map();
  for (const { second, ...point } of made.results.series) {
    const first = second - second % step;
    const known = points.get(first);
    points.set(first, known ? {
      ...known, ...Object.fromEntries(["offered", "sent", "accepted", "rejected", "succeeded", "failed", "transactions"].map((name) => [name, known[name] + point[name]])),
      settleMaxMs: Math.max(known.settleMaxMs, point.settleMaxMs), queueDepth: Math.max(known.queueDepth, point.queueDepth),
    } : { second: first, ...point });
  }
  made.results.series = [...points.values()];
  made.results.seriesStepSeconds = step;
  return made;
};

/** A report whose every free text is hostile; and one of an earlier version, without its distribution. */
export const hostile = () => {
  const made = report({
    seconds: 120, name: HOSTILE, phaseNames: [`${HOSTILE} 1`, `${HOSTILE} 2`, `${HOSTILE} 3`], losses: { failed: 40, rejected: 25, unknown: 3 },
    errors: { [HOSTILE]: 812, timeout: 97, "429": 12 }, verdict: "Failed", reasons: [HOSTILE, "tps.mean in sustain must be >= 200, and it is 198.20"],
    endpoints: [{ url: `https://x/${HOSTILE}`, priority: 0, maxRequestsPerSecond: 5, authSecret: HOSTILE }],
    ensure: [
      { metric: "tps.mean", phase: HOSTILE, bound: `>= 200 ${HOSTILE}`, actual: 198.2, ok: false },
      { metric: "latencyMs.settle.p99", phase: null, bound: "<= 5000", actual: null, ok: false },
    ],
    results: {
      limitedBy: { what: "endpoint", evidence: HOSTILE },
      audit: { matches: false, transfersFound: 20_000, missing: 2, doubled: 0, foreign: 1, contradicted: 0, receivers: 100, wrongBalances: 2, supplyConserved: false },
    },
  });
  made.environment.chain = { ...made.environment.chain, software: HOSTILE, version: HOSTILE, chainId: HOSTILE };
  made.environment.machine = { ...made.environment.machine, os: HOSTILE, cpuModel: HOSTILE };
  for (const later of ["latencyDistribution", "signals", "restartsByPart"]) delete made.results[later];
  return made;
};

/** A run that was stopped before anything happened. */
export const empty = () => {
  const nothing = report({ seconds: 10, name: "stopped", verdict: "Inconclusive", reasons: ["the run was stopped before its load was over"], ensure: [] });
  const none = {
    ...measures(0, 1), latencyMs: { settle: null, execution: null, accept: null, sendLag: null }, batchSize: null, successRate: null,
  };
  nothing.results = {
    ...nothing.results, ...none, phases: nothing.results.phases.map((phase) => ({ ...phase, ...none })), nonceConflictRate: null, chunkFill: null, audit: null,
    endpoints: [], signals: { lanesIdle: null, lanesFull: null, storeWait: null, storeLatencyMs: null, endpointTrouble: null, breakerOpenMs: null, breakerOpen: null },
    latencyDistribution: [], series: [],
  };
  nothing.run.loadStartTime = null;
  return nothing;
};
