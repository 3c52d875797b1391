/** The tensors of a GGUF file. */
import type { WeightFormat } from '../plan/plan.ts';
import { storedBytes } from '../quant/formats/index.ts';
import { fileRow } from '../quant/read-tensor.ts';
import { ggufTypeOf } from '../weights/gguf.ts';
import type { Given } from './folder-output.ts';
import { chooseFormat, type FormatChoice } from './format-choice.ts';
import { describeAsGguf, type GgufModel, structureOf } from './gguf-model.ts';
import type { GgufEntry, GgufOutput } from './gguf-writer.ts';
import { type RemappedTensor, remap } from './remap.ts';

/** What a GGUF file holds beside the tokenizer. */
export interface GgufContent {
  readonly metadata: Map<string, GgufEntry>;
  readonly tensors: readonly GgufOutput[];
  /** Matrices by format. */
  readonly formats: Readonly<Record<string, number>>;
}

/** `general.file_type` by the commonest format; numbers of llama.cpp's `llama_ftype`. */
const fileTypes: Partial<Record<string, number>> = { f32: 0, f16: 1, q4_0: 2, q4_1: 3, q8_0: 7, q5_0: 8, q5_1: 9, bf16: 32 };
/** Small matrices that readers expect as f32. */
const PLAIN = /^(blk\.\d+\.ffn_gate_inp(_shexp)?|position_embd)\.weight$/;

/** @throws as `describeAsGguf`; WEIGHTS_FORMAT_UNSUPPORTED for numbers that the file cannot hold */
export function ggufContent({ model, source }: Given, choice: FormatChoice): GgufContent {
  const plan = structureOf(model);
  const names = new Set(source.names());
  const described = describeAsGguf(model, plan, (name) => names.has(name));
  const tensors: GgufOutput[] = [];
  const formats: Record<string, number> = {};
  for (const tensor of remap(plan, source, described.plan)) {
    const format = tensor.isVector ? 'f32' : formatOf(tensor, described, choice);
    tensors.push(outputOf(tensor, described, format));
    if (!tensor.isVector) formats[format] = (formats[format] ?? 0) + 1;
  }
  for (const [name, values] of described.extra) {
    tensors.push({ name, shape: [values.length], type: 0, sizeBytes: values.byteLength, produce: () => bytesOf(values) });
  }
  const [commonest] = Object.entries(formats).sort((a, b) => b[1] - a[1])[0] ?? [''];
  const fileType = fileTypes[commonest];
  if (fileType !== undefined) described.metadata.set('general.file_type', ['u32', fileType]);
  return { metadata: described.metadata, tensors, formats };
}

function formatOf(tensor: RemappedTensor, { tensors, model }: GgufModel, choice: FormatChoice): WeightFormat {
  const format = chooseFormat(tensor, choice, model.features.names, (wanted) => ggufTypeOf(wanted) !== undefined);
  const isFloat = format === 'f16' || format === 'bf16';
  return isFloat && PLAIN.test(tensors.get(tensor.name)?.name ?? '') ? 'f32' : format;
}

function outputOf(tensor: RemappedTensor, { tensors }: GgufModel, format: WeightFormat): GgufOutput {
  const { name, translation } = tensors.get(tensor.name) ?? { name: tensor.name, translation: { name: tensor.name } };
  const rowBytes = storedBytes(format, tensor.columns);
  return {
    name,
    shape: 'isMatrix' in translation && translation.isMatrix === true && tensor.rows === 1 ? [tensor.columns] : tensor.shape,
    type: ggufTypeOf(format) ?? 0,
    sizeBytes: storedBytes(format, tensor.rows * tensor.columns),
    produce() {
      const bytes = tensor.read(format);
      if (translation.shift !== undefined) {
        const values = new Float32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, tensor.rows * tensor.columns);
        for (let i = 0; i < values.length; i++) values[i] -= translation.shift;
      }
      if (translation.rowOrder === undefined) return bytes;
      const out = new Uint8Array(bytes.length);
      for (let row = 0; row < tensor.rows; row++) {
        out.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), fileRow(translation.rowOrder, row) * rowBytes);
      }
      return out;
    },
  };
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}
