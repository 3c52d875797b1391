/**
 * The held-out conversations of a work folder as one text, rendered by the model's chat template: what its perplexity and divergence are measured on
 * (docs/accuracy.md).
 *
 *     npx tsx pocket/conversations.ts --work build/pocket-eval pocket/model > conversations.txt
 */
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { chatTemplateFromFolder } from '../src/chat/load-template.ts';
import { requireTemplate } from '../src/chat/prompt.ts';
import { tokenizerFromFolder } from '../src/tokenizer/load-tokenizer.ts';

/** train.py leaves out the first 300 conversations of its file. */
const HELD_OUT = 300;

const { values, positionals } = parseArgs({ options: { work: { type: 'string', default: 'build/pocket' } }, allowPositionals: true });
const [folder = 'pocket/model'] = positionals;
const template = requireTemplate(await chatTemplateFromFolder(folder, await tokenizerFromFolder(folder)));
let read = 0;
for await (const line of createInterface({ input: createReadStream(path.join(values.work, 'train.jsonl')) })) {
  const { messages, tools } = JSON.parse(line);
  process.stdout.write(template.render(messages, { addGenerationPrompt: false, ...(tools === undefined ? {} : { tools }) }));
  if (++read === HELD_OUT) break;
}
