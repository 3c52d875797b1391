/** Reads a model configuration (`config.json`) field by field: a stranger's word, so every field is checked and named when it is wrong. */
import { MillraceError } from '../base/errors.ts';

/** Bounds far above any model, so that absurd sizes are refused before anything is allocated. */
export const limits = {
  layers: 1024,
  heads: 4096,
  headDim: 1024,
  hiddenSize: 1 << 18,
  intermediateSize: 1 << 21,
  vocabSize: 1 << 22,
  positions: 1 << 28,
} as const;

export interface IntegerRules {
  readonly min?: number;
  readonly max: number;
  /** Taken when the field is absent or null; without one the field is required. */
  readonly fallback?: number;
}

export class ConfigReader {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #path: string;

  /** `path` names the object in messages, such as `rope_scaling.`. @throws MODEL_CONFIG_INVALID when `config` is not an object */
  constructor(config: unknown, path = '') {
    if (typeof config !== 'object' || config === null || Array.isArray(config)) {
      throw configInvalid(path === '' ? 'The model configuration' : path.slice(0, -1), 'a JSON object', describe(config));
    }
    this.#fields = config as Record<string, unknown>;
    this.#path = path;
  }

  /** The raw value; undefined when absent or null. */
  get(field: string): unknown {
    return Object.hasOwn(this.#fields, field) ? (this.#fields[field] ?? undefined) : undefined;
  }

  /** True when the field is written down, even as null. */
  has(field: string): boolean {
    return Object.hasOwn(this.#fields, field) && this.#fields[field] !== undefined;
  }

  integer(field: string, { min = 1, max, fallback }: IntegerRules): number {
    const value = this.get(field) ?? fallback;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw this.invalid(field, `a whole number from ${min} to ${max}`);
    }
    return value;
  }

  /** A finite number greater than zero. */
  positive(field: string, fallback?: number): number {
    const value = this.get(field) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.invalid(field, 'a number greater than 0');
    return value;
  }

  /** As `positive`, or 0 when absent: switches such as soft caps. */
  positiveOrNone(field: string): number {
    return this.get(field) === undefined ? 0 : this.positive(field);
  }

  boolean(field: string, fallback: boolean): boolean {
    const value = this.get(field) ?? fallback;
    if (typeof value !== 'boolean') throw this.invalid(field, 'true or false');
    return value;
  }

  word<Word extends string>(field: string, words: readonly Word[], fallback?: Word): Word {
    const value = this.get(field) ?? fallback;
    const found = words.find((word) => word === value);
    if (found === undefined) throw this.invalid(field, `one of ${words.join(', ')}`);
    return found;
  }

  object(field: string): ConfigReader | undefined {
    const value = this.get(field);
    return value === undefined ? undefined : new ConfigReader(value, `${this.#path}${field}.`);
  }

  /** A list of numbers. */
  numbers(field: string, length: number): number[] {
    const value = this.get(field);
    const legal = Array.isArray(value) && value.length === length && value.every((x) => typeof x === 'number' && Number.isFinite(x));
    if (!legal) throw this.invalid(field, `a list of ${length} numbers`);
    return value as number[];
  }

  /** The same object, some of its fields left out. */
  without(...fields: string[]): ConfigReader {
    return new ConfigReader(Object.fromEntries(Object.entries(this.#fields).filter(([field]) => !fields.includes(field))), this.#path);
  }

  /** The same object with `fields` taken from another where it lacks them. */
  withFallback(other: ConfigReader, ...fields: string[]): ConfigReader {
    const taken = fields.filter((field) => !this.has(field) && other.has(field)).map((field) => [field, other.get(field)]);
    return new ConfigReader({ ...this.#fields, ...Object.fromEntries(taken) }, this.#path);
  }

  /** The same object with fields under other names taken where it lacks them: `{ hidden_size: 'n_embd' }` reads the second as the first. */
  withNames(names: Readonly<Record<string, string>>): ConfigReader {
    const taken = Object.entries(names).flatMap(([name, other]) => (!this.has(name) && this.has(other) ? [[name, this.get(other)]] : []));
    return new ConfigReader({ ...this.#fields, ...Object.fromEntries(taken) }, this.#path);
  }

  /** The same object with values where it lacks them. */
  withValues(values: Readonly<Record<string, unknown>>): ConfigReader {
    const missing = Object.entries(values).filter(([name]) => this.get(name) === undefined);
    return new ConfigReader({ ...this.#fields, ...Object.fromEntries(missing) }, this.#path);
  }

  /** An error about a field of this object. */
  invalid(field: string, expected: string): MillraceError {
    return configInvalid(`Field ${this.#path}${field} of the model configuration`, expected, describe(this.get(field)));
  }
}

function configInvalid(what: string, expected: string, received: string): MillraceError {
  return new MillraceError('MODEL_CONFIG_INVALID', { message: `${what} is missing or wrong.`, expected, received });
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 80 ? text : `${text.slice(0, 80)}...`;
}
