/**
 * Runs a Jinja template within bounds. A template comes with a model from a stranger: it may loop without end or double a string
 * until memory is gone. The library knows no limits, but every node it evaluates passes one method, which counts here.
 */
import { Environment, Interpreter, type Template } from '@huggingface/jinja';

/** The parts of the library's interpreter that are used here; its own declarations do not resolve. */
interface JinjaEnvironment {
  readonly variables: Map<string, unknown>;
  set(name: string, value: unknown): unknown;
}
interface JinjaValue {
  readonly value: unknown;
}
interface JinjaInterpreter {
  run(program: unknown): JinjaValue;
  evaluate(statement: unknown, environment: JinjaEnvironment): JinjaValue;
}
const LibraryInterpreter = Interpreter as unknown as new (environment: JinjaEnvironment) => JinjaInterpreter;
const LibraryEnvironment = Environment as unknown as new () => JinjaEnvironment;

/** Nodes that one rendering may evaluate. A conversation of thousands of messages needs some hundred thousand. */
export const maxEvaluations = 2_000_000;
/** Some nodes cost much more than others, so time is bounded as well. */
export const maxRenderingMs = 2000;
/** Longest string that may arise, in UTF-16 units: the prompt or a part of it. */
export const maxRenderedLength = 1 << 22;
/** Elements of the longest array that `range` makes. */
const maxRange = 100_000;

/** What a template raises by `raise_exception`: a message for the caller. */
export class TemplateRaised extends Error {}
/** A bound was reached. */
export class TemplateTooLarge extends Error {}

class BoundedInterpreter extends LibraryInterpreter {
  #evaluations = 0;
  readonly #deadlineMs = performance.now() + maxRenderingMs;

  override evaluate(statement: unknown, environment: JinjaEnvironment): JinjaValue {
    if (++this.#evaluations > maxEvaluations) throw new TemplateTooLarge(`it needs more than ${maxEvaluations} steps`);
    if (this.#evaluations % 256 === 0 && performance.now() > this.#deadlineMs)
      throw new TemplateTooLarge(`it takes longer than ${maxRenderingMs} ms`);
    const result = super.evaluate(statement, environment);
    const value: unknown = result.value;
    if (typeof value === 'string' && value.length > maxRenderedLength)
      throw new TemplateTooLarge(`it makes a text of more than ${maxRenderedLength} characters`);
    return result;
  }
}

/**
 * @param variables plain values and functions; one that is named like a built-in takes its place
 * @throws TemplateRaised, TemplateTooLarge, or whatever the library throws at a faulty template
 */
export function renderBounded(template: Template, variables: ReadonlyMap<string, unknown>): string {
  const environment = new LibraryEnvironment();
  for (const [name, value] of variables) {
    environment.variables.delete(name);
    environment.set(name, value);
  }
  for (const [name, value] of builtIns) if (!variables.has(name)) environment.set(name, value);
  const rendered = new BoundedInterpreter(environment).run(template.parsed).value;
  return typeof rendered === 'string' ? rendered : '';
}

const builtIns: readonly (readonly [string, unknown])[] = [
  ['true', true],
  ['false', false],
  ['none', null],
  ['True', true],
  ['False', false],
  ['None', null],
  ['range', range],
  ['raise_exception', raise],
];

function raise(message: unknown): never {
  throw new TemplateRaised(typeof message === 'string' ? message : String(message));
}

/** Python's `range`. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= maxRange)) throw new TemplateTooLarge(`range() of more than ${maxRange} numbers`);
  return Array.from({ length }, (_, i) => start + i * step);
}
