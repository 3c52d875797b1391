/** Opens the tiers that the options ask for, for one model on one backend. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import type { Cache } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import { DiskTier } from '../kv/tiers/disk-tier.ts';
import { HostTier } from '../kv/tiers/host-tier.ts';
import { TierStack } from '../kv/tiers/tier-stack.ts';
import type { Plan } from '../plan/plan.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import type { CheckedOptions } from './config.ts';

const GB = 1e9;
/** Bytes of each tensor that go into the name of a model. */
const SAMPLE_BYTES = 4096;

/** @throws CONFIG_INVALID */
export async function openTiers(options: CheckedOptions, kvClass: string): Promise<TierStack | null> {
  const { kvDiskDir } = options;
  const hostBytes = Number(options.kvHostGb) * GB;
  if (hostBytes === 0 && kvDiskDir === null) return null;
  if (options.enablePrefixCaching !== true) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'Tiers of the KV cache need the prefix cache: blocks come back as prefixes.',
      hint: 'Leave out --kv-host-gb and --kv-disk-dir, or --no-enable-prefix-caching.',
    });
  }
  const limitBytes = Number(options.kvDiskGb) * GB;
  const disk = kvDiskDir === null ? null : await DiskTier.open({ directory: kvDiskDir, limitBytes, classDigest: kvClass });
  return new TierStack({ classDigest: kvClass, host: hostBytes === 0 ? null : new HostTier(hostBytes), disk });
}

/** Names the class in which bytes of KV are equal: whoever reads blocks that it did not write must be sure that it would have written the same. */
export function kvClassOf(plan: Plan, source: WeightSource, { layout }: Cache): string {
  return `${version}; ${layout}; ${modelDigest(plan, source)}`;
}

/**
 * Names what a model computes: its plan with all constants, and the weights by name, shape, format, place, by the first 4 KiB of each tensor, and by
 * the times of their files. Reading all of the weights would take as long as loading does; training moves every tensor, so a sample of each tells two
 * checkpoints apart.
 */
export function modelDigest(plan: Plan, source: WeightSource): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(plan, (_key, value: unknown) => (ArrayBuffer.isView(value) ? digestOf(value) : value)));
  for (const { parts } of plan.weights) {
    for (const { tensor } of parts) {
      const stored = source.find(tensor);
      if (stored === undefined) continue;
      const { name, format, shape, offset, sizeBytes } = stored;
      hash.update(JSON.stringify([name, format, shape, offset, sizeBytes]));
      // random weights are what their names make them
      if (source.mappable && stored.assembled !== true) hash.update(source.read({ ...stored, sizeBytes: Math.min(sizeBytes, SAMPLE_BYTES) }));
    }
  }
  for (const { path, sizeBytes } of source.files) hash.update(JSON.stringify([sizeBytes, modifiedMs(path)]));
  return hash.digest('hex');
}

/** Null for what does not lie on this disk. */
function modifiedMs(path: string): number | null {
  return fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
}

function digestOf(view: ArrayBufferView): string {
  return createHash('sha256')
    .update(new Uint8Array(view.buffer, view.byteOffset, view.byteLength))
    .digest('hex');
}
