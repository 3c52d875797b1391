/** How the grammar of JSON Schemas fares with published collections: what compiles, what is accepted, how long it takes. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../../src/base/errors.ts';
import { Automaton } from '../../src/sampling/grammar/automaton.ts';
import { compileJsonSchema } from '../../src/sampling/grammar/json-schema.ts';
import { readTarGz } from './read-tar.ts';

const shared = process.env.MILLRACE_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));
/** JSONSchemaBench (Geng et al. 2025, arXiv:2501.10868) in the form of MaskBench: schemas with instances, each marked valid or not. */
export const benchFile = join(shared, 'data/jsonschemabench/maskbench-data.tar.gz');
/** The JSON Schema project's test suite. */
export const suiteFile = join(shared, 'data/json-schema-test-suite/tests.tar.gz');
export const drafts = ['draft4', 'draft6', 'draft7', 'draft2019-09', 'draft2020-12'] as const;
export const hasBench = existsSync(benchFile);
export const hasSuite = existsSync(suiteFile);

export interface Sample {
  readonly name: string;
  readonly schema: unknown;
  readonly tests: readonly { readonly valid: boolean; readonly data: unknown }[];
}

export interface Tally {
  numSchemas: number;
  numCompiled: number;
  numValid: number;
  numValidAccepted: number;
  invalidAccepted: string[];
  unexpected: string[];
  /** Valid ones that were refused. */
  validRefused: string[];
  /** Message of each refusal to compile. */
  refusals: string[];
  /** Processor time of each attempt. */
  compileMs: number[];
}

type Json = Record<string, unknown>;

/** The same value with its properties in the order of the schema, as far as that is seen at a glance. */
export function inOrder(value: unknown, schema: unknown, root: unknown, depth = 0): unknown {
  if (depth > 40 || typeof value !== 'object' || value === null) return value;
  const shapes = shapesOf(schema, root);
  if (Array.isArray(value)) {
    const items = shapes.map(({ items }) => items).find((found) => found !== undefined);
    return value.map((item, i) => inOrder(item, Array.isArray(items) ? items[i] : items, root, depth + 1));
  }
  const properties = new Map<string, unknown>();
  for (const shape of shapes)
    for (const [name, inner] of Object.entries((shape.properties ?? {}) as Json)) if (!properties.has(name)) properties.set(name, inner);
  const required = shapes.flatMap((shape) => (Array.isArray(shape.required) ? (shape.required as string[]) : []));
  const names = [...new Set([...properties.keys(), ...required, ...Object.keys(value)])].filter((name) => Object.hasOwn(value, name));
  const rest = shapes.map(({ additionalProperties }) => additionalProperties).find((found) => found !== undefined);
  return Object.fromEntries(names.map((name) => [name, inOrder((value as Json)[name], properties.get(name) ?? rest, root, depth + 1)]));
}

function shapesOf(schema: unknown, root: unknown, depth = 0): Json[] {
  if (typeof schema !== 'object' || schema === null || depth > 8) return [];
  const { $ref, allOf, anyOf, oneOf } = schema as Json;
  const parts = [allOf, anyOf, oneOf].flatMap((list) => (Array.isArray(list) ? list : []));
  if (typeof $ref === 'string' && $ref.startsWith('#')) {
    const path = $ref
      .slice(2)
      .split('/')
      .filter((name) => name !== '');
    parts.push(
      path.reduce<unknown>((at, name) => (at as Json | undefined)?.[decodeURIComponent(name).replaceAll('~1', '/').replaceAll('~0', '~')], root),
    );
  }
  return [schema as Json, ...parts.flatMap((part) => shapesOf(part, root, depth + 1))];
}

export function tally(samples: Iterable<Sample>): Tally {
  const counts: Tally = {
    numSchemas: 0,
    numCompiled: 0,
    numValid: 0,
    numValidAccepted: 0,
    invalidAccepted: [],
    unexpected: [],
    validRefused: [],
    refusals: [],
    compileMs: [],
  };
  for (const { name, schema, tests } of samples) {
    counts.numSchemas++;
    let automaton: Automaton;
    const start = process.cpuUsage().user;
    try {
      automaton = new Automaton(compileJsonSchema(schema, { compact: false }));
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || !thrown.code.startsWith('GRAMMAR_')) counts.unexpected.push(`${name}: ${String(thrown)}`);
      counts.refusals.push(`${thrown instanceof Error ? thrown.message : String(thrown)} [${name}]`);
      counts.compileMs.push((process.cpuUsage().user - start) / 1000);
      continue;
    }
    counts.compileMs.push((process.cpuUsage().user - start) / 1000);
    counts.numCompiled++;
    for (const { valid, data } of tests) {
      const isAccepted = accepts(automaton, JSON.stringify(inOrder(data, schema, schema)));
      if (!valid && isAccepted) counts.invalidAccepted.push(`${name}: ${JSON.stringify(data).slice(0, 200)}`);
      if (valid) counts.numValid++;
      if (valid && isAccepted) counts.numValidAccepted++;
      if (valid && !isAccepted) counts.validRefused.push(`${name}: ${JSON.stringify(data).slice(0, 200)}`);
    }
  }
  return counts;
}

function accepts(automaton: Automaton, text: string): boolean {
  let state: ReturnType<Automaton['next']> = automaton.start;
  for (const byte of Buffer.from(text)) {
    state = automaton.next(state, byte);
    if (state === null) return false;
  }
  return state.isAccepting;
}

/** Every `stride`-th schema of JSONSchemaBench. */
export function* benchSamples(stride = 1): Generator<Sample> {
  let index = 0;
  for (const { name, text } of readTarGz(benchFile)) {
    if (!name.endsWith('.json') || index++ % stride !== 0) continue;
    yield { name, ...(JSON.parse(text()) as Omit<Sample, 'name'>) };
  }
}

export function* suiteSamples(draft: string): Generator<Sample> {
  for (const { name, text } of readTarGz(suiteFile)) {
    if (!new RegExp(`tests/${draft}/[^/]+\\.json$`).test(name)) continue;
    for (const group of JSON.parse(text()) as { description: string; schema: unknown; tests: Sample['tests'] }[]) {
      yield { name: `${name}: ${group.description}`, schema: group.schema, tests: group.tests };
    }
  }
}
