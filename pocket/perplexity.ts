/**
 * Perplexity of models on the held-out conversations of a work folder, through Millrace in float32: what evaluate.py measures with transformers.
 *
 *     npx tsx pocket/perplexity.ts --work build/pocket pocket/model pocket/draft
 */
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { createNativeBackend } from '../src/backends/native/native-backend.ts';
import { chatTemplateFromFolder } from '../src/chat/load-template.ts';
import type { ChatMessage } from '../src/chat/messages.ts';
import { renderToIds } from '../src/chat/prompt.ts';
import { tokenizerFromFolder } from '../src/tokenizer/load-tokenizer.ts';
import { loadModel, SoloRequest } from '../test/drive-backend.ts';

interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[];
}

/** train.py leaves out the first 300 conversations of its file. */
const HELD_OUT = 300;

async function conversations(file: string): Promise<Conversation[]> {
  const read: Conversation[] = [];
  for await (const line of createInterface({ input: createReadStream(file) })) {
    read.push(JSON.parse(line));
    if (read.length === HELD_OUT) break;
  }
  return read;
}

const starts = (ids: readonly number[], at: number, pattern: readonly number[]): boolean => pattern.every((id, i) => ids[at + i] === id);

/** Which tokens the assistant says, the end of its turn included; the opening of a thought belongs to the prompt. */
function spoken(ids: readonly number[], header: readonly number[], thought: readonly number[], end: number): boolean[] {
  const says = ids.map(() => false);
  for (let at = 0; at < ids.length; at++) {
    if (!starts(ids, at, header)) continue;
    at += (starts(ids, at, thought) ? thought : header).length;
    for (; at < ids.length; at++) {
      says[at] = true;
      if (ids[at] === end) break;
    }
  }
  return says;
}

/** -log of the probability of `id`. */
function surprise(logits: Float32Array, id: number): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Math.log(sum) + largest - (logits[id] ?? Number.NaN);
}

async function perplexity(folder: string, held: readonly Conversation[]): Promise<number> {
  const tokenizer = await tokenizerFromFolder(folder);
  const template = await chatTemplateFromFolder(folder, tokenizer);
  const ids = (text: string): number[] => [...tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true })];
  const [header, thought, [end]] = [ids('<|im_start|>assistant\n'), ids('<|im_start|>assistant\n<think>\n'), ids('<|im_end|>')];
  const backend = await createNativeBackend({ numThreads: 1 });
  const { source, plan } = loadModel(folder);
  let total = 0;
  let count = 0;
  for (const { messages, tools } of held) {
    const { tokenIds } = await renderToIds(tokenizer, template, messages, { addGenerationPrompt: false, ...(tools === undefined ? {} : { tools }) });
    const all = [...tokenIds];
    const request = await SoloRequest.open(backend, plan(), source, all.length, { maxTokens: all.length });
    const logits = await request.feed(all);
    spoken(all, header, thought, end).forEach((says, i) => {
      if (!says) return;
      total += surprise(logits.subarray((i - 1) * request.vocabSize, i * request.vocabSize), all[i]);
      count++;
    });
    request.close();
  }
  await backend.close();
  return Math.exp(total / count);
}

const { values, positionals } = parseArgs({ options: { work: { type: 'string', default: 'build/pocket' } }, allowPositionals: true });
const held = await conversations(path.join(values.work, 'train.jsonl'));
for (const folder of positionals) console.log(`${folder}: perplexity ${(await perplexity(folder, held)).toFixed(3)} on ${held.length} conversations`);
