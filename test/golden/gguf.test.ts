/**
 * Every golden checkpoint rewritten as a GGUF file the way llama.cpp's converter writes its family (q and k rows interleaved for Llama, Gemma norms
 * plus one, rope divisors as a tensor) must give the very logits of the original.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { LatentFeatures } from '../../src/models/blocks/decoder-features.ts';
import { type RopeFeatures, ropeFrequencies } from '../../src/models/blocks/rope-frequencies.ts';
import type { TensorNames } from '../../src/models/blocks/tensor-names.ts';
import { weightFormats } from '../../src/quant/formats/index.ts';
import { readTensor } from '../../src/quant/read-tensor.ts';
import { type LoadedModel, loadModel, SoloRequest } from '../drive-backend.ts';
import { f32Bytes, type GgufEntry, type GgufFileTensor, ggufBytes, writeFile } from '../fixtures/checkpoint-files.ts';
import { expertMetadata, expertTensors, isExpertTensor, wholeName } from '../fixtures/gguf-experts.ts';
import { type GgufCase, ggufCases } from './gguf-cases.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each(ggufCases)('$name as a GGUF file has the logits of its safetensors', async (given) => {
  const { name, norm } = given;
  const original = loadModel(norm === 1 || name === 'gpt2' || name === 'mixtral' ? asGgufCanSay(name) : join(import.meta.dirname, name));
  const path = writeFile(join(folder, `${name}.gguf`), toGguf(original, given));
  const converted = loadModel(path);
  const { prompt } = JSON.parse(readFileSync(join(import.meta.dirname, name, 'expected.json'), 'utf8')) as { prompt: number[] };
  const fromOriginal = await logitsOf(original, prompt);
  const fromGguf = await logitsOf(converted, prompt);
  let worst = 0;
  for (let i = 0; i < fromOriginal.length; i++) worst = Math.max(worst, Math.abs(fromOriginal[i] - fromGguf[i]));
  // weight + 1 - 1 and frequency / divisor are each off by a rounding
  expect(worst).toBeLessThan(2e-3);
  if (norm === 0 && name !== 'llama-llama3') expect(worst).toBe(0);
});

test('8-bit weights stay near the original with float activations and with 8-bit ones', async () => {
  const name = 'qwen3';
  const { prompt } = JSON.parse(readFileSync(join(import.meta.dirname, name, 'expected.json'), 'utf8')) as { prompt: number[] };
  const exact = await logitsOf(loadModel(join(import.meta.dirname, name)), prompt);
  const largest = exact.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const path = writeFile(
    join(folder, 'q8.gguf'),
    toGguf(loadModel(join(import.meta.dirname, name)), { name, architecture: 'qwen3', interleaved: false, norm: 0 }, true),
  );
  const errors: number[] = [];
  for (const activation of ['float', 'auto'] as const) {
    const loaded = loadModel(path, 'auto', activation);
    const used = new Set(loaded.plan().nodes.flatMap((node) => (node.op === 'linear' ? [node.attrs.activation] : [])));
    expect(used).toEqual(new Set([activation === 'float' ? 'f32' : 'int8-group32']));
    const logits = await logitsOf(loaded, prompt);
    errors.push(Math.sqrt(logits.reduce((sum, x, i) => sum + (x - exact[i]) ** 2, 0) / logits.length) / largest);
  }
  expect(errors[0]).toBeGreaterThan(0);
  expect(errors[0]).toBeLessThan(0.01);
  expect(errors[1]).toBeLessThan(0.015);
});

/**
 * What a family's GGUF files cannot say, at the value that readers assume: Gemma's query scale by head width and every sixth layer full, one scale of
 * attention in all layers of GPT-2, no window in Mixtral.
 */
function asGgufCanSay(name: string): string {
  const copy = join(folder, name);
  mkdirSync(copy);
  const config = JSON.parse(readFileSync(join(import.meta.dirname, name, 'config.json'), 'utf8')) as Record<string, unknown>;
  if (name === 'gemma3') delete config.layer_types;
  if (name === 'mixtral') delete config.sliding_window;
  writeFile(join(copy, 'config.json'), JSON.stringify({ ...config, query_pre_attn_scalar: config.head_dim, scale_attn_by_inverse_layer_idx: false }));
  copyFileSync(join(import.meta.dirname, name, 'model.safetensors'), join(copy, 'model.safetensors'));
  return copy;
}

async function logitsOf({ plan, source }: LoadedModel, prompt: readonly number[]): Promise<Float32Array> {
  const backend = new ReferenceBackend();
  const request = await SoloRequest.open(backend, plan(), source, prompt.length);
  const logits = await request.feed(prompt);
  request.close();
  source.close();
  return logits;
}

interface Converted {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array<ArrayBuffer>;
}

/** Tensors as converters write them: matrices turned that a family stores the other way, q, k and v of each KV head apart. */
function convertedTensors({ model: { features }, source }: Pick<LoadedModel, 'model' | 'source'>, given: GgufCase): Converted[] {
  const { qkvInTurn = false, splitsKvB = false } = given;
  const { names, layers, transposed } = features;
  const { numHeads, numKvHeads, headDim, qkvLayout, latent } = layers[0].attention;
  const plain = [...source.names()].filter((name) => !isExpertTensor(name, names));
  return plain.flatMap((name): Converted[] => {
    const tensor = source.find(name)!;
    const values = readTensor(source, tensor) as Float32Array<ArrayBuffer>;
    const [rows, columns] = tensor.shape;
    if (transposed && columns !== undefined && name.startsWith(names.layers)) {
      return [{ name, shape: [columns, rows], values: values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]) }];
    }
    if (latent !== undefined && splitsKvB && name.includes(names.kvB)) return splitKvB(name, values, names, numHeads, latent);
    // Baichuan, whose files have them apart
    if (name.includes('.W_pack.')) {
      const third = rows / 3;
      return (['q', 'k', 'v'] as const).map((letter, i) => ({
        name: name.replace(names.qkv, `self_attn.${names[letter].split('.').at(-1)}`),
        shape: [third, columns],
        values: values.slice(i * third * columns, (i + 1) * third * columns),
      }));
    }
    if (qkvLayout !== 'grouped' || !name.includes(names.qkv)) return [{ name, shape: tensor.shape, values }];
    const [perGroup, ofHead] = [numHeads / numKvHeads, headDim * (columns ?? 1)];
    const heads = Array.from({ length: numHeads + 2 * numKvHeads }, (_, head) => values.subarray(head * ofHead, (head + 1) * ofHead));
    const placeOf = (head: number) => head % (perGroup + 2);
    const parts = {
      q: heads.filter((_, head) => placeOf(head) < perGroup),
      k: heads.filter((_, head) => placeOf(head) === perGroup),
      v: heads.filter((_, head) => placeOf(head) === perGroup + 1),
    };
    if (qkvInTurn)
      return [{ name, shape: tensor.shape, values: Float32Array.from([...parts.q, ...parts.k, ...parts.v].flatMap((head) => [...head])) }];
    return (['q', 'k', 'v'] as const).map((letter) => ({
      name: name.replace(names.qkv, names[letter]),
      shape: [parts[letter].length * headDim, columns],
      values: Float32Array.from(parts[letter].flatMap((head) => [...head])),
    }));
  });
}

function toGguf({ model, source, plan }: LoadedModel, given: GgufCase, eightBit = false): Uint8Array {
  const { architecture, interleaved, norm } = given;
  const { headDim, numHeads, numKvHeads, rope, window } = model.features.layers[0].attention;
  const { features } = model;
  const { q, k } = features.names;
  const tensors: GgufFileTensor[] = convertedTensors({ model, source }, given).map(({ name, shape, values: original }) => {
    let values = original;
    if (interleaved && [q, k].some((word) => name.includes(`.${word}.`))) values = interleave(values, headDim, shape[1] ?? 1);
    if (name.includes('norm')) values = values.map((x) => x + norm);
    const quantised = eightBit && shape.length === 2;
    const whole = wholeName(name, features.names);
    if (whole !== null) return { name: whole, shape: shape.filter((length) => length > 1), bytes: f32Bytes(values), type: 0 };
    const stored = quantised ? { bytes: weightFormats.q8_0.quantize(values), type: 8 } : { bytes: f32Bytes(values), type: 0 };
    return { name: ggufName(name, features.names, given.words), shape, ...stored };
  });
  tensors.push(...expertTensors(plan(), source, given.expertFormat));
  const full = features.layers.find((layer) => layer.attention.window === 0)?.attention.rope ?? rope;
  const scaling = full?.scaling ?? { kind: 'none' };
  if (full !== null && scaling.kind === 'llama3') {
    const plain = ropeFrequencies({ ...full, scaling: { kind: 'none' } } satisfies RopeFeatures).frequencies;
    const divisors = ropeFrequencies(full).frequencies.map((f, i) => plain[i] / f);
    tensors.push({ name: 'rope_freqs.weight', shape: [divisors.length], bytes: f32Bytes(divisors), type: 0 });
  }
  if (scaling.kind === 'longrope') {
    for (const length of ['short', 'long'] as const) {
      const divisors = Float32Array.from(scaling[`${length}Divisors`]);
      tensors.push({ name: `rope_factors_${length}.weight`, shape: [divisors.length], bytes: f32Bytes(divisors), type: 0 });
    }
  }
  const key = (suffix: string, entry: GgufEntry) => [`${architecture}.${suffix}`, entry] as const;
  const metadata: Record<string, GgufEntry> = Object.fromEntries([
    ['general.architecture', ['string', architecture]] as const,
    key('block_count', ['u32', features.layers.length]),
    key('context_length', ['u32', 256]),
    key('embedding_length', ['u32', features.hiddenSize]),
    key('feed_forward_length', ['u32', features.layers[0].mlp.intermediateSize]),
    key('attention.head_count', ['u32', numHeads]),
    key('attention.head_count_kv', ['u32', numKvHeads]),
    key('attention.key_length', ['u32', headDim]),
    key('attention.value_length', ['u32', headDim]),
    key(features.norm === 'rms' ? 'attention.layer_norm_rms_epsilon' : 'attention.layer_norm_epsilon', ['f32', features.normEpsilon]),
    ...(full === null ? [] : [key('rope.freq_base', ['f32', full.theta]), key('rope.dimension_count', ['u32', full.rotaryDim])]),
    ...(window > 0 ? [key('attention.sliding_window', ['u32', window])] : []),
    ...(scaling.kind === 'yarn' || scaling.kind === 'linear'
      ? [key('rope.scaling.type', ['string', scaling.kind]), key('rope.scaling.factor', ['f32', scaling.factor])]
      : []),
    ...(scaling.kind === 'yarn' ? [key('rope.scaling.original_context_length', ['u32', scaling.originalPositions])] : []),
    ...(features.logitSoftCap > 0
      ? [key('final_logit_softcapping', ['f32', features.logitSoftCap]), key('attn_logit_softcapping', ['f32', features.layers[0].attention.softCap])]
      : []),
    ...expertMetadata(features.layers).map(([suffix, entry]) => key(suffix, entry)),
    ...Object.entries(given.extra ?? {}).map(([suffix, entry]) => key(suffix, entry)),
  ]);
  return ggufBytes({ metadata, tensors });
}

/** K, turned, and V of each head apart, as files have them since llama.cpp keeps latent rows. */
function splitKvB(name: string, values: Float32Array, names: TensorNames, numHeads: number, latent: LatentFeatures): Converted[] {
  const { kvRank, nopeDim, valueDim } = latent;
  const perHead = nopeDim + valueDim;
  const at = (head: number, row: number, column: number) => values[(head * perHead + row) * kvRank + column];
  const k = Float32Array.from({ length: numHeads * kvRank * nopeDim }, (_, i) => {
    const [head, rest] = [Math.floor(i / (kvRank * nopeDim)), i % (kvRank * nopeDim)];
    return at(head, rest % nopeDim, Math.floor(rest / nopeDim));
  });
  const v = Float32Array.from({ length: numHeads * valueDim * kvRank }, (_, i) => {
    const [head, rest] = [Math.floor(i / (valueDim * kvRank)), i % (valueDim * kvRank)];
    return at(head, nopeDim + Math.floor(rest / kvRank), rest % kvRank);
  });
  return [
    { name: name.replace(names.kvB, names.kB), shape: [numHeads, kvRank, nopeDim], values: k },
    { name: name.replace(names.kvB, names.vB), shape: [numHeads, valueDim, kvRank], values: v },
  ];
}

/** Row `i + j * headDim / 2` of a head goes to row `2 * i + j`. */
function interleave(values: Float32Array, headDim: number, columns: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let row = 0; row * columns < values.length; row++) {
    const within = row % headDim;
    const to = row - within + (within < headDim / 2 ? 2 * within : 2 * (within - headDim / 2) + 1);
    out.set(values.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return out;
}

/** Words of the file by what a tensor does. `ffn_norm` and others mean the same in all families; `words` of a case says where one differs. */
const layerWords: Partial<Record<keyof TensorNames, string>> = {
  inputNorm: 'attn_norm',
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  qkv: 'attn_qkv',
  qNorm: 'attn_q_norm',
  kNorm: 'attn_k_norm',
  qA: 'attn_q_a',
  qANorm: 'attn_q_a_norm',
  qB: 'attn_q_b',
  kvA: 'attn_kv_a_mqa',
  kvANorm: 'attn_kv_a_norm',
  kvB: 'attn_kv_b',
  kB: 'attn_k_b',
  vB: 'attn_v_b',
  attentionOutput: 'attn_output',
  postAttentionNorm: 'post_attention_norm',
  mlpNorm: 'ffn_norm',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
  postMlpNorm: 'post_ffw_norm',
};
const outerWords: Partial<Record<keyof TensorNames, string>> = {
  embedding: 'token_embd',
  positionEmbedding: 'position_embd',
  embeddingNorm: 'token_embd_norm',
  finalNorm: 'output_norm',
  output: 'output',
};

function ggufName(name: string, names: TensorNames, words: GgufCase['words']): string {
  const roles = Object.entries(names) as [keyof TensorNames, string][];
  const [, stem, kind] = /^(.*)\.(weight|bias)$/.exec(name)!;
  const outer = roles.find(([role, known]) => known === stem && outerWords[role] !== undefined);
  if (outer !== undefined) return `${outerWords[outer[0]]}.${kind}`;
  const [, layer, rest] = /^(\d+)\.(.*)$/.exec(stem.slice(names.layers.length))!;
  const [role] = roles.find(([known, spelling]) => spelling === rest && (words?.[known] ?? layerWords[known]) !== undefined)!;
  return `blk.${layer}.${words?.[role] ?? layerWords[role]}.${kind}`;
}
