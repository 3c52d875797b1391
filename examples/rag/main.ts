/**
 * Answers questions from a file of passages, one a line:
 *
 *     npx tsx examples/rag/main.ts [--model MODEL] [--encoder MODEL] [--documents FILE] "Where does Rimu live?"
 *
 * Without `--model` the small model of the package answers. Passages are found by their words, or by the vectors of an encoder.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Encoder, LLM } from '../../src/index.ts';
import { ask, passagesOf, searchByMeaning, searchByWords } from './rag.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { model: { type: 'string' }, encoder: { type: 'string' }, documents: { type: 'string' } },
});
const question = positionals[0] ?? 'Where does Rimu live?';
const passages = passagesOf(readFileSync(values.documents ?? path.join(import.meta.dirname, 'documents.txt'), 'utf8'));

await using llm = await LLM.load(values.model ?? path.join(import.meta.dirname, '../../pocket/model'));
const encoder = values.encoder === undefined ? null : await Encoder.load({ model: values.encoder });
const search = encoder === null ? searchByWords(passages) : await searchByMeaning(encoder, passages);
const answer = await ask(llm, search, question);
for (const { id, text } of answer.passages) console.error(`[${id}] ${text}`);
console.log(answer.text);
await encoder?.close();
