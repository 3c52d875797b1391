/** What the subcommands of `millrace bench` share about their flags. */
import type { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import { type FlagDeclaration, readFlags } from '../flags.ts';

/** Values of flags, defaults of the declarations filled in. */
export function withDefaults(command: Command, declarations: readonly FlagDeclaration[]): Record<string, unknown> {
  const defaults = declarations.flatMap(({ name, default: value }) => (value === undefined ? [] : [[name, value]]));
  return { ...Object.fromEntries(defaults), ...readFlags(command, declarations) };
}

/** @throws MillraceError CONFIG_INVALID for a value below `min` */
export function atLeast(min: number, flags: Readonly<Record<string, number>>): void {
  for (const [flag, value] of Object.entries(flags)) {
    if (!(value >= min)) {
      throw new MillraceError('CONFIG_INVALID', {
        message: `--${flag} is out of range.`,
        expected: `at least ${min}`,
        received: String(value),
        param: flag,
      });
    }
  }
}
