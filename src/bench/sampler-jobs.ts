/** What `millrace bench kernels` times of the sampler: rows of logits over the vocabulary of Qwen2.5, in the ways in which requests ask for tokens. */
import { PlanBuilder } from '../plan/builder.ts';
import type { SamplingBatch } from '../sampling/sampling-batch.ts';
import { type KernelProgram, rowsBatch } from './kernel-jobs.ts';

/** Columns of one row that differ from greedy; `history`: tokens before it, half of them prompt. */
interface Mode {
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetition?: number;
  readonly history?: number;
  readonly logprobs?: number;
}

const modes = {
  greedy: {},
  'greedy, 5 logprobs': { logprobs: 5 },
  temperature: { temperature: 0.7 },
  'top_p 0.9': { temperature: 0.7, topP: 0.9 },
  'top_k 50': { temperature: 0.7, topK: 50 },
  'top_k 50, top_p 0.9': { temperature: 0.7, topK: 50, topP: 0.9 },
  'min_p 0.05': { temperature: 0.7, minP: 0.05 },
  'penalties, top_p 0.9': { temperature: 0.7, topP: 0.9, repetition: 1.1, history: 1000 },
} as const satisfies Record<string, Mode>;

export const samplerModes = Object.keys(modes) as (keyof typeof modes)[];

/** A step that passes logits `[rows, vocabSize]` on, timed from there to its tokens. */
export function samplerProgram(name: keyof typeof modes, vocabSize: number, rows: readonly number[]): KernelProgram {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const logits = builder.value('logits', 'logits', vocabSize);
  builder.emit('select-rows', 'select', { inputs: [builder.embeddings(vocabSize)], outputs: [logits], attrs: {} });
  return {
    op: 'select-rows',
    label: `sampler: ${name}`,
    format: '',
    plan: builder.build('sampler', { logits }),
    maxTokens: Math.max(...rows),
    cache: null,
    count: 1,
    peak: null,
    activation: null,
    runs: rows.map((count) => ({
      rows: String(count),
      batch: rowsBatch(count),
      fill: (values) => peaked(values, vocabSize),
      bytes: 4 * count * vocabSize,
      weightShare: 0,
      operations: 0,
      sampling: samplingOf(modes[name], count, vocabSize),
    })),
  };
}

function samplingOf(
  { temperature = 0, topP = 1, topK = 0, minP = 0, repetition = 1, history = 0, logprobs = -1 }: Mode,
  numRows: number,
  vocabSize: number,
): SamplingBatch {
  const floats = (value: number) => new Float32Array(numRows).fill(value);
  const starts = (length: number) => Int32Array.from({ length: numRows + 1 }, (_, row) => row * length);
  return {
    numRows,
    temperature: floats(temperature),
    topP: floats(topP),
    topK: new Int32Array(numRows).fill(topK),
    minP: floats(minP),
    repetitionPenalty: floats(repetition),
    presencePenalty: floats(0),
    frequencyPenalty: floats(0),
    seed: Uint32Array.from({ length: 2 * numRows }, (_, i) => i),
    choice: new Uint32Array(numRows),
    position: Uint32Array.from({ length: numRows }, (_, row) => row),
    numLogprobs: new Int32Array(numRows).fill(logprobs),
    historyIds: Int32Array.from({ length: numRows * history }, (_, i) => (i * 7919) % vocabSize),
    historyStart: starts(history),
    historyPrompt: new Int32Array(numRows).fill(history / 2),
    biasIds: new Int32Array(0),
    biasValues: new Float32Array(0),
    biasStart: starts(0),
    shaping: new Float32Array(0),
    wantedIds: new Int32Array(0),
    wantedStart: starts(0),
  };
}

/** As models give them: all but a few far below the best. Roughly normal, of deviation 2.5, and 30 ids from 22 down. */
function peaked(values: Float32Array, vocabSize: number): void {
  for (let i = 0; i < values.length; i++) values[i] = 2.5 * (Math.sin(i * 0.7371) + Math.sin(i * 1.9137 + (i % 7)) + 0.6 * Math.sin(i * 0.0113));
  for (let row = 0; row < values.length; row += vocabSize) {
    for (let i = 0; i < 30; i++) values[row + ((i * 4933 + row) % vocabSize)] = 22 - 0.4 * i;
  }
}
