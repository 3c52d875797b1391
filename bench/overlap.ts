/**
 * The pause of the backend between steps with one step in flight and with two (`--max-in-flight`): the same requests by two engines in turn.
 *
 *   npx tsx bench/overlap.ts [MODEL] [--rows 1,8,32] [--tokens N] [--runs N] [--num-threads N]
 *
 * Without a model, random weights in the shape of Qwen2.5-0.5B (Q4_0). A step's pause is the time that it took, from the first token of the last request to
 * the end, less the time that the backend worked on it. Medians of the runs; both must say the same.
 */
import { parseArgs } from 'node:util';
import { percentile } from '../src/bench/statistics.ts';
import { type LoadedEngine, loadEngine } from '../src/engine/load.ts';
import { halfBillionFolder } from '../test/fixtures/half-billion.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '1,8,32' },
    tokens: { type: 'string', default: '64' },
    runs: { type: 'string', default: '5' },
    'num-threads': { type: 'string' },
  },
});
const numTokens = Number(values.tokens);
const shape = positionals.length === 0 ? halfBillionFolder() : null;
const inFlight = [1, 2] as const;

interface Outcome {
  readonly stepMs: number;
  readonly pauseMs: number;
  readonly hostMs: number;
  readonly tokensPerSecond: number;
  readonly said: string;
}

async function decode(engine: LoadedEngine, rows: number): Promise<Outcome> {
  let before = { numSteps: 0, totalForwardMs: 0, totalHostMs: 0, ms: 0 };
  let started = 0;
  const ask = async (row: number) => {
    const promptTokenIds = Array.from({ length: 16 }, (_, i) => 100 + ((row * 997 + i * 31) % 5000));
    const ids: number[] = [];
    for await (const { tokenIds } of engine.generate({ promptTokenIds }, { maxTokens: numTokens, temperature: 0, ignoreEos: true })) {
      if (ids.length === 0 && ++started === rows) {
        const { numSteps, totalForwardMs, totalHostMs } = engine.totals;
        before = { numSteps, totalForwardMs, totalHostMs, ms: performance.now() };
      }
      ids.push(...tokenIds);
    }
    return ids.join(' ');
  };
  const said = await Promise.all(Array.from({ length: rows }, (_, row) => ask(row)));
  const ms = performance.now() - before.ms;
  const { numSteps, totalForwardMs, totalHostMs } = engine.totals;
  const steps = numSteps - before.numSteps;
  return {
    stepMs: ms / steps,
    pauseMs: (ms - (totalForwardMs - before.totalForwardMs)) / steps,
    hostMs: (totalHostMs - before.totalHostMs) / steps,
    tokensPerSecond: (1000 * rows * steps) / ms,
    said: said.join('\n'),
  };
}

function open(maxInFlight: number): Promise<LoadedEngine> {
  return loadEngine({
    model: shape?.path ?? positionals[0],
    ...(shape === null ? {} : ({ loadFormat: 'dummy', weightFormat: 'q4_0' } as const)),
    maxModelLen: 512,
    maxNumSeqs: 64,
    enablePrefixCaching: false,
    kvCacheMemoryBytes: 512 * 2 ** 20,
    maxInFlight,
    ...(values['num-threads'] === undefined ? {} : { numThreads: Number(values['num-threads']) }),
  });
}

const engines: LoadedEngine[] = [];
try {
  for (const count of inFlight) engines.push(await open(count));
  for (const engine of engines) await decode(engine, 2);
  for (const rows of values.rows.split(',').map(Number)) {
    const outcomes: Outcome[][] = engines.map(() => []);
    for (let run = 0; run < Number(values.runs); run++) {
      const order = run % 2 === 0 ? [0, 1] : [1, 0];
      for (const at of order) outcomes[at].push(await decode(engines[at], rows));
      if (outcomes[0][run].said !== outcomes[1][run].said) throw new Error('the answers differ');
    }
    const median = (at: number, what: Exclude<keyof Outcome, 'said'>) => {
      const all = outcomes[at].map((outcome) => outcome[what]);
      return percentile(all, 50);
    };
    for (const [at, count] of inFlight.entries()) {
      console.log(
        `${rows} rows, ${count} in flight: step ${median(at, 'stepMs').toFixed(2)} ms, of which the backend pauses ${median(at, 'pauseMs').toFixed(3)} ms; JavaScript ${median(at, 'hostMs').toFixed(3)} ms; ${median(at, 'tokensPerSecond').toFixed(1)} tokens/s`,
      );
    }
    const gains = outcomes[0].map(({ tokensPerSecond }, run) => outcomes[1][run].tokensPerSecond / tokensPerSecond);
    console.log(
      `  two in flight are ${percentile(gains, 50).toFixed(3)} times as fast (${gains.map((gain) => gain.toFixed(3)).join(', ')}); the same answers`,
    );
  }
} finally {
  for (const engine of engines) await engine.close();
  shape?.remove();
}
