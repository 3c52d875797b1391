/**
 * Writes xgrammar.json: what xgrammar (Dong et al. 2024, arXiv:2411.15100) makes of grammars and schemas, for xgrammar.test.ts.
 *
 *   npm install --no-save --prefix /tmp/xgrammar @mlc-ai/web-xgrammar@0.1.27
 *   node --import tsx test/grammar/make_xgrammar_goldens.mjs /tmp/xgrammar [SHARED]
 *
 * SHARED is the folder with `data/jsonschemabench` and `data/grammars-gbnf` (also as MILLRACE_SHARED); without it only what stands here is recorded.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [, , folder, shared] = process.argv;
if (folder === undefined) throw new Error('usage: node test/grammar/make_xgrammar_goldens.mjs FOLDER_OF_XGRAMMAR [SHARED]');
const here = import.meta.dirname;
// the package is a script that calls itself a module
const script = join(folder, 'xgrammar.cjs');
copyFileSync(join(folder, 'node_modules/@mlc-ai/web-xgrammar/lib/index.js'), script);
const { Grammar, GrammarCompiler, GrammarMatcher, TokenizerInfo } = createRequire(import.meta.url)(script);
const { version } = JSON.parse(readFileSync(join(folder, 'node_modules/@mlc-ai/web-xgrammar/package.json'), 'utf8'));

const tokenizer = JSON.parse(readFileSync(join(here, '../fixtures/tokenizers/byte-level/tokenizer.json'), 'utf8'));
const vocabulary = [];
for (const [token, id] of Object.entries(tokenizer.model.vocab)) vocabulary[id] = token;
for (const { id, content } of tokenizer.added_tokens) vocabulary[id] = content;
const END = 702;
const info = await TokenizerInfo.createTokenizerInfo(vocabulary, 'byte_level', false, vocabulary.length, [END]);
const compiler = await GrammarCompiler.createGrammarCompiler(info);

/** Masks behind every character of a text, in base64; as far as xgrammar reads it. */
async function masksOf(compiled, text) {
  const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
  const masks = [];
  for (const character of ['', ...text]) {
    if (character !== '' && !matcher._acceptString(character)) break;
    const words = await matcher.getNextTokenBitmask();
    masks.push(Buffer.from(words.buffer, words.byteOffset, 4 * Math.ceil(vocabulary.length / 32)).toString('base64'));
  }
  matcher.dispose();
  return masks;
}

async function accepts(compiled, text) {
  const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
  const isAccepted = matcher._acceptString(text) && matcher.acceptToken(END);
  matcher.dispose();
  return isAccepted;
}

const grammars = {
  letters: ['root ::= [a-z]+ (" " [a-z]+)*', ['once upon a time']],
  counted: ['root ::= [0-9]{3} "-" [0-9a-f]{2,4} ("." [A-Z]{1,})?', ['012-ab.XYZ', '012-abcd']],
  calls: ['root ::= expr\nexpr ::= term (("+" | "-") term)*\nterm ::= num | "(" expr ")"\nnum ::= [1-9] [0-9]*', ['(12+3)-(4-(5))']],
  'shared beginnings': ['root ::= ("the" | "then" | "there is" | "they") " end"', ['then end', 'there is end']],
  'literals beyond ASCII': ['root ::= ("é" | "è" "あ"? | "日本")+ "!"', ['éè!', 'èあ日本!']],
  negated: ['root ::= "\\"" ([^"\\\\\\x00-\\x1f] | "\\\\" ["\\\\/nrt])* "\\""', ['"a b\\"c\\\\"', '"été"']],
  lines: ['root ::= line+\nline ::= "- " [^\\n]+ "\\n"', ['- one\n- two\n']],
  nested: ['root ::= "[" (item ("," item)*)? "]"\nitem ::= root | "x" | "yy"?', ['[x,[yy,[]],]']],
  'an empty choice': ['root ::= a b "!"\na ::= "a" | ""\nb ::= "ab" | ""', ['aab!', 'ab!', '!']],
  select: [
    readFileSync(join(here, '../../examples/sql-grammar/select.gbnf'), 'utf8'),
    ["SELECT COUNT(*) AS n FROM orders WHERE orders.id IN (1, 'it''s') LIMIT 10;"],
  ],
};

const schemas = {
  'a person': [
    { type: 'object', properties: { name: { type: 'string' }, age: { type: 'integer' } }, required: ['name', 'age'], additionalProperties: false },
    ['{"name": "Ann", "age": 41}'],
  ],
  'optional properties': [
    {
      type: 'object',
      properties: { a: { type: 'boolean' }, b: { type: 'null' }, c: { enum: ['x', 'y z', 3] } },
      required: ['b'],
      additionalProperties: false,
    },
    ['{"a": true, "b": null, "c": "y z"}', '{"b": null}'],
  ],
  'a list': [{ type: 'array', items: { type: 'boolean' }, minItems: 1, maxItems: 3 }, ['[true, false, true]']],
  'a tuple': [{ type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 2 }, ['["a", 5]']],
  alternatives: [
    {
      anyOf: [
        { type: 'object', properties: { kind: { const: 'circle' }, r: { type: 'number' } }, required: ['kind', 'r'], additionalProperties: false },
        { type: 'integer' },
      ],
    },
    ['{"kind": "circle", "r": 1.5}', '17'],
  ],
  recursion: [
    {
      $defs: {
        node: {
          type: 'object',
          properties: { v: { type: 'boolean' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
          required: ['v', 'next'],
          additionalProperties: false,
        },
      },
      $ref: '#/$defs/node',
    },
    ['{"v": true, "next": {"v": false, "next": null}}'],
  ],
  bounds: [{ type: 'integer', minimum: 5, maximum: 240 }, ['17', '240']],
  'short strings': [{ type: 'string', minLength: 1, maxLength: 4 }, ['"abcd"', '"a"']],
  pattern: [{ type: 'string', pattern: '^[A-Z]{2}-[0-9]+$' }, ['"AB-12"']],
  'other names': [
    { type: 'object', properties: { id: { type: 'integer' } }, required: ['id'], additionalProperties: { type: 'boolean' } },
    ['{"id": 7, "x": true}'],
  ],
};

const recorded = { xgrammar: version, grammars: [], files: [], schemas: [], bench: [] };
for (const [name, [text, texts]] of Object.entries(grammars)) {
  const compiled = await compiler.compileGrammar(await Grammar.fromEBNF(text));
  for (const one of texts) recorded.grammars.push({ name, grammar: text, text: one, masks: await masksOf(compiled, one) });
}
const spelling = [false, -1, [', ', ': '], false];
for (const [name, [schema, texts]] of Object.entries(schemas)) {
  const compiled = await compiler.compileJSONSchema(JSON.stringify(schema), ...spelling);
  for (const text of texts) recorded.schemas.push({ name, schema, text, masks: await masksOf(compiled, text) });
}

/** One space behind colons and commas, as Python's json.dumps writes. */
export function spaced(value) {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([name, inner]) => `${JSON.stringify(name)}: ${spaced(inner)}`)
    .join(', ')}}`;
}

if (shared !== undefined) {
  // classes of characters beyond ASCII are taken for bytes by this build ("clamping to 127"): grammars with them tell nothing
  const texts = {
    'arithmetic.gbnf': 'a-b*3=(1+2)\n',
    'chess.gbnf': '1. e4 e5\n2. Nf3 Nc6\n',
    'english.gbnf': 'Once upon a time, (once).',
    'c.gbnf': 'int main(){return 0;}',
  };
  for (const [file, text] of Object.entries(texts)) {
    const compiled = await compiler.compileGrammar(await Grammar.fromEBNF(readFileSync(join(shared, 'data/grammars-gbnf', file), 'utf8')));
    recorded.files.push({ file, text, masks: await masksOf(compiled, text) });
  }
  const { benchSamples, inOrder } = await import('./schema-data.ts');
  for (const { name, schema, tests } of benchSamples(40)) {
    let compiled = null;
    try {
      compiled = await compiler.compileJSONSchema(JSON.stringify(schema), ...spelling);
    } catch {
      recorded.bench.push({ name, accepted: null });
    }
    const accepted = [];
    for (const { data } of compiled === null ? [] : tests) accepted.push(await accepts(compiled, spaced(inOrder(data, schema, schema))));
    if (compiled !== null) recorded.bench.push({ name, accepted: accepted.map(Number).join('') });
  }
}
writeFileSync(join(here, 'xgrammar.json'), `${JSON.stringify(recorded)}\n`);
console.log(
  `${recorded.grammars.length} texts of grammars, ${recorded.schemas.length} of schemas, ${recorded.files.length} of files, ${recorded.bench.length} schemas of JSONSchemaBench`,
);
process.exit(0);
