/**
 * Retrieval-augmented generation in one file: passages are found by BM25 (MiniSearch) or by the pooled states of an encoder, and given to the model by
 * its chat template where that takes documents, else in front of the question.
 */
import MiniSearch from 'minisearch';
import type { ChatMessage, Encoder, LLM } from '../../src/index.ts';

export interface Passage {
  readonly id: number;
  readonly text: string;
}

/** Passages for a question, the best first. */
export type Search = (question: string, count: number) => Promise<readonly Passage[]>;

/** Words that say nothing about what a text is about. */
const common = new Set('a an and are as at did do does for from has have how in is it its many much of on or the to was what when where which who'.split(' '));

/** By the words that question and passage share, rare ones first. */
export function searchByWords(passages: readonly Passage[]): Search {
  const processTerm = (word: string) => (common.has(word.toLowerCase()) ? null : word.toLowerCase());
  const index = new MiniSearch<Passage>({ fields: ['text'], processTerm });
  index.addAll(passages);
  const byId = new Map(passages.map((passage) => [passage.id, passage]));
  return async (question, count) => {
    const found = index.search(question, { prefix: true, fuzzy: 0.2 }).slice(0, count);
    return found.flatMap(({ id }) => byId.get(id as number) ?? []);
  };
}

/** By the angle between vectors of an encoder, such as BERT or Nomic BERT. */
export async function searchByMeaning(encoder: Encoder, passages: readonly Passage[]): Promise<Search> {
  const vectors = await encoder.embed(passages.map(({ text }) => text));
  return async (question, count) => {
    const [asked] = await encoder.embed([question]);
    if (asked === undefined) return [];
    const ranked = passages.map((passage, at) => ({ passage, score: cosine(asked, vectors[at] ?? asked) }));
    ranked.sort((a, b) => b.score - a.score);
    return ranked.slice(0, count).map(({ passage }) => passage);
  };
}

export interface RagAnswer {
  readonly text: string;
  readonly passages: readonly Passage[];
  /** Whether the chat template took the passages as documents. */
  readonly usedTemplate: boolean;
}

/** Looks up `count` passages and answers from them. */
export async function ask(llm: LLM, search: Search, question: string, count = 3): Promise<RagAnswer> {
  const passages = await search(question, count);
  const documents = passages.map(({ id, text }) => ({ title: `Passage ${id}`, text }));
  const plain: ChatMessage[] = [{ role: 'user', content: question }];
  const usedTemplate = await takesDocuments(llm, plain, documents);
  const context = passages.map(({ text }) => text).join(' ');
  const messages: ChatMessage[] = usedTemplate || context === '' ? plain : [{ role: 'user', content: `${context} ${question}` }];
  const { choices } = await llm.chat(messages, { temperature: 0, maxTokens: 200 }, usedTemplate ? { template: { documents } } : {});
  return { text: choices[0]?.text.trim() ?? '', passages, usedTemplate };
}

/** A template that knows documents shows them; one that does not renders the same prompt with and without. */
async function takesDocuments({ engine }: LLM, messages: readonly ChatMessage[], documents: readonly object[]): Promise<boolean> {
  const [without, shown] = [await engine.renderChat(messages), await engine.renderChat(messages, { documents })];
  return without.text !== shown.text;
}

function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  return dot / Math.sqrt(squaresA * squaresB || 1);
}

/** A passage a line. */
export const passagesOf = (text: string): Passage[] =>
  text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line, id) => ({ id, text: line.trim() }));
