/** The tensors of a Hugging Face folder: those of the model, each as it is stored, rounded or widened. */
import { MillraceError } from '../base/errors.ts';
import { formatToHold } from '../engine/quantize-at-load.ts';
import { type Model, readModel } from '../models/index.ts';
import type { Plan } from '../plan/plan.ts';
import { readConverted } from '../quant/read-tensor.ts';
import type { StoredTensor, WeightSource } from '../weights/weight-source.ts';
import { chooseFormat, type FormatChoice } from './format-choice.ts';
import { structureOf } from './gguf-model.ts';
import { differenceOf, remap } from './remap.ts';
import type { OutputGroup } from './safetensors-writer.ts';
import { isStorable, type MatrixToStore, type StoredScheme, schemeOf, storeMatrix } from './stored-weights.ts';

/** An opened model. */
export interface Given {
  readonly model: Model;
  readonly source: WeightSource;
}

/**
 * Every tensor that the model of a GGUF file uses, in the order of rows and with the numbers that Hugging Face has them in; experts apart.
 * @param config as config.json will say it
 */
export function folderOutputOfGguf({ model, source }: Given, config: unknown, choice: FormatChoice): FolderOutput {
  const plan = structureOf(model);
  const { layers, experts, expertGate, expertUp, expertDown } = model.features.names;
  const names = new Set(source.names());
  const stacked = new Set(
    [expertGate, expertUp, expertDown].flatMap((role) =>
      model.features.layers.flatMap((_, i) => ['weight', 'bias'].map((kind) => `${layers}${i}.${experts}.${role}.${kind}`)),
    ),
  );
  const written = readModel(config, (name) => names.has(name) && !stacked.has(name));
  const to = structureOf(written);
  const difference = differenceOf(plan, to);
  if (difference !== null)
    throw new MillraceError('INTERNAL', `the configuration read from a GGUF file reads otherwise as config.json, in ${difference}.`);
  const groups: OutputGroup[] = [];
  const schemes = new Map<string, StoredScheme>();
  const formats: Record<string, number> = {};
  for (const tensor of remap(plan, source, to)) {
    const { name, shape, rows, columns, read } = tensor;
    const format = tensor.isVector ? 'f32' : chooseFormat(tensor, choice, written.features.names, isStorable);
    const group = storeMatrix({ name, format, shape: [rows, columns], read: () => read(format) });
    groups.push(tensor.isVector ? { ...group, tensors: [{ name, dtype: 'F32', shape, sizeBytes: rows * 4 }] } : group);
    const scheme = tensor.isVector ? null : schemeOf(format, false);
    if (scheme !== null) schemes.set(name.slice(0, -'.weight'.length), scheme);
    if (!tensor.isVector) formats[format] = (formats[format] ?? 0) + 1;
  }
  return { groups, schemes, formats };
}

export interface FolderOutput {
  readonly groups: readonly OutputGroup[];
  /** Module to how it is stored, of those that are quantised. */
  readonly schemes: ReadonlyMap<string, StoredScheme>;
  readonly formats: Readonly<Record<string, number>>;
}

/** Every tensor that the model uses, once. */
export function folderOutput({ model, source }: Given, { quantize, dtype }: FormatChoice): FolderOutput {
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
    const asked = turned ? stored.format : formatToHold(name, stored, quantize, model.features.names);
    const format = dtype !== undefined && !isStorable(asked) ? dtype : asked;
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
export function configOf(config: unknown, schemes: ReadonlyMap<string, StoredScheme>): unknown {
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
        ...(scheme.groupSize === null ? { strategy: 'channel' } : { strategy: 'group', group_size: scheme.groupSize }),
        ...(scheme.ordered ? { actorder: 'group' } : {}),
      },
      input_activations: scheme.tokenActivations === true ? { num_bits: 8, type: 'int', symmetric: true, strategy: 'token', dynamic: true } : null,
      output_activations: null,
    },
  ]);
  const formats = new Set(byNumber.map(({ scheme }) => compressionOf(scheme)));
  const format = formats.size === 1 ? [...formats][0] : 'mixed-precision';
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

/** What compressed-tensors calls the way in which a module is stored. */
function compressionOf({ type, groupSize }: StoredScheme): string {
  return type === 'float' ? 'float-quantized' : groupSize === null ? 'int-quantized' : 'pack-quantized';
}
