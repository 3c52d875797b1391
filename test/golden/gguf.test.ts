/**
 * Every golden checkpoint rewritten as a GGUF file the way llama.cpp's converter writes its family (q and k rows interleaved for Llama, Gemma norms
 * plus one, rope divisors as a tensor) must give the very logits of the original.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { ropeFrequencies } from '../../src/models/blocks/rope-frequencies.ts';
import { weightFormats } from '../../src/quant/formats/index.ts';
import { readTensor } from '../../src/quant/read-tensor.ts';
import { type LoadedModel, loadModel, SoloRequest } from '../drive-backend.ts';
import { f32Bytes, type GgufEntry, type GgufFileTensor, ggufBytes, writeFile } from '../fixtures/checkpoint-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

const cases = [
  { name: 'llama-llama3', architecture: 'llama', interleaved: true, norm: 0 },
  { name: 'llama-yarn', architecture: 'llama', interleaved: true, norm: 0 },
  { name: 'qwen2', architecture: 'qwen2', interleaved: false, norm: 0 },
  { name: 'qwen3', architecture: 'qwen3', interleaved: false, norm: 0 },
  { name: 'gemma2', architecture: 'gemma2', interleaved: false, norm: 1 },
  { name: 'gemma3', architecture: 'gemma3', interleaved: false, norm: 1 },
];

test.each(cases)('$name as a GGUF file has the logits of its safetensors', async ({ name, architecture, interleaved, norm }) => {
  const original = loadModel(norm === 1 ? asGgufCanSay(name) : join(import.meta.dirname, name));
  const path = writeFile(join(folder, `${name}.gguf`), toGguf(original, architecture, interleaved, norm));
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
  const path = writeFile(join(folder, 'q8.gguf'), toGguf(loadModel(join(import.meta.dirname, name)), 'qwen3', false, 0, true));
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

/** Gemma with what its GGUF files cannot say at the value that readers assume: query scale by head width, every sixth layer full. */
function asGgufCanSay(name: string): string {
  const copy = join(folder, name);
  mkdirSync(copy);
  const config = JSON.parse(readFileSync(join(import.meta.dirname, name, 'config.json'), 'utf8')) as Record<string, unknown>;
  if (name === 'gemma3') delete config.layer_types;
  writeFile(join(copy, 'config.json'), JSON.stringify({ ...config, query_pre_attn_scalar: config.head_dim }));
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

function toGguf({ model, source }: LoadedModel, architecture: string, interleaved: boolean, norm: number, eightBit = false): Uint8Array {
  const { headDim, numHeads, numKvHeads, rope, window } = model.features.layers[0].attention;
  const { features } = model;
  const tensors: GgufFileTensor[] = [...source.names()].map((name) => {
    const tensor = source.find(name)!;
    let values = readTensor(source, tensor);
    if (interleaved && /\.[qk]_proj\./.test(name)) values = interleave(values, headDim, tensor.shape[1] ?? 1);
    if (name.includes('norm')) values = values.map((x) => x + norm);
    const quantised = eightBit && tensor.shape.length === 2;
    const stored = quantised ? { bytes: weightFormats.q8_0.quantize(values), type: 8 } : { bytes: f32Bytes(values), type: 0 };
    return { name: ggufName(name, norm === 1), shape: tensor.shape, ...stored };
  });
  const full = features.layers.find((layer) => layer.attention.window === 0)?.attention.rope ?? rope;
  const { scaling } = full;
  if (scaling.kind === 'llama3') {
    const plain = ropeFrequencies({ ...full, scaling: { kind: 'none' } }).frequencies;
    const divisors = ropeFrequencies(full).frequencies.map((f, i) => plain[i] / f);
    tensors.push({ name: 'rope_freqs.weight', shape: [divisors.length], bytes: f32Bytes(divisors), type: 0 });
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
    key('attention.layer_norm_rms_epsilon', ['f32', features.normEpsilon]),
    key('rope.freq_base', ['f32', full.theta]),
    key('rope.dimension_count', ['u32', headDim]),
    ...(window > 0 ? [key('attention.sliding_window', ['u32', window])] : []),
    ...(scaling.kind === 'yarn' || scaling.kind === 'linear'
      ? [key('rope.scaling.type', ['string', scaling.kind]), key('rope.scaling.factor', ['f32', scaling.factor])]
      : []),
    ...(scaling.kind === 'yarn' ? [key('rope.scaling.original_context_length', ['u32', scaling.originalPositions])] : []),
    ...(features.logitSoftCap > 0
      ? [key('final_logit_softcapping', ['f32', features.logitSoftCap]), key('attn_logit_softcapping', ['f32', features.layers[0].attention.softCap])]
      : []),
  ]);
  return ggufBytes({ metadata, tensors });
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

const names: readonly (readonly [string, string])[] = [
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['input_layernorm', 'attn_norm'],
  ['pre_feedforward_layernorm', 'ffn_norm'],
  ['post_feedforward_layernorm', 'post_ffw_norm'],
];

function ggufName(name: string, postNorms: boolean): string {
  const outer: Record<string, string> = {
    'model.embed_tokens.weight': 'token_embd.weight',
    'model.norm.weight': 'output_norm.weight',
    'lm_head.weight': 'output.weight',
  };
  if (outer[name] !== undefined) return outer[name];
  const layered = [...names, ['post_attention_layernorm', postNorms ? 'post_attention_norm' : 'ffn_norm'] as const];
  const [from, to] = layered.find(([huggingFace]) => name.includes(`.${huggingFace}.`))!;
  return name.replace('model.layers.', 'blk.').replace(from, to);
}
