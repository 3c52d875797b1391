import { toMillraceError } from '../base/errors.ts';
import type { ModelTable, ServedModel } from './model-table.ts';

export interface ModelHealth {
  readonly status: 'ok' | 'stalled' | 'closed';
  readonly running: number;
  readonly waiting: number;
  /** null when there will be none. */
  readonly sinceProgressMs: number | null;
}

export interface Health {
  readonly status: 'ok' | 'stalled' | 'closed' | 'draining';
  readonly models: Readonly<Record<string, ModelHealth>>;
}

/** Health means progress: an engine that has work and finishes no step is not healthy, however well it answers. */
export function readHealth(models: ModelTable, stallMs: number, isDraining: boolean): Health {
  const each = models.served.map((model) => [model.names[0] ?? '', modelHealth(model, stallMs)] as const);
  const worst = each.find(([, { status }]) => status !== 'ok')?.[1].status ?? 'ok';
  return { status: isDraining ? 'draining' : worst, models: Object.fromEntries(each) };
}

function modelHealth({ engine }: ServedModel, stallMs: number): ModelHealth {
  try {
    const { numRunning, numWaiting, sinceProgressMs } = engine.stats();
    if (sinceProgressMs === Number.POSITIVE_INFINITY) return closed; // its loop has ended: nothing will ever progress
    const isStalled = numRunning + numWaiting > 0 && sinceProgressMs > stallMs;
    return { status: isStalled ? 'stalled' : 'ok', running: numRunning, waiting: numWaiting, sinceProgressMs: Math.round(sinceProgressMs) };
  } catch (thrown) {
    if (toMillraceError(thrown).code !== 'ENGINE_CLOSED') throw thrown;
    return closed;
  }
}

const closed: ModelHealth = Object.freeze({ status: 'closed', running: 0, waiting: 0, sinceProgressMs: null });
