/**
 * `millrace convert`: a Hugging Face folder to a folder of safetensors that is read as it stands, weights rounded on the way if asked. One tensor at a time is
 * held; the result appears under its name only when it is whole.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { openModel } from '../engine/open-model.ts';
import { formatToHold, type QuantizeTarget } from '../engine/quantize-at-load.ts';
import type { Model } from '../models/index.ts';
import type { Plan } from '../plan/plan.ts';
import { readConverted } from '../quant/read-tensor.ts';
import { openModelFiles } from '../weights/model-files.ts';
import type { StoredTensor, WeightSource } from '../weights/weight-source.ts';
import { type OutputGroup, writeSafetensors } from './safetensors-writer.ts';
import { type MatrixToStore, type StoredScheme, schemeOf, storeMatrix } from './stored-weights.ts';

export interface ConvertOptions {
  readonly quantize: QuantizeTarget;
  /** Replaces what lies at the target. */
  readonly force?: boolean;
  onProgress?(doneBytes: number, totalBytes: number): void;
}

/** What was written. */
export interface ConvertResult {
  readonly path: string;
  readonly sizeBytes: number;
  /** Matrices by format. */
  readonly formats: Readonly<Record<string, number>>;
}

/** Files beside the weights that a model is used with. Nothing else is carried along. */
const CARRIED =
  /^(tokenizer.*\.(json|model)|vocab\.(json|txt)|merges\.txt|added_tokens\.json|special_tokens_map\.json|chat_template\.(jinja|json)|generation_config\.json|.*\.tiktoken|spiece\.model|sentencepiece.*\.model|LICENSE.*|README\.md)$/i;

/**
 * Converts a model. Nothing is left at the target, or what was there before, when it fails.
 * @throws CONFIG_INVALID when the target exists or the source cannot be converted, and the codes of reading models
 */
export function convertModel(sourcePath: string, targetPath: string, options: ConvertOptions): ConvertResult {
  const target = resolve(targetPath);
  if (existsSync(target) && options.force !== true) {
    throw new MillraceError('CONFIG_INVALID', { message: `${target} exists already.`, expected: 'a new path', hint: 'pass --force to replace it' });
  }
  if (resolve(sourcePath) === target) {
    throw new MillraceError('CONFIG_INVALID', { message: 'A model cannot be converted onto itself.', expected: 'another path', received: target });
  }
  const files = openModelFiles(sourcePath);
  if (files.kind === 'gguf') {
    files.gguf.close();
    throw new MillraceError('CONFIG_INVALID', {
      message: 'GGUF files are not converted yet: what is inside of tokenizer and configuration has no writer.',
      expected: 'a Hugging Face folder',
      received: sourcePath,
    });
  }
  const opened = openModel(sourcePath, false);
  mkdirSync(dirname(target), { recursive: true });
  const partial = mkdtempSync(join(dirname(target), `.${basename(target)}.partial-`));
  try {
    const { source, model } = opened;
    if (source === null) throw new MillraceError('INTERNAL', 'A model was opened without its weights.');
    const { groups, schemes, formats } = outputOf(model, source, options.quantize);
    for (const name of readdirSync(sourcePath)) {
      if (CARRIED.test(name) && statSync(join(sourcePath, name)).isFile()) copyFileSync(join(sourcePath, name), join(partial, name));
    }
    writeFileSync(join(partial, 'config.json'), `${JSON.stringify(configOf(files.config, schemes), null, 2)}\n`);
    writeSafetensors(join(partial, 'model.safetensors'), groups, options.onProgress);
    const { size } = statSync(join(partial, 'model.safetensors'));
    putInPlace(partial, target);
    return { path: target, sizeBytes: size, formats };
  } finally {
    opened.close();
    rmSync(partial, { recursive: true, force: true });
  }
}

/** The old target leaves only when the new one stands ready, and comes back if that cannot take its place. */
function putInPlace(partial: string, target: string): void {
  const old = `${partial}.old`;
  const replaced = existsSync(target);
  if (replaced) renameSync(target, old);
  try {
    renameSync(partial, target);
  } catch (thrown) {
    if (replaced) renameSync(old, target);
    throw thrown;
  }
  if (replaced) rmSync(old, { recursive: true, force: true });
}

interface Output {
  readonly groups: readonly OutputGroup[];
  /** Module to how it is stored, of those that are quantised. */
  readonly schemes: ReadonlyMap<string, StoredScheme>;
  readonly formats: Readonly<Record<string, number>>;
}

/** Every tensor that the model uses, once. */
function outputOf(model: Model, source: WeightSource, quantize: QuantizeTarget): Output {
  const plan = model.build({ formatOf: (name) => source.find(name)?.format ?? 'f32', activationFor: () => 'f32' });
  const groups: OutputGroup[] = [];
  const schemes = new Map<string, StoredScheme>();
  const formats: Record<string, number> = {};
  for (const [name, turned] of tensorsOf(plan)) {
    const stored = source.find(name);
    if (stored === undefined) throw new MillraceError('WEIGHTS_TENSOR_MISSING', { message: `The checkpoint holds no tensor ${name}.` });
    if (stored.shape.length !== 2 || !name.endsWith('.weight')) {
      groups.push(asStored(stored, source));
      continue;
    }
    const format = turned ? stored.format : formatToHold(name, stored, quantize, model.features.names);
    const scheme = schemeOf(format, stored.columnOrder !== undefined);
    if (scheme !== null)
      schemes.set(name.slice(0, -'.weight'.length), stored.activation === 'int8-token' ? { ...scheme, tokenActivations: true } : scheme);
    formats[format] = (formats[format] ?? 0) + 1;
    const matrix: MatrixToStore = {
      name,
      format,
      shape: [stored.shape[0], stored.shape[1]],
      ...(stored.columnOrder === undefined ? {} : { columnOrder: stored.columnOrder }),
      read: () => (format === stored.format ? source.read(stored) : readConverted(source, stored, false, format)),
    };
    groups.push(storeMatrix(matrix));
  }
  return { groups, schemes, formats };
}

/** Names of a plan's tensors, and whether the model reads them turned. */
function tensorsOf(plan: Plan): Map<string, boolean> {
  const tensors = new Map<string, boolean>();
  for (const { tensor, transposed } of plan.weights.flatMap(({ parts }) => parts))
    tensors.set(tensor, tensors.get(tensor) === true || transposed === true);
  return tensors;
}

/** A vector, or whatever is no matrix: as the file has it. */
function asStored(stored: StoredTensor, source: WeightSource): OutputGroup {
  const dtype = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const;
  const { name, format, shape, sizeBytes } = stored;
  if (format !== 'f32' && format !== 'f16' && format !== 'bf16') {
    throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
      message: `Tensor ${name} cannot be written as safetensors.`,
      expected: 'a matrix, or floats',
      received: format,
    });
  }
  return { tensors: [{ name, dtype: dtype[format], shape, sizeBytes }], produce: () => [source.read(stored)] };
}

/** The configuration with what it says of quantisation replaced. The commonest way of storing speaks for all linears, others name their modules. */
function configOf(config: unknown, schemes: ReadonlyMap<string, StoredScheme>): unknown {
  const { quantization_config: _, ...rest } = config as Record<string, unknown>;
  if (schemes.size === 0) return rest;
  const modules = new Map<string, { scheme: StoredScheme; names: string[] }>();
  for (const [name, scheme] of schemes) {
    const key = JSON.stringify(scheme);
    const entry = modules.get(key) ?? { scheme, names: [] };
    modules.set(key, entry);
    entry.names.push(name);
  }
  const byNumber = [...modules.values()].sort((a, b) => b.names.length - a.names.length);
  const groups = byNumber.map(({ scheme, names }, i) => [
    `group_${i}`,
    {
      targets: i === 0 ? ['Linear'] : names,
      weights: {
        num_bits: scheme.bits,
        type: scheme.type,
        symmetric: scheme.symmetric,
        strategy: 'group',
        group_size: scheme.groupSize,
        ...(scheme.ordered ? { actorder: 'group' } : {}),
      },
      input_activations: scheme.tokenActivations === true ? { num_bits: 8, type: 'int', symmetric: true, strategy: 'token', dynamic: true } : null,
      output_activations: null,
    },
  ]);
  const isFloat = byNumber.every(({ scheme }) => scheme.type === 'float');
  const format = isFloat ? 'float-quantized' : byNumber.every(({ scheme }) => scheme.type === 'int') ? 'pack-quantized' : 'mixed-precision';
  return {
    ...rest,
    quantization_config: {
      quant_method: 'compressed-tensors',
      format,
      config_groups: Object.fromEntries(groups),
      ignore: [],
      quantization_status: 'compressed',
    },
  };
}
