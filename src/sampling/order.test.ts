/** The order of docs/sampling.md is the one that is carried out: its steps, written down plainly and taken from the document's own list, give the same tokens as often. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { greedy } from '../../test/fixtures/rows.ts';
import { Sampler } from './sampler.ts';
import { plainShaping, shapingFields } from './shaping.ts';

const document = readFileSync(new URL('../../docs/sampling.md', import.meta.url), 'utf8');
const listed = (step: number) => new RegExp(`^${step}\\. (.*)$`, 'm').exec(document)?.[1] ?? '';

interface Asked {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly typicalP: number;
  readonly topNSigma: number;
  /** Threshold; 1: off. */
  readonly xtc: number;
  readonly dynatempRange: number;
  readonly repetition: number;
  readonly presence: number;
  readonly frequency: number;
  readonly bias: number;
  readonly allowed: number;
}

const SIZE = 8;
const logits = [2, 1.5, 1.1, 0.4, 0, -0.3, -0.9, -1.6];
const history = { prompt: [0, 3], output: [1, 1, 5] };
const biasId = 6;

interface State {
  logits: number[];
  temperature: number;
}

const softmax = (values: readonly number[]) => {
  const most = Math.max(...values);
  const shares = values.map((x) => Math.exp(x - most));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((x) => x / sum);
};
const alive = ({ logits: values }: State) => values.filter((x) => x > -Infinity);
const entropy = (shares: readonly number[]) => -shares.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
/** Shares that sum to 1, with what is dropped at 0, as logits again. */
const keep = (state: State, keeps: (share: number, id: number, shares: readonly number[]) => boolean) => {
  const shares = softmax(state.logits);
  state.logits = state.logits.map((x, id) => (keeps(shares[id]!, id, shares) ? x : -Infinity));
};
const shortest = (shares: readonly number[], order: readonly number[], mass: number) => {
  const kept = new Set<number>();
  let reached = 0;
  for (const id of order) {
    if (reached >= mass || shares[id] === 0) break;
    kept.add(id);
    reached += shares[id]!;
  }
  return kept;
};
const byKey = (shares: readonly number[], key: (share: number) => number) =>
  [...shares.keys()].sort((a, b) => key(shares[a]!) - key(shares[b]!) || a - b);

/** By the names that the document has for them. */
const steps: Readonly<Record<string, (state: State, asked: Asked) => void>> = {
  'dynamic temperature'(state, { dynatempRange: range }) {
    if (range === 0) return;
    const low = Math.max(0, state.temperature - range);
    state.temperature = low + (state.temperature + range - low) * (entropy(softmax(state.logits)) / Math.log(alive(state).length));
  },
  temperature(state) {
    state.logits = state.logits.map((x) => x / state.temperature);
  },
  'top-n-sigma'(state, { topNSigma }) {
    if (topNSigma === 0) return;
    const values = alive(state);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
    const least = Math.max(...values) - topNSigma * deviation;
    state.logits = state.logits.map((x) => (x >= least ? x : -Infinity));
  },
  'top-k'(state, { topK }) {
    if (topK === 0) return;
    const kept = new Set(byKey(state.logits, (x) => -x).slice(0, topK));
    state.logits = state.logits.map((x, id) => (kept.has(id) ? x : -Infinity));
  },
  'top-p'(state, { topP }) {
    keep(
      state,
      (_, id, shares) =>
        topP === 1 ||
        shortest(
          shares,
          byKey(shares, (p) => -p),
          topP,
        ).has(id),
    );
  },
  'min-p'(state, { minP }) {
    keep(state, (share, _, shares) => share >= minP * Math.max(...shares));
  },
  typical(state, { typicalP }) {
    if (typicalP === 1) return;
    const surprise = entropy(softmax(state.logits));
    keep(state, (_, id, shares) =>
      shortest(
        shares,
        byKey(shares, (p) => (p === 0 ? Infinity : Math.abs(-Math.log(p) - surprise))),
        typicalP,
      ).has(id),
    );
  },
  XTC(state, { xtc }) {
    const likely = softmax(state.logits).filter((share) => share >= xtc);
    if (likely.length > 1) keep(state, (share) => share <= Math.min(...likely));
  },
  bias(state, { bias }) {
    state.logits[biasId]! += bias;
  },
  'repetition penalty'(state, { repetition }) {
    for (const id of new Set([...history.prompt, ...history.output])) state.logits[id]! *= state.logits[id]! > 0 ? 1 / repetition : repetition;
  },
  'frequency penalty'(state, { frequency }) {
    for (const id of history.output) state.logits[id]! -= frequency;
  },
  'presence penalty'(state, { presence }) {
    for (const id of new Set(history.output)) state.logits[id]! -= presence;
  },
  mask(state, { allowed }) {
    state.logits = state.logits.map((x, id) => ((allowed >>> id) & 1 ? x : -Infinity));
  },
};

/** The names of steps in the order in which they stand in the document. */
function order(): string[] {
  const text = [4, 5, 7].map(listed).join('; ').toLowerCase();
  const found = Object.keys(steps).map((name): [string, number] => {
    // "temperature" stands in "dynamic temperature" too
    const pattern = name === 'temperature' ? /(?<!dynamic )temperature/ : new RegExp(name.toLowerCase());
    return [name, text.search(pattern)];
  });
  expect(found.filter(([, at]) => at < 0)).toEqual([]);
  return found.sort((a, b) => a[1] - b[1]).map(([name]) => name);
}

const plain: Asked = {
  ...{ temperature: 1, topK: 0, topP: 1, minP: 0, typicalP: 1, topNSigma: 0, xtc: 1, dynatempRange: 0 },
  ...{ repetition: 1, presence: 0, frequency: 0, bias: 0, allowed: 0xff },
};

function drawn(asked: Asked, position: number): number {
  const shaping = {
    ...plainShaping,
    ...{ typicalP: asked.typicalP, topNSigma: asked.topNSigma, xtcThreshold: asked.xtc, xtcProbability: asked.xtc < 1 ? 1 : 0 },
    dynatempRange: asked.dynatempRange,
  };
  const ids = [...history.prompt, ...history.output];
  const row = greedy(1, {
    temperature: Float32Array.of(asked.temperature),
    topK: Int32Array.of(asked.topK),
    topP: Float32Array.of(asked.topP),
    minP: Float32Array.of(asked.minP),
    repetitionPenalty: Float32Array.of(asked.repetition),
    presencePenalty: Float32Array.of(asked.presence),
    frequencyPenalty: Float32Array.of(asked.frequency),
    historyIds: Int32Array.from(ids),
    historyStart: Int32Array.of(0, ids.length),
    historyPrompt: Int32Array.of(history.prompt.length),
    biasIds: Int32Array.of(biasId),
    biasValues: Float32Array.of(asked.bias),
    biasStart: Int32Array.of(0, 1),
    seed: Uint32Array.of(11, 5),
    position: Uint32Array.of(position),
    shaping: Float32Array.from(shapingFields, (field) => shaping[field]),
  });
  return new Sampler(SIZE).sample(Float32Array.from(logits), row, Uint32Array.of(asked.allowed)).tokenIds[0]!;
}

/** Shares after all steps in this order. */
function sharesOf(asked: Asked, names: readonly string[]): number[] {
  const state: State = { logits: [...logits], temperature: asked.temperature };
  for (const name of names) steps[name]!(state, asked);
  return softmax(state.logits);
}

// Where two steps are named it makes a difference which comes first.
test.each<[string, Partial<Asked>, [string, string]?]>([
  ['nothing at all', {}],
  ['penalties, bias and mask', { repetition: 1.5, presence: 0.4, frequency: 0.3, bias: 2.2, allowed: 0b11111011 }],
  ['penalties before top-k', { repetition: 3, frequency: 1, topK: 3 }, ['repetition penalty', 'top-k']],
  ['temperature before top-p', { temperature: 2, topP: 0.6 }, ['temperature', 'top-p']],
  ['top-k before top-p', { topK: 3, topP: 0.75 }, ['top-k', 'top-p']],
  ['top-p before min-p', { topP: 0.75, minP: 0.3 }, ['top-p', 'min-p']],
  ['min-p before typical', { minP: 0.3, typicalP: 0.6 }, ['min-p', 'typical']],
  ['typical before XTC', { typicalP: 0.7, xtc: 0.15 }, ['typical', 'XTC']],
  ['dynamic temperature before top-p', { dynatempRange: 0.9, topP: 0.7 }, ['temperature', 'top-p']],
  ['the mask before top-k and top-n-sigma', { allowed: 0b11111000, topK: 4, topNSigma: 1.6 }, ['mask', 'top-k']],
  [
    'all at once',
    { temperature: 1.4, dynatempRange: 0.4, topNSigma: 2.5, topK: 6, topP: 0.92, minP: 0.08, typicalP: 0.9, xtc: 0.3, repetition: 1.2, bias: 1 },
  ],
])('%s', (_, given, pair) => {
  const asked = { ...plain, ...given };
  const names = order();
  const expected = sharesOf(asked, names);
  if (pair !== undefined) {
    const swapped = names.map((name) => (name === pair[0] ? pair[1] : name === pair[1] ? pair[0] : name));
    const largest = Math.max(...sharesOf(asked, swapped).map((share, id) => Math.abs(share - expected[id]!)));
    expect(largest > 0.05 || Number.isNaN(largest), `${largest}`).toBe(true); // NaN: nothing would be left
  }
  const times = 4000;
  const counts = new Array<number>(SIZE).fill(0);
  for (let position = 0; position < times; position++) counts[drawn(asked, position)]!++;
  const chiSquare = counts.reduce(
    (sum, n, id) => sum + (expected[id] === 0 ? (n === 0 ? 0 : Infinity) : (n - times * expected[id]!) ** 2 / (times * expected[id]!)),
    0,
  );
  expect(chiSquare, JSON.stringify({ counts, expected })).toBeLessThan(24.3);
});

test('the document names every step once and in this order', () => {
  expect(order()).toEqual([
    ...['bias', 'repetition penalty', 'frequency penalty', 'presence penalty', 'mask'],
    ...['dynamic temperature', 'temperature', 'top-n-sigma', 'top-k', 'top-p', 'min-p', 'typical', 'XTC'],
  ]);
});
