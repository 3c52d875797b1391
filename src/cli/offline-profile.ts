/** `bench offline --profile`: reads an engine's times of nodes and totals between runs. */
import { MillraceError } from '../base/errors.ts';
import type { OfflineHooks, OfflineResult } from '../bench/offline.ts';
import { type ProfileLine, profileLines, profileText } from '../bench/profile.ts';
import type { Plan } from '../plan/plan.ts';
import { storedBytes } from '../quant/formats/index.ts';
import type { CliEngine } from './context.ts';

export interface OfflineProfile extends Pick<OfflineResult, 'phase' | 'batchSize' | 'inputLen'> {
  readonly lines: readonly ProfileLine[];
}

/** Fills `profiles`. @throws CONFIG_INVALID where the backend does not count */
export function profileHooks(engine: CliEngine, profiles: OfflineProfile[]): Pick<OfflineHooks, 'profile' | 'onProfile'> {
  const totals = () => ({ ...(engine.totals ?? { numSteps: 0, totalForwardMs: 0, totalSampleMs: 0, totalHostMs: 0 }), atMs: performance.now() });
  if ((engine.profile?.() ?? null) === null) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'This backend does not count the time of nodes.',
      expected: '--backend cpu',
      received: '--profile',
    });
  }
  let last = totals();
  const bytesOf = weightBytes(engine.describe().plan);
  return {
    profile: () => {
      const nodes = engine.profile?.() ?? [];
      const before = last;
      last = totals();
      return {
        nodes,
        steps: last.numSteps - before.numSteps,
        deviceMs: last.totalForwardMs - before.totalForwardMs,
        sampleMs: last.totalSampleMs - before.totalSampleMs,
        hostMs: last.totalHostMs - before.totalHostMs,
        elapsedMs: last.atMs - before.atMs,
      };
    },
    onProfile: ({ phase, batchSize, inputLen }, readings) => profiles.push({ phase, batchSize, inputLen, lines: profileLines(readings, bytesOf) }),
  };
}

/** Of the matrices that a linear reads whole. */
function weightBytes(plan: Plan): (node: string) => number {
  const bytes = new Map<string, number>();
  for (const { name, op, weights } of plan.nodes) {
    const matrices = weights.flatMap((id) => (id === null || plan.weights[id].shape.length !== 2 ? [] : [plan.weights[id]]));
    if (op !== 'linear' && op !== 'head-linear') continue;
    bytes.set(
      name,
      matrices.reduce((sum, { format, shape }) => sum + storedBytes(format, shape[0] * shape[1]), 0),
    );
  }
  return (node) => bytes.get(node) ?? 0;
}

export function offlineProfileText({ phase, batchSize, inputLen, lines }: OfflineProfile): string {
  return `${phase} of ${batchSize}, prompts of ${inputLen}\n${profileText(lines)}`;
}
