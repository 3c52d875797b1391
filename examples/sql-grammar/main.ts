/**
 * A model that can only write SQL that the grammar allows: npx tsx examples/sql-grammar/main.ts MODEL "Which customers live in Ulm?"
 *
 * Over HTTP the same is `structured_outputs: { grammar }`.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { LLM } from '../../src/index.ts';

const [model, question = 'Which customers live in Ulm?'] = process.argv.slice(2);
if (model === undefined) throw new Error('usage: npx tsx examples/sql-grammar/main.ts MODEL [QUESTION]');
const grammar = readFileSync(path.join(import.meta.dirname, 'select.gbnf'), 'utf8');

await using llm = await LLM.load(model);
const { choices } = await llm.generate(`Question: ${question}\nSQL: `, { structuredOutput: { grammar }, maxTokens: 200, temperature: 0 });
console.log(choices[0].text);
