/** Checked access to a `quantization_config`: a stranger's words. */
import { MillraceError } from '../../base/errors.ts';
import { isObject } from '../bounded-json.ts';

/** Characters of a pattern that a configuration may bring. */
const MAX_PATTERN = 1000;
const MAX_REPETITIONS = 4;

export class SettingsReader {
  readonly #fields: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(fields: unknown, path = 'quantization_config') {
    if (!isObject(fields))
      throw new MillraceError('MODEL_CONFIG_INVALID', { message: `${path} is not an object.`, expected: '{ ... }', received: typeof fields });
    this.#fields = fields;
    this.#path = path;
  }

  #invalid(field: string, expected: string): MillraceError {
    const received = JSON.stringify(this.#fields[field])?.slice(0, 100) ?? 'nothing';
    return new MillraceError('MODEL_CONFIG_INVALID', { message: `${this.#path}.${field} is wrong.`, expected, received });
  }

  has(field: string): boolean {
    return Object.hasOwn(this.#fields, field) && this.#fields[field] !== null && this.#fields[field] !== undefined;
  }

  text(field: string): string | undefined {
    if (!this.has(field)) return undefined;
    const value = this.#fields[field];
    if (typeof value !== 'string') throw this.#invalid(field, 'a text');
    return value.toLowerCase();
  }

  integer(field: string): number | undefined {
    if (!this.has(field)) return undefined;
    const value = this.#fields[field];
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw this.#invalid(field, 'a whole number');
    return value;
  }

  number(field: string): number | undefined {
    if (!this.has(field)) return undefined;
    const value = this.#fields[field];
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.#invalid(field, 'a number');
    return value;
  }

  flag(field: string): boolean {
    if (!this.has(field)) return false;
    const value = this.#fields[field];
    if (typeof value !== 'boolean') throw this.#invalid(field, 'true or false');
    return value;
  }

  integers(field: string): readonly number[] | undefined {
    if (!this.has(field)) return undefined;
    const value = this.#fields[field];
    if (!Array.isArray(value) || !value.every((n) => Number.isSafeInteger(n) && n > 0)) throw this.#invalid(field, 'a list of lengths');
    return value as number[];
  }

  texts(field: string): readonly string[] {
    if (!this.has(field)) return [];
    const value = this.#fields[field];
    if (!Array.isArray(value) || !value.every((text) => typeof text === 'string')) throw this.#invalid(field, 'a list of texts');
    return value as string[];
  }

  section(field: string): SettingsReader | undefined {
    return this.has(field) ? new SettingsReader(this.#fields[field], `${this.#path}.${field}`) : undefined;
  }

  /** The sections under a field, by name; entries that are no objects are left out. */
  entries(field: string): [string, SettingsReader][] {
    if (!this.has(field)) return [];
    const value = this.#fields[field];
    if (!isObject(value)) throw this.#invalid(field, '{ name: { ... } }');
    return Object.entries(value).flatMap(([name, own]) =>
      isObject(own) ? [[name, new SettingsReader(own, `${this.#path}.${field}.${name.slice(0, 50)}`)]] : [],
    );
  }

  /**
   * A pattern of Python's `re`, matched from the start of a module name. What could take long to fail is refused: repeated groups, and more than
   * four open repetitions.
   */
  pattern(source: string): (module: string) => boolean {
    const repetitions = source.match(/(?<!\\)[*+{]/g)?.length ?? 0;
    if (source.length > MAX_PATTERN || repetitions > MAX_REPETITIONS || /\)[*+{]/.test(source)) {
      throw new MillraceError('MODEL_CONFIG_INVALID', {
        message: `${this.#path} has a pattern of module names that is too involved.`,
        expected: `at most ${MAX_REPETITIONS} repetitions, none of a group`,
        received: source.slice(0, 100),
      });
    }
    try {
      const expression = new RegExp(`^(?:${source})`);
      return (module) => expression.test(module);
    } catch {
      throw new MillraceError('MODEL_CONFIG_INVALID', {
        message: `${this.#path} has a pattern that cannot be read.`,
        received: source.slice(0, 100),
      });
    }
  }
}
