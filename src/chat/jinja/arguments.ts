/** Arguments of built-in functions, bound to names as Python binds them. */
import { typeError } from './errors.ts';
import type { Kwargs, Value } from './values.ts';

/** Most arguments of one call, those from `*args` included. */
export const maxArguments = 1000;

/**
 * @param parameters names in order; one with a trailing `!` is required, one with a leading `*` takes no keyword
 * @returns the values in order, undefined where none is given
 * @throws TypeError
 */
export function bind(name: string, parameters: readonly string[], args: readonly Value[], kwargs: Kwargs): (Value | undefined)[] {
  if (args.length > parameters.length) {
    throw typeError(`${name}() takes ${count(parameters.length)} but ${args.length} ${args.length === 1 ? 'was' : 'were'} given`);
  }
  const bound: (Value | undefined)[] = parameters.map((_, i) => args[i]);
  for (const [key, value] of kwargs) {
    const at = parameters.findIndex((parameter) => parameter === key || parameter === `${key}!`);
    if (at < 0) throw typeError(`${name}() got an unexpected keyword argument '${key}'`);
    if (bound[at] !== undefined) throw typeError(`${name}() got multiple values for argument '${key}'`);
    bound[at] = value;
  }
  const missing = parameters.findIndex((parameter, i) => parameter.endsWith('!') && bound[i] === undefined);
  if (missing >= 0) throw typeError(`${name}() missing 1 required positional argument: '${parameters[missing].replace(/[*!]/g, '')}'`);
  return bound;
}

function count(number: number): string {
  return number === 1 ? '1 positional argument' : `${number} positional arguments`;
}

/** @throws TypeError when there are keyword arguments: most methods of Python's built-in types take none */
export function positional(name: string, args: readonly Value[], kwargs: Kwargs, least: number, most: number): void {
  if (kwargs.size > 0) throw typeError(`${name}() takes no keyword arguments`);
  if (args.length >= least && args.length <= most) return;
  const short = name.slice(name.indexOf('.') + 1);
  if (least === most)
    throw typeError(
      `${name}() takes ${least === 0 ? 'no arguments' : `exactly ${least === 1 ? 'one argument' : `${least} arguments`}`} (${args.length} given)`,
    );
  const bound = args.length < least ? `at least ${least} argument${least === 1 ? '' : 's'}` : `at most ${most} argument${most === 1 ? '' : 's'}`;
  throw typeError(`${short} expected ${bound}, got ${args.length}`);
}
