/** From declared options to flags of a command, and back to values. */
import { type Command, Option } from 'commander';
import { MillraceError } from '../base/errors.ts';
import { environmentName } from '../engine/config.ts';

/** A flag. `src/engine/config.ts` declares the engine's in this shape; commands add their own. */
export interface FlagDeclaration {
  /** Key of the value, camel case of the flag. */
  readonly name: string;
  /** Spelling without the dashes, such as `max-model-len`. */
  readonly flag: string;
  readonly kind: 'string' | 'integer' | 'number' | 'boolean' | 'strings' | 'integers';
  readonly choices?: readonly string[];
  readonly default?: unknown;
  /** Stands for the value in the help text, such as `N`. */
  readonly placeholder?: string;
  readonly meaning: string;
  /** Environment variable; `MILLRACE_` and the flag when absent, none when null. */
  readonly env?: string | null;
}

/**
 * Adds a flag for each declaration. Values that nobody gave stay undefined: defaults are the reader's. A flag that the command has already
 * keeps its first meaning.
 */
export function addFlags(command: Command, declarations: readonly FlagDeclaration[]): Command {
  for (const declaration of declarations) {
    if (command.options.some((option) => option.long === `--${declaration.flag}`)) continue;
    for (const option of optionsOf(declaration)) {
      declarationOf.set(option, declaration);
      command.addOption(option);
    }
  }
  return command;
}

/** Which declaration an option of a command came from. */
const declarationOf = new WeakMap<Option, FlagDeclaration>();

/** Values given for the declarations, by name; those nobody gave, or whose flag means something else on this command, are left out. */
export function readFlags(command: Command, declarations: readonly FlagDeclaration[]): Record<string, unknown> {
  const given = command.opts() as Record<string, unknown>;
  const values: Record<string, unknown> = {};
  for (const option of command.options) {
    const declaration = declarationOf.get(option);
    if (declaration === undefined || !declarations.includes(declaration)) continue;
    const value = given[camelCase(declaration.flag)] ?? booleanFromEnvironment(declaration);
    if (value !== undefined) values[declaration.name] = value;
  }
  return values;
}

/** Commander takes any value of a boolean flag's variable for true, `0` and `false` too; so these are read here. */
function booleanFromEnvironment(declaration: FlagDeclaration): boolean | undefined {
  const name = environmentOf(declaration);
  const text = declaration.kind !== 'boolean' || name === null ? undefined : process.env[name];
  return text === undefined ? undefined : parseBoolean(declaration.flag, text);
}

function environmentOf({ env, flag }: FlagDeclaration): string | null {
  return env === undefined ? environmentName(flag) : env;
}

function optionsOf(declaration: FlagDeclaration): Option[] {
  const { flag, kind, meaning, choices } = declaration;
  const shown = declaration.default === undefined || declaration.default === null ? '' : ` (default: ${shownDefault(declaration.default)})`;
  if (kind === 'boolean') {
    const on = new Option(`--${flag}`, meaning + shown);
    const off = new Option(`--no-${flag}`, `turn --${flag} off`);
    return declaration.default === true ? [on, off] : [on, off.hideHelp()];
  }
  const placeholder = declaration.placeholder ?? (choices ? choices.join('|') : kind === 'string' ? 'TEXT' : 'N');
  const option = new Option(`--${flag} <${placeholder}>`, meaning + shown);
  const env = environmentOf(declaration);
  if (env !== null) option.env(env);
  option.argParser((text, previous) => parseValue(declaration, text, previous));
  return [option];
}

function shownDefault(value: unknown): string {
  return Array.isArray(value) ? value.join(',') : String(value);
}

function camelCase(flag: string): string {
  return flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function parseBoolean(flag: string, text: string): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw invalid(flag, 'true or false', text);
}

function parseValue({ flag, kind, choices, default: fallback }: FlagDeclaration, text: string, previous: unknown): unknown {
  if (text === 'auto' && fallback === 'auto') return text;
  switch (kind) {
    case 'integer':
      return parseInteger(flag, text);
    case 'number': {
      const value = text === 'inf' ? Number.POSITIVE_INFINITY : Number(text);
      if (text.trim() === '' || Number.isNaN(value)) throw invalid(flag, 'a number', text);
      return value;
    }
    case 'integers':
      return text.split(',').map((part) => parseInteger(flag, part));
    case 'strings':
      return [...(Array.isArray(previous) ? previous : []), text];
    default:
      if (choices !== undefined && !choices.includes(text)) throw invalid(flag, `one of ${choices.join(', ')}`, text);
      return text;
  }
}

const suffixes: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** An integer, with vLLM's suffixes: 2k is 2000, 2K is 2048. */
function parseInteger(flag: string, text: string): number {
  const match = /^\s*(-?\d+(?:\.\d+)?)([kmgKMG]?)\s*$/.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * suffixes[match[2]];
  if (!Number.isSafeInteger(value)) throw invalid(flag, 'an integer', text);
  return value;
}

function invalid(flag: string, expected: string, received: string): MillraceError {
  return new MillraceError('CONFIG_INVALID', {
    message: `--${flag} has a value that it cannot take.`,
    expected,
    received: JSON.stringify(received.slice(0, 100)),
    param: flag,
  });
}
