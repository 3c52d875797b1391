/** Weights on the native side: packed once per source, shared by every program that names them alike. */

import { readMachine } from '../../base/machine.ts';
import { weightFormats } from '../../plan/encode.ts';
import type { Plan, Weight } from '../../plan/plan.ts';
import { weightFormats as definitions, heldBits } from '../../quant/formats/index.ts';
import { type FoundPart, findParts, readConverted } from '../../quant/read-tensor.ts';
import type { StoredTensor, WeightSource } from '../../weights/weight-source.ts';
import { checkMemory } from './check-memory.ts';
import type { DeviceHandle, FileHandle, NativeAddon, NativeWeightPart, WeightHandle } from './load-addon.ts';

interface Shared {
  readonly packed: Promise<{ weight: WeightHandle; sizeBytes: number }>;
  users: number;
}

/** Weights that a program holds, in the order of its plan. */
export interface BoundWeights {
  readonly handles: readonly WeightHandle[];
  /** Bytes of those that no earlier program held. */
  readonly newBytes: number;
  release(): void;
}

/** Bytes of a weight once packed, about. */
function bytesOf(weight: Weight): number {
  return (heldBits(weight.format) / 8) * weight.shape.reduce((a, b) => a * b, 1);
}

/**
 * Where the matrices of experts are: `packed` in memory as kernels want them, or `mapped`, left in the checkpoint's file, a tile being packed when a step needs
 * it. `auto` packs what fits in memory. The numbers are the same.
 */
export type ExpertPlacement = 'auto' | 'packed' | 'mapped';

export class WeightPool {
  readonly #addon: NativeAddon;
  readonly #device: DeviceHandle;
  readonly #experts: ExpertPlacement;
  readonly #bySource = new WeakMap<WeightSource, Map<string, Shared>>();

  constructor(addon: NativeAddon, device: DeviceHandle, experts: ExpertPlacement) {
    this.#addon = addon;
    this.#device = device;
    this.#experts = experts;
  }

  /**
   * Packs what is not there yet, weight by weight on the device's threads; files are mapped only meanwhile.
   * @throws WEIGHTS_TENSOR_MISSING, WEIGHTS_SHAPE_MISMATCH, WEIGHTS_FILE_INVALID, MEMORY_INSUFFICIENT
   */
  async bind(plan: Plan, source: WeightSource, onProgress?: (doneBytes: number, totalBytes: number) => void): Promise<BoundWeights> {
    const shared = this.#bySource.get(source) ?? new Map<string, Shared>();
    this.#bySource.set(source, shared);
    const missing = plan.weights.filter((weight) => !shared.has(keyOf(weight)));
    const totalBytes = missing.reduce((sum, weight) => sum + bytesOf(weight), 0);
    const tooLarge = this.#experts === 'auto' && totalBytes > readMachine().availableMemoryBytes;
    const mapped = new Set(this.#experts === 'mapped' || tooLarge ? missing.filter((weight) => canStayInFile(weight, source)) : []);
    const residentBytes = missing.reduce((sum, weight) => sum + (mapped.has(weight) ? 0 : bytesOf(weight)), 0);
    checkMemory(`the weights of ${plan.name}`, residentBytes, 'use a smaller model, or one with 8-bit weights');
    const files = new MappedFiles(this.#addon);
    const held: string[] = [];
    const release = () => {
      for (const key of held.splice(0)) this.#release(shared, key);
    };
    try {
      const handles: WeightHandle[] = [];
      let newBytes = 0;
      let doneBytes = 0;
      onProgress?.(0, totalBytes);
      for (const weight of plan.weights) {
        const key = keyOf(weight);
        const known = shared.get(key);
        const entry = known ?? { packed: this.#pack(weight, source, files, mapped.has(weight)), users: 0 };
        shared.set(key, entry);
        entry.users++;
        held.push(key);
        const { weight: handle, sizeBytes } = await entry.packed;
        handles.push(handle);
        if (known !== undefined) continue;
        newBytes += sizeBytes;
        doneBytes += bytesOf(weight);
        onProgress?.(doneBytes, totalBytes);
      }
      return { handles, newBytes, release };
    } catch (thrown) {
      release();
      throw thrown;
    } finally {
      files.close();
    }
  }

  async #pack(weight: Weight, source: WeightSource, files: MappedFiles, mapped: boolean): Promise<{ weight: WeightHandle; sizeBytes: number }> {
    const parts = findParts(source, weight).map((part) => partOf(part, weight, source, files));
    const [rows, columns = 1] = weight.shape.slice(-2);
    const count = weight.shape.length === 3 ? weight.shape[0] : 1;
    const format = weightFormats.indexOf(weight.format);
    return this.#addon.packWeight(this.#device, format, weight.shape.length, rows, columns, count, mapped ? 1 : 0, parts);
  }

  #release(shared: Map<string, Shared>, key: string): void {
    const entry = shared.get(key);
    if (entry === undefined || --entry.users > 0) return;
    shared.delete(key);
    entry.packed.then(
      ({ weight }) => this.#addon.closeHandle(weight),
      () => undefined, // it failed: whoever asked for it has been told
    );
  }
}

/** The matrices of experts whose every row lies in a file as the kernels pack it. */
function canStayInFile(weight: Weight, source: WeightSource): boolean {
  if (weight.shape.length !== 3 || !source.mappable) return false;
  return findParts(source, weight).every(
    ({ tensor, transposed }) =>
      !transposed && tensor.assembled !== true && tensor.format === weight.format && tensor.rowOrder === undefined && tensor.shift === undefined,
  );
}

/** Programs share a weight when they call it the same and mean the same: a name may stand for other parts in another plan. */
function keyOf(weight: Weight): string {
  return JSON.stringify([
    weight.name,
    weight.format,
    weight.shape,
    weight.parts.map(({ tensor, index, rows, transposed }) => [tensor, index, rows, transposed]),
  ]);
}

function partOf(
  { tensor, numRows, transposed }: FoundPart<StoredTensor>,
  weight: Weight,
  source: WeightSource,
  files: MappedFiles,
): NativeWeightPart {
  // rounding to blocks is done by one code for all backends
  const changed = tensor.format !== weight.format || tensor.shift !== undefined;
  const rounded = weight.shape.length > 1 && changed && definitions[weight.format].blockElements > 1;
  if (transposed || rounded) {
    const bytes = readConverted(source, tensor, transposed, weight.format);
    const format = weightFormats.indexOf(weight.format);
    return { file: null, bytes, offset: 0, sizeBytes: bytes.length, format, rows: numRows, ropeHeadDim: 0, shift: 0 };
  }
  const mapped = source.mappable && tensor.assembled !== true;
  return {
    file: mapped ? files.map(tensor.file) : null,
    bytes: mapped ? null : source.read(tensor),
    offset: mapped ? tensor.offset : 0,
    sizeBytes: tensor.sizeBytes,
    format: weightFormats.indexOf(tensor.format),
    rows: tensor.shape[0],
    ropeHeadDim: tensor.rowOrder?.headDim ?? 0,
    shift: tensor.shift ?? 0,
  };
}

/** Files that are mapped while weights are packed from them. */
class MappedFiles {
  readonly #addon: NativeAddon;
  readonly #files = new Map<string, FileHandle>();

  constructor(addon: NativeAddon) {
    this.#addon = addon;
  }

  map(path: string): FileHandle {
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    const file = this.#addon.mapFile(path);
    this.#files.set(path, file);
    return file;
  }

  close(): void {
    for (const file of this.#files.values()) this.#addon.closeHandle(file);
    this.#files.clear();
  }
}
