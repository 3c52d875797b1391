/** The grammar of JSON Schemas against published collections: nothing invalid may be accepted, and most must compile. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { MillraceError } from '../../src/base/errors.ts';
import { Automaton } from '../../src/sampling/grammar/automaton.ts';
import { compileJsonSchema } from '../../src/sampling/grammar/json-schema.ts';
import { readTarGz } from './read-tar.ts';

const shared = process.env.MILLRACE_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));
const bench = join(shared, 'data/jsonschemabench/maskbench-data.tar.gz');
const suite = join(shared, 'data/json-schema-test-suite/tests.tar.gz');

interface Sample {
  readonly name: string;
  readonly schema: unknown;
  readonly tests: readonly { readonly valid: boolean; readonly data: unknown }[];
}

interface Tally {
  numSchemas: number;
  numCompiled: number;
  numValid: number;
  numValidAccepted: number;
  invalidAccepted: string[];
  unexpected: string[];
}

type Json = Record<string, unknown>;

/** The same value with its properties in the order of the schema, as far as that is seen at a glance. */
function inOrder(value: unknown, schema: unknown, root: unknown, depth = 0): unknown {
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

function tally(samples: Iterable<Sample>): Tally {
  const counts: Tally = { numSchemas: 0, numCompiled: 0, numValid: 0, numValidAccepted: 0, invalidAccepted: [], unexpected: [] };
  for (const { name, schema, tests } of samples) {
    counts.numSchemas++;
    let automaton: Automaton;
    try {
      automaton = new Automaton(compileJsonSchema(schema, { compact: false }));
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || !thrown.code.startsWith('GRAMMAR_')) counts.unexpected.push(`${name}: ${String(thrown)}`);
      continue;
    }
    counts.numCompiled++;
    for (const { valid, data } of tests) {
      const isAccepted = accepts(automaton, JSON.stringify(inOrder(data, schema, schema)));
      if (!valid && isAccepted) counts.invalidAccepted.push(`${name}: ${JSON.stringify(data).slice(0, 200)}`);
      if (valid) counts.numValid++;
      if (valid && isAccepted) counts.numValidAccepted++;
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

describe.skipIf(!existsSync(bench))('schemas of the real world', () => {
  test('four in five compile, what is valid is accepted and nothing invalid is', { timeout: 60_000 }, () => {
    const samples: Sample[] = [];
    let index = 0;
    for (const { name, text } of readTarGz(bench)) {
      if (!name.endsWith('.json') || index++ % 40 !== 0) continue;
      samples.push({ name, ...(JSON.parse(text()) as Omit<Sample, 'name'>) });
    }
    const counts = tally(samples);
    expect(counts.unexpected).toEqual([]);
    expect(counts.invalidAccepted).toEqual([]);
    expect(counts.numCompiled / counts.numSchemas).toBeGreaterThan(0.8);
    expect(counts.numValidAccepted / counts.numValid).toBeGreaterThan(0.97);
  });
});

describe.skipIf(!existsSync(suite))("the JSON Schema project's own tests", () => {
  test.each(['draft4', 'draft6', 'draft7', 'draft2019-09', 'draft2020-12'])('%s: nothing invalid is accepted', { timeout: 60_000 }, (draft) => {
    const samples: Sample[] = [];
    for (const { name, text } of readTarGz(suite)) {
      if (!new RegExp(`tests/${draft}/[^/]+\\.json$`).test(name)) continue;
      for (const group of JSON.parse(text()) as { description: string; schema: unknown; tests: Sample['tests'] }[]) {
        samples.push({ name: `${name}: ${group.description}`, schema: group.schema, tests: group.tests });
      }
    }
    const counts = tally(samples);
    expect(counts.numSchemas).toBeGreaterThan(100);
    expect(counts.unexpected).toEqual([]);
    expect(counts.invalidAccepted).toEqual([]);
    expect(counts.numCompiled / counts.numSchemas).toBeGreaterThan(0.35);
  });
});
