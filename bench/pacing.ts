/**
 * Times between tokens and throughput under a mixed load, without and with `--target-itl-ms`.
 *
 *   npx tsx bench/pacing.ts [MODEL] [--target-itl-ms T] [--requests N] [--concurrency N] [--max-num-batched-tokens N] [--runs N]
 *
 * Without a model, random weights in the shape of Qwen2.5-0.5B (Q8_0). Without a target, 3.5 times the median gap of as many rows that only decode: far below a step
 * full of prompt, and feasible, since prompts then need no more steps than the outputs do, whose cost per step is paid anyway. A third of the requests bring 256 to 768 prompt tokens, the others 16 to 64; each writes 32. The two engines run the same
 * requests in turn; both must say the same.
 */
import { parseArgs } from 'node:util';
import { percentile } from '../src/bench/statistics.ts';
import { loadEngine } from '../src/engine/load.ts';
import { halfBillionFolder } from '../test/fixtures/half-billion.ts';
import { numbers } from '../test/fixtures/schedule-trace.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'target-itl-ms': { type: 'string' },
    requests: { type: 'string', default: '48' },
    concurrency: { type: 'string', default: '8' },
    'max-num-batched-tokens': { type: 'string', default: '512' },
    runs: { type: 'string', default: '3' },
  },
});
const OUTPUT_TOKENS = 32;
/** Target over the median gap of rows that only decode. */
const FEASIBLE = 3.5;
const concurrency = Number(values.concurrency);
const shape = positionals.length === 0 ? halfBillionFolder() : null;
const model = shape?.path ?? positionals[0];

interface Outcome {
  gaps: number[];
  tokensPerSecond: number;
  /** First ids of each answer. */
  said: string[];
  limited: string;
}

async function serve(prompts: readonly number[][], targetItlMs: number | null): Promise<Outcome> {
  const dummy = shape === null ? {} : ({ loadFormat: 'dummy', weightFormat: 'q8_0' } as const);
  const engine = await loadEngine({
    model,
    ...dummy,
    maxModelLen: 1024,
    maxNumSeqs: concurrency,
    maxNumBatchedTokens: Number(values['max-num-batched-tokens']),
    enablePrefixCaching: false,
    ...(targetItlMs === null ? {} : { targetItlMs }),
  });
  try {
    await engine.generate({ promptTokenIds: [1, 2, 3] }, { maxTokens: 4, temperature: 0, ignoreEos: true });
    const gaps: number[] = [];
    engine.onFinished(({ interTokenMs }) => gaps.push(...interTokenMs));
    const said: string[] = [];
    let next = 0;
    const startMs = performance.now();
    const client = async () => {
      while (next < prompts.length) {
        const index = next++;
        const { choices } = await engine.generate({ promptTokenIds: prompts[index] }, { maxTokens: OUTPUT_TOKENS, temperature: 0, ignoreEos: true });
        said[index] = choices[0].tokenIds.join(' ');
      }
    };
    await Promise.all(Array.from({ length: concurrency }, client));
    const seconds = (performance.now() - startMs) / 1000;
    const tokens = prompts.reduce((sum, prompt) => sum + prompt.length + OUTPUT_TOKENS, 0);
    const { pacing } = engine.stats();
    const limited =
      pacing === null
        ? ''
        : `; ${pacing.numLimitedSteps} steps limited, ${pacing.stepMs.toFixed(1)} ms a step + ${pacing.decodeRowMs.toFixed(2)} a row + ${pacing.promptTokenMs.toFixed(2)} a prompt token`;
    return { gaps, tokensPerSecond: tokens / seconds, said, limited };
  } finally {
    await engine.close();
  }
}

function promptsOf(count: number, lengthOf: (draw: () => number) => number): number[][] {
  const draw = numbers(17);
  return Array.from({ length: count }, () => Array.from({ length: Math.floor(lengthOf(draw)) }, () => 100 + Math.floor(5000 * draw())));
}

function line(name: string, { gaps, tokensPerSecond, limited }: Outcome): string {
  const [p50, p99] = [percentile(gaps, 50), percentile(gaps, 99)].map((ms) => ms.toFixed(0));
  return `${name.padEnd(18)} gaps p50 ${p50} ms, p99 ${p99} ms; ${tokensPerSecond.toFixed(1)} tokens/s, prompts included${limited}`;
}

try {
  const given = values['target-itl-ms'];
  let target = Number(given);
  if (given === undefined) {
    const decode = await serve(
      promptsOf(concurrency, () => 8),
      null,
    );
    console.log(line('decode alone', decode));
    target = Math.ceil(FEASIBLE * percentile(decode.gaps, 50));
  }
  const mixed = promptsOf(Number(values.requests), (draw) => (draw() < 1 / 3 ? 256 + 512 * draw() : 16 + 48 * draw()));
  const overs: number[] = [];
  const shares: number[] = [];
  for (let run = 0; run < Number(values.runs); run++) {
    // in turn, each first every other time
    const isFreeFirst = run % 2 === 0;
    const first = await serve(mixed, isFreeFirst ? null : target);
    const second = await serve(mixed, isFreeFirst ? target : null);
    const [free, paced] = isFreeFirst ? [first, second] : [second, first];
    console.log(line('no target', free));
    console.log(line(`target ${target} ms`, paced));
    if (paced.said.join() !== free.said.join()) throw new Error('the answers differ');
    overs.push(percentile(paced.gaps, 99) / target);
    shares.push(paced.tokensPerSecond / free.tokensPerSecond);
  }
  const [over, share] = [percentile(overs, 50), percentile(shares, 50)];
  const verdict = over <= 1.3 && share >= 0.9 ? 'met' : 'NOT met';
  const all = (values: readonly number[], digits: number) => values.map((value) => value.toFixed(digits)).join(', ');
  console.log(
    `median of ${overs.length}: p99 is ${over.toFixed(2)} of the target (${all(overs, 2)}; 1.3 allowed), throughput ${(100 * share).toFixed(1)} % (${all(shares, 3)}; 90 wanted): ${verdict}; the same answers`,
  );
} finally {
  shape?.remove();
}
