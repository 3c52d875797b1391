/**
 * Masks and texts against xgrammar (Dong et al. 2024), recorded by `make_xgrammar_goldens.mjs`: where they differ, the reason is one of those below.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Automaton } from '../../src/sampling/grammar/automaton.ts';
import { compileGbnf } from '../../src/sampling/grammar/gbnf.ts';
import type { Grammar } from '../../src/sampling/grammar/grammar.ts';
import { compileJsonSchema } from '../../src/sampling/grammar/json-schema.ts';
import { CompiledGrammar } from '../../src/sampling/grammar/matcher.ts';
import { VocabularyTrie } from '../../src/sampling/grammar/vocabulary-trie.ts';
import { loadTokenizer } from '../fixtures/tokenizers.ts';
import { benchSamples, hasBench, inOrder } from './schema-data.ts';

interface Recorded {
  readonly text: string;
  /** Behind each character, bits of the ids that may follow. */
  readonly masks: readonly string[];
}

interface Recording {
  readonly grammars: readonly (Recorded & { name: string; grammar: string })[];
  /** Of llama.cpp's grammars. */
  readonly files: readonly (Recorded & { file: string })[];
  readonly schemas: readonly (Recorded & { name: string; schema: unknown })[];
  /** A digit for each instance, 1 where it is accepted; null where the schema is refused. */
  readonly bench: readonly { name: string; accepted: string | null }[];
}

const recording = JSON.parse(readFileSync(join(import.meta.dirname, 'xgrammar.json'), 'utf8')) as Recording;
const tokenizer = await loadTokenizer('byte-level');
const END = 702;
const trie = new VocabularyTrie(tokenizer, tokenizer.vocabSize, [END]);
const files = join(process.env.MILLRACE_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url)), 'data/grammars-gbnf');

/** Tokens that the recorded mask of xgrammar allows and ours does not, or the other way round, and nobody has explained. */
function differences(
  grammar: Grammar,
  { text, masks }: Recorded,
  isExplained: (token: Buffer, before: string, isOurs: boolean) => boolean,
): string[] {
  const compiled = new CompiledGrammar(grammar, trie);
  const characters = ['', ...text];
  expect(masks).toHaveLength(characters.length);
  let state = compiled.automaton.start;
  return masks.flatMap((recorded, i) => {
    const next = compiled.read(state, Buffer.from(characters[i]));
    if (next === null) throw new Error(`${text} ends before ${characters[i]}`);
    state = next;
    const ours = compiled.maskOf(state);
    const theirs = Buffer.from(recorded, 'base64');
    const before = characters.slice(0, i + 1).join('');
    return Array.from({ length: tokenizer.vocabSize }, (_, id) => {
      const isOurs = ((ours[id >>> 5] >>> (id & 31)) & 1) === 1;
      const isTheirs = ((theirs[id >>> 3] >>> (id & 7)) & 1) === 1;
      const token = Buffer.from(trie.tokenBytes(id));
      if (isOurs === isTheirs || isNoText(id, token) || isExplained(token, before, isOurs)) return '';
      return `${before}: ${token} ${isOurs ? 'is ours alone' : 'is missing'}`;
    }).filter((line) => line !== '');
  });
}

/** xgrammar was not told which tokens are special, and lets bytes pass that no UTF-8 text holds. */
function isNoText(id: number, token: Buffer): boolean {
  return tokenizer.specialTokenIds.has(id) || token.some((byte) => byte === 0xc0 || byte === 0xc1 || byte >= 0xf5);
}

const never = () => false;
/** Where the grammar has " = ", " < " and " >= ", this version of xgrammar also reads " =>". */
const isArrow = (token: Buffer, _before: string, isOurs: boolean) => !isOurs && token.toString() === ' =>';

test.each(recording.grammars.map((one) => [one.name, one.text, one] as const))(
  'masks of the grammar "%s" along %s are those of xgrammar',
  (_, __, one) => {
    expect(differences(compileGbnf(one.grammar), one, isArrow)).toEqual([]);
  },
);

describe.skipIf(!existsSync(files))("llama.cpp's grammars (skipped without them)", () => {
  test.each(recording.files.map((one) => [one.file, one] as const))('masks of %s are those of xgrammar', (file, one) => {
    expect(differences(compileGbnf(readFileSync(join(files, file), 'utf8')), one, never)).toEqual([]);
  });
});

test.each(recording.schemas.map((one) => [one.name, one.text, one] as const))(
  'masks of the schema of %s along %s are those of xgrammar',
  (name, _, one) => {
    const found = differences(compileJsonSchema(one.schema, { compact: false }), one, (token, before, isOurs) => {
      // xgrammar was asked for a space behind every colon and comma; ours leaves the first of each to the model
      if (isOurs && /[:,][^ ]/.test(`${before.slice(-1)}${token}`)) return true;
      // of a string with bounds it takes control characters as they are, which is no JSON, and no escapes
      return name === 'short strings' && (isOurs ? token[0] === 0x5c : token.some((byte) => byte < 0x20));
    });
    expect(found).toEqual([]);
  },
);

/** One space behind colons and commas, as `make_xgrammar_goldens.mjs` wrote it. */
function spaced(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${spaced(inner)}`);
  return `{${members.join(', ')}}`;
}

function accepts(automaton: Automaton, text: string): boolean {
  let state: ReturnType<Automaton['next']> = automaton.start;
  for (const byte of Buffer.from(text)) {
    state = automaton.next(state, byte);
    if (state === null) return false;
  }
  return state.isAccepting;
}

describe.skipIf(!hasBench)('schemas of the real world (skipped without JSONSchemaBench)', () => {
  test('what xgrammar accepts and is valid is accepted, but for properties out of order; what it accepts and is invalid is not', {
    timeout: 120_000,
  }, () => {
    const recorded = new Map(recording.bench.map(({ name, accepted }) => [name, accepted]));
    const counts = { validBoth: 0, validOurs: 0, validTheirs: [] as string[], invalidOurs: 0, invalidTheirs: 0 };
    for (const { name, schema, tests } of benchSamples(40)) {
      const theirs = recorded.get(name) ?? null;
      let automaton: Automaton;
      try {
        automaton = new Automaton(compileJsonSchema(schema, { compact: false }));
      } catch {
        continue; // counted in json-schema-data.test.ts
      }
      for (const [i, { valid, data }] of tests.entries()) {
        const isOurs = accepts(automaton, spaced(inOrder(data, schema, schema)));
        const isTheirs = theirs?.[i] === '1';
        if (!valid) {
          counts.invalidOurs += Number(isOurs);
          counts.invalidTheirs += Number(isTheirs);
        } else if (isOurs) counts[isTheirs ? 'validBoth' : 'validOurs']++;
        else if (isTheirs) counts.validTheirs.push(name);
      }
    }
    // xgrammar leaves out what it cannot say (patterns of names, formats, oneOf and others), so that texts pass that are no instances
    expect(counts).toEqual({
      validBoth: 168,
      validOurs: 7,
      validTheirs: [
        // its instances hold a declared property behind others
        'JsonSchemaStore---briefcase-schema.json',
        'JsonSchemaStore---briefcase-schema.json',
        // what its "not" leaves is said in part
        'Synthesized---draft2019_09_nonvalid_required_id1_subschema1_not_2.json',
      ],
      invalidOurs: 0,
      invalidTheirs: 92,
    });
  });
});
