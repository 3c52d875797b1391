/** The grammar of JSON Schemas against published collections: nothing invalid may be accepted, and most must compile. */
import { describe, expect, test } from 'vitest';
import { benchSamples, drafts, hasBench, hasSuite, suiteSamples, tally } from './schema-data.ts';

describe.skipIf(!hasBench)('schemas of the real world (skipped without JSONSchemaBench)', () => {
  test('nine in ten compile, what is valid is accepted and nothing invalid is', { timeout: 120_000 }, () => {
    const counts = tally(benchSamples(40));
    expect(counts.unexpected).toEqual([]);
    expect(counts.invalidAccepted).toEqual([]);
    expect(counts.numCompiled / counts.numSchemas).toBeGreaterThan(0.9);
    // some order their properties otherwise, and what not and oneOf exclude is not said in full: of schemas that were once refused altogether
    expect(counts.numValidAccepted / counts.numValid).toBeGreaterThan(0.95);
  });
});

describe.skipIf(!hasSuite)("the JSON Schema project's own tests (skipped without them)", () => {
  test.each(drafts)('%s: nothing invalid is accepted', { timeout: 120_000 }, (draft) => {
    const counts = tally(suiteSamples(draft));
    expect(counts.numSchemas).toBeGreaterThan(100);
    expect(counts.unexpected).toEqual([]);
    expect(counts.invalidAccepted).toEqual([]);
    expect(counts.numCompiled / counts.numSchemas).toBeGreaterThan(0.35);
  });
});
