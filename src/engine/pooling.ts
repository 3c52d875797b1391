/** From the hidden states of a text to one vector, as sentence-transformers checkpoints say in `1_Pooling/config.json` and `modules.json`. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../base/errors.ts';

export interface PoolingRules {
  /** `cls`: the state of the first token; `mean`: of all tokens; `last`: of the last one. */
  readonly pooling: 'cls' | 'mean' | 'last';
  /** Divides the vector by its length. */
  readonly normalize: boolean;
}

const modes: Readonly<Record<string, PoolingRules['pooling']>> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_lasttoken: 'last',
};

/** What a folder says; the mean, as it is, where it says nothing. @throws MODEL_CONFIG_INVALID for a way of pooling that is not there */
export function poolingOf(folder: string): PoolingRules {
  const file = readJson(join(folder, '1_Pooling', 'config.json'));
  const modules = readJson(join(folder, 'modules.json'));
  const normalize = Array.isArray(modules) && modules.some((module: { type?: unknown } | null) => String(module?.type).endsWith('.Normalize'));
  if (file === null || typeof file !== 'object') return { pooling: 'mean', normalize };
  const chosen = Object.entries(file).flatMap(([field, value]) => (field.startsWith('pooling_mode') && value === true ? [field] : []));
  const [pooling] = chosen.map((field) => modes[field]);
  if (chosen.length === 1 && pooling !== undefined) return { pooling, normalize };
  throw new MillraceError('MODEL_CONFIG_INVALID', {
    message: '1_Pooling/config.json asks for a way of pooling that is not there.',
    expected: `one of ${Object.keys(modes).join(', ')}`,
    received: chosen.join(', ').slice(0, 200) || 'none',
  });
}

/** @param states `[tokens, hiddenSize]` of one text. @returns `[hiddenSize]` */
export function pool(states: Float32Array, hiddenSize: number, { pooling, normalize }: PoolingRules): Float32Array {
  const numTokens = states.length / hiddenSize;
  const first = pooling === 'last' ? numTokens - 1 : 0;
  const count = pooling === 'mean' ? numTokens : 1;
  const sums = new Float64Array(hiddenSize);
  for (let token = first; token < first + count; token++) for (let i = 0; i < hiddenSize; i++) sums[i] += states[token * hiddenSize + i];
  const length = normalize ? Math.sqrt(sums.reduce((sum, x) => sum + (x / count) ** 2, 0)) : 1;
  return Float32Array.from(sums, (x) => x / count / Math.max(length, 1e-12));
}

function readJson(path: string): unknown {
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new MillraceError('MODEL_CONFIG_INVALID', { message: `${path} is not JSON.`, cause });
  }
}
