/**
 * llama.cpp and its fork ik_llama.cpp as peers: their own `llama-bench` (prefill, decode behind a long context) and `llama-batched-bench`
 * (decode of several rows), from a folder with native builds. Flash attention on, everything else as they come; these programs feed fixed tokens and
 * sample nothing, which is in their favour.
 */
import path from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { type ComparedEngine, type ComparePhases, programOutput } from './compare.ts';
import type { OfflineResult } from './offline.ts';
import { spread } from './statistics.ts';

export interface LlamaCppOptions {
  readonly name: string;
  /** Folder of the programs. */
  readonly bin: string;
  /** GGUF file. */
  readonly model: string;
  /** ik_llama.cpp: its words for a given depth, and weights rearranged at load (`-rtr`). */
  readonly fork: boolean;
}

export function llamaCppEngine(options: LlamaCppOptions): ComparedEngine {
  return {
    name: options.name,
    isOurs: false,
    measure: async (phases) => [
      ...(await prefill(options, phases)),
      ...(phases.batchSizes.length === 0 ? [] : await decode(options, phases)),
      ...(await deepDecode(options, phases)),
    ],
  };
}

/** One entry of `llama-bench -o json`. */
interface BenchEntry {
  readonly n_gen: number;
  readonly samples_ts: readonly number[];
}

async function bench({ bin, model, fork }: LlamaCppOptions, { threads }: ComparePhases, args: readonly string[]): Promise<readonly BenchEntry[]> {
  const given = ['-m', model, '-t', String(threads), '-fa', '1', '-o', 'json', ...(fork ? ['-rtr', '1'] : []), ...args];
  const { out } = await programOutput(path.join(bin, 'llama-bench'), given, threads);
  return JSON.parse(out.slice(out.indexOf('['))) as readonly BenchEntry[];
}

async function prefill(options: LlamaCppOptions, phases: ComparePhases): Promise<OfflineResult[]> {
  const { inputLen, repetitions } = phases;
  const entries = await bench(options, phases, ['-p', String(inputLen), '-n', '0', '-r', String(repetitions)]);
  return entries.map(({ samples_ts }) => ({
    phase: 'prefill',
    batchSize: 1,
    inputLen,
    outputLen: 1,
    tokensPerSecond: spread(samples_ts),
    hostMsPerStep: null,
  }));
}

async function deepDecode(options: LlamaCppOptions, phases: ComparePhases): Promise<OfflineResult[]> {
  const results: OfflineResult[] = [];
  const { outputLen } = phases;
  for (const depth of phases.depths) {
    const length = options.fork ? ['-n', '0', '-gp', `${depth},${outputLen}`] : ['-n', String(outputLen), '-d', String(depth)];
    const entries = await bench(options, phases, ['-p', '0', '-r', '1', ...length]);
    const entry = entries.find((each) => each.n_gen > 0);
    results.push({
      phase: 'decode',
      batchSize: 1,
      inputLen: depth,
      outputLen,
      tokensPerSecond: spread(entry?.samples_ts ?? []),
      hostMsPerStep: null,
    });
  }
  return results;
}

async function decode({ bin, model, fork }: LlamaCppOptions, phases: ComparePhases): Promise<OfflineResult[]> {
  const { threads, batchSizes, decodeInputLen, outputLen } = phases;
  const context = Math.max(...batchSizes) * (decodeInputLen + outputLen) + 64;
  const sizes = ['-c', context, '-b', 2048, '-ub', 512, '-npp', decodeInputLen, '-ntg', outputLen, '-npl', batchSizes.join(',')].map(String);
  const given = ['-m', model, ...sizes, '-t', String(threads), '-tb', String(threads), '-fa', 'on', ...(fork ? ['-rtr'] : [])];
  const program = path.join(bin, 'llama-batched-bench');
  const { out, errors } = await programOutput(program, given, threads);
  const rates = batchedRates(`${out}\n${errors}`); // the fork prints its table on the error stream
  return batchSizes.map((batchSize) => {
    const rate = rates.get(batchSize);
    if (rate === undefined) throw new MillraceError('INTERNAL', `${program} printed no row for ${batchSize} sequences.`);
    return { phase: 'decode', batchSize, inputLen: decodeInputLen, outputLen, tokensPerSecond: spread([rate]), hostMsPerStep: null };
  });
}

/** Sequences -> decoded tokens a second, from rows `| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | ...`. */
export function batchedRates(text: string): Map<number, number> {
  const rates = new Map<number, number>();
  for (const line of text.split('\n')) {
    if (!/^\|\s*\d+ \|/.test(line)) continue;
    const cells = line.split('|').map((cell) => Number(cell));
    rates.set(cells[3], cells[8]);
  }
  return rates;
}
