/** How long a model takes from its files to an engine that answers: reading, repacking for the kernels, and the first token. */
import { type Clock, realClock } from '../base/clock.ts';
import type { Engine } from '../engine/engine.ts';
import { type Spread, spread } from './statistics.ts';

export interface LoadReport {
  /** Bytes of weights in memory. */
  readonly weightBytes: number;
  /** Of each load, in order: the first may find files that are not in the page cache. */
  readonly seconds: readonly number[];
  readonly spread: Spread;
  /** Seconds from a loaded engine to its first token. */
  readonly firstToken: Spread;
}

/** Opens and closes the engine `repetitions` times. */
export async function benchLoad(
  open: () => Promise<{ readonly engine: Engine; readonly weightBytes: number }>,
  repetitions: number,
  clock: Clock = realClock,
): Promise<LoadReport> {
  const seconds: number[] = [];
  const firsts: number[] = [];
  let bytes = 0;
  for (let i = 0; i < repetitions; i++) {
    const start = clock.nowMs();
    const { engine, weightBytes } = await open();
    const loaded = clock.nowMs();
    try {
      await engine.generate({ promptTokenIds: [20, 21, 22] }, { maxTokens: 1, temperature: 0, ignoreEos: true });
      firsts.push((clock.nowMs() - loaded) / 1000);
    } finally {
      await engine.close();
    }
    seconds.push((loaded - start) / 1000);
    bytes = weightBytes;
  }
  const nothing: Spread = { median: Number.NaN, min: Number.NaN, max: Number.NaN };
  return { weightBytes: bytes, seconds, spread: spread(seconds) ?? nothing, firstToken: spread(firsts) ?? nothing };
}

export function loadText({ weightBytes, seconds, spread: { median, min, max }, firstToken }: LoadReport): string {
  const gigabytes = weightBytes / 1e9;
  return [
    `${gigabytes.toFixed(2)} GB of weights in ${median.toFixed(2)} s (${min.toFixed(2)} to ${max.toFixed(2)}; ${(gigabytes / median).toFixed(2)} GB/s), repacking included`,
    `loads in order: ${seconds.map((each) => each.toFixed(2)).join(', ')} s; first token after ${(1000 * firstToken.median).toFixed(0)} ms more`,
  ].join('\n');
}
