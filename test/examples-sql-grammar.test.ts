/** The SQL grammar of the examples: what it lets a model write, and what not. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { LLM } from '../src/index.ts';
import { CompiledGrammar } from '../src/sampling/grammar/matcher.ts';
import { compileStructuredOutput } from '../src/sampling/grammar/structured-output.ts';
import { VocabularyTrie } from '../src/sampling/grammar/vocabulary-trie.ts';
import { loadTokenizer } from './fixtures/tokenizers.ts';

const root = path.join(import.meta.dirname, '..');
const text = readFileSync(path.join(root, 'examples/sql-grammar/select.gbnf'), 'utf8');
const tokenizer = await loadTokenizer('byte-level');
const grammar = new CompiledGrammar(
  compileStructuredOutput({ grammar: text }),
  new VocabularyTrie(tokenizer, tokenizer.vocabSize, tokenizer.eosTokenIds),
);

test.each([
  ['SELECT * FROM customers;', true],
  ["SELECT customers.name FROM customers WHERE customers.city = 'Ulm' ORDER BY customers.name LIMIT 10;", true],
  [
    'SELECT customers.city, SUM(orders.total) AS spent FROM customers JOIN orders ON orders.customer_id = customers.id GROUP BY customers.city;',
    true,
  ],
  ["SELECT orders.id FROM orders WHERE orders.total >= 10.5 AND orders.placed_on IS NOT NULL OR orders.id IN (1, 2, 'it''s');", true],
  ['SELECT customers.password FROM customers;', false],
  ['DROP TABLE customers;', false],
  ["SELECT * FROM customers WHERE customers.city = 'x'; DROP TABLE orders;", false],
  ["SELECT * FROM customers WHERE customers.city = 'it's';", false],
  ['SELECT * FROM customers', false],
])('%s: %s', (statement, isAllowed) => {
  expect(grammar.accepts(Buffer.from(statement))).toBe(isAllowed);
});

test('the pocket model writes one such statement and nothing else', async () => {
  const model = path.join(root, 'pocket/model');
  await using llm = await LLM.load({ model, backend: 'reference', maxModelLen: 300 });
  const { choices } = await llm.generate('Question: Which customers live in Ulm?\nSQL: ', {
    structuredOutput: { grammar: text },
    maxTokens: 200,
    seed: 1,
  });
  if (choices[0].finishReason === 'stop') expect(grammar.accepts(Buffer.from(choices[0].text)), choices[0].text).toBe(true);
  expect(choices[0].text.startsWith('SELECT ')).toBe(true);
});
