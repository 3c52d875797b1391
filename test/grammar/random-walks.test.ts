/**
 * Random walks under the masks of JSONSchemaBench's schemas end in instances that Ajv accepts. Here every 200th schema; MILLRACE_WALK_STRIDE=1 walks all.
 * Ajv does not read every draft: schemas that it cannot compile are passed over, and counted.
 */
import { Ajv, type ValidateFunction } from 'ajv';
import Ajv2019 from 'ajv/dist/2019.js';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { MillraceError } from '../../src/base/errors.ts';
import { compileJsonSchema } from '../../src/sampling/grammar/json-schema.ts';
import { CompiledGrammar } from '../../src/sampling/grammar/matcher.ts';
import { random, trie, walk } from './random-walk.ts';
import { benchSamples, hasBench } from './schema-data.ts';

const stride = Number(process.env.MILLRACE_WALK_STRIDE ?? 200);
const WALKS = 3;
const options = { strict: false, validateSchema: false, logger: false } as const;

/** Null where Ajv does not read the schema. */
function validatorOf(schema: unknown): ValidateFunction | null {
  const { $schema, ...rest } = schema as Record<string, unknown>;
  const draft = String($schema);
  const ajv = draft.includes('2020-12') ? new Ajv2020.default(options) : draft.includes('2019-09') ? new Ajv2019.default(options) : new Ajv(options);
  addFormats.default(ajv);
  // not of JSON Schema: names that assert nothing
  for (const name of ['url', 'byte', 'int32', 'int64', 'float', 'double', 'password', 'binary']) ajv.addFormat(name, true);
  try {
    return ajv.compile(rest);
  } catch {
    return null;
  }
}

function grammarOf(schema: unknown): CompiledGrammar | null {
  try {
    return new CompiledGrammar(compileJsonSchema(schema, { compact: false }), trie);
  } catch (thrown) {
    if (thrown instanceof MillraceError && thrown.code.startsWith('GRAMMAR_')) return null;
    throw thrown;
  }
}

describe.skipIf(!hasBench)('schemas of the real world (skipped without JSONSchemaBench)', () => {
  test('random walks under their masks end in instances', { timeout: 3_600_000 }, () => {
    const draw = random(11);
    const counts = { walked: 0, ended: 0, unread: 0 };
    const wrong: string[] = [];
    for (const { name, schema } of benchSamples(stride)) {
      const grammar = grammarOf(schema);
      if (grammar === null) continue;
      const validate = validatorOf(schema);
      if (validate === null) {
        counts.unread++;
        continue;
      }
      for (let i = 0; i < WALKS; i++) {
        counts.walked++;
        const text = walk(grammar, draw, 1500);
        if (text === null) continue;
        counts.ended++;
        if (!validate(JSON.parse(text))) wrong.push(`${name}: ${text.slice(0, 300)} ${JSON.stringify(validate.errors?.[0])}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(counts.ended).toBeGreaterThan(counts.walked / 2);
    expect(counts.unread).toBeLessThan(counts.walked / WALKS / 4);
  });
});
