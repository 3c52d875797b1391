/** The ways of quantising a checkpoint that are read: one row a `quant_method`. */
import { MillraceError } from '../../base/errors.ts';
import { storedBytes } from '../../quant/formats/index.ts';
import type { RawTensor } from '../safetensors.ts';
import { quoteName } from '../tensor-layout.ts';
import type { StoredTensor, WeightSource } from '../weight-source.ts';
import { awq } from './awq.ts';
import { bitsandbytes } from './bitsandbytes.ts';
import { compressedTensors } from './compressed-tensors.ts';
import { assembleScaled, fp8 } from './fp8.ts';
import { gptq } from './gptq.ts';
import type { Assembly, QuantScheme, RawTensors } from './scheme.ts';
import { SettingsReader } from './settings.ts';

const schemes: Readonly<Record<string, (settings: SettingsReader) => QuantScheme>> = {
  gptq,
  awq,
  'compressed-tensors': compressedTensors,
  fp8: (settings) => fp8(settings, 'fp8'),
  fbgemm_fp8: (settings) => fp8(settings, 'fbgemm_fp8'),
  bitsandbytes: () => bitsandbytes,
};

/** Methods whose tensors the families read by themselves. */
const readByFamilies = ['mxfp4'];

export const quantMethods: readonly string[] = [...Object.keys(schemes), ...readByFamilies];

/** A checkpoint whose tensors may be of any number type. */
interface RawSource extends WeightSource {
  raw(name: string): RawTensor | undefined;
  read(tensor: Pick<StoredTensor, 'name' | 'file' | 'offset' | 'sizeBytes'>): Uint8Array;
}

/**
 * The weights of a checkpoint whose configuration has a `quantization_config`.
 * @throws WEIGHTS_FORMAT_UNSUPPORTED naming the method, MODEL_CONFIG_INVALID
 */
export function quantizedSource(quantizationConfig: unknown, source: RawSource): WeightSource {
  const settings = new SettingsReader(quantizationConfig);
  const method = (settings.text('quant_method') ?? (settings.has('config_groups') ? 'compressed-tensors' : ''))
    .replaceAll('_', '-')
    .replace('fbgemm-fp8', 'fbgemm_fp8');
  if (readByFamilies.includes(method)) return source;
  if (Object.hasOwn(schemes, method)) return new QuantizedSource(source, schemes[method](settings));
  throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: 'The checkpoint is quantised by a method that is not read (quantization_config).',
    expected: `quant_method ${quantMethods.join(', ')}, or a checkpoint that is not quantised`,
    received: quoteName(method) || 'an unnamed method',
    hint: 'use the unquantised original of this model, or a GGUF file of it',
  });
}

/** A checkpoint whose configuration says nothing of quantisation: F8_E5M2 matrices are its numbers, everything else is read as it lies. */
export function plainSource(source: RawSource): WeightSource {
  const isCast = [...source.names()].some((name) => name.endsWith('.weight') && source.raw(name)?.dtype === 'F8_E5M2');
  return isCast ? new QuantizedSource(source, e5m2Cast) : source;
}

const e5m2Cast: QuantScheme = {
  method: 'none',
  suffixes: [],
  assemble(module, tensors) {
    const weight = tensors.raw(`${module}.weight`);
    return weight?.dtype === 'F8_E5M2' && weight.shape.length === 2 ? assembleScaled(module, tensors, undefined) : undefined;
  },
};

class QuantizedSource implements WeightSource {
  readonly mappable = true;
  readonly files: WeightSource['files'];
  readonly #source: RawSource;
  readonly #scheme: QuantScheme;
  readonly #tensors: RawTensors;
  /** By tensor name; null where the module is not quantised. */
  readonly #known = new Map<string, Assembly | null>();

  constructor(source: RawSource, scheme: QuantScheme) {
    this.#source = source;
    this.#scheme = scheme;
    this.files = source.files;
    this.#tensors = { raw: (name) => source.raw(name), read: (tensor) => source.read(tensor) };
  }

  find(name: string): StoredTensor | undefined {
    const assembly = this.#assemblyOf(name);
    if (assembly === null) return this.#source.find(name);
    const { format, shape, activation, columnOrder } = assembly;
    return {
      name,
      format,
      shape,
      file: this.files[0]?.path ?? '',
      offset: 0,
      sizeBytes: storedBytes(format, shape[0] * shape[1]),
      assembled: true,
      ...(activation === undefined ? {} : { activation }),
      ...(columnOrder === undefined ? {} : { columnOrder }),
    };
  }

  #assemblyOf(name: string): Assembly | null {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const assembly = name.endsWith('.weight') ? (this.#scheme.assemble(name.slice(0, -'.weight'.length), this.#tensors) ?? null) : null;
    this.#known.set(name, assembly);
    return assembly;
  }

  names(): Iterable<string> {
    const names = new Set<string>();
    for (const name of this.#source.names()) {
      const suffix = this.#scheme.suffixes.find((end) => name.endsWith(end));
      names.add(suffix === undefined ? name : `${name.slice(0, -suffix.length)}.weight`);
    }
    return names;
  }

  /** A tensor, or whole rows of one that is put together. */
  read(tensor: StoredTensor): Uint8Array {
    if (tensor.assembled !== true) return this.#source.read(tensor);
    const assembly = this.#assemblyOf(tensor.name);
    if (assembly === null) throw new MillraceError('INTERNAL', `Tensor ${tensor.name} belongs to another checkpoint.`);
    const rowBytes = storedBytes(assembly.format, assembly.shape[1]);
    return assembly.readRows(tensor.offset / rowBytes, tensor.sizeBytes / rowBytes);
  }

  close(): void {
    this.#source.close();
  }
}
