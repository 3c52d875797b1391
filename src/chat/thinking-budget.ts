/**
 * A bound on the tokens of reasoning. When they are used up, the tokens that end it are forced, one after another: what a request draws there
 * depends on its own tokens alone.
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { harmonyTokens } from './harmony.ts';
import type { ReasoningFormat } from './reasoning.ts';

export interface ThinkingBudget {
  /** The token that must come next, or -1. */
  readonly forcedToken: number;
  /** Ids of which one must come next; null for any. */
  readonly only: readonly number[] | null;
  /** An id that must not come next, or -1. */
  readonly never: number;
  /** Told of each token of the output. */
  accept(tokenId: number): void;
}

type Vocabulary = Pick<Tokenizer, 'tokenId' | 'tokenBytes' | 'encode' | 'specialTokenIds'>;

/**
 * @param maxTokens of reasoning, its tags not counted; 0: none
 * @param isOpen the prompt has opened the reasoning
 * @returns null where the vocabulary lacks the tokens without which the format cannot be followed
 */
export function thinkingBudget(format: ReasoningFormat, vocabulary: Vocabulary, maxTokens: number, isOpen: boolean): ThinkingBudget | null {
  if (format.name !== 'harmony') return new TagBudget(format, vocabulary, maxTokens, isOpen);
  const tokens = harmonyTokens(vocabulary);
  return tokens === null ? null : new ChannelBudget(tokens, vocabulary, maxTokens, isOpen);
}

const encodeText = (vocabulary: Vocabulary, text: string) => Array.from(vocabulary.encode(text, { addSpecialTokens: false, parseSpecial: false }));
/** One character a byte, so that tags are found in parts of characters too. */
const latin = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');

/** Reasoning between two tags, each a token or text. */
class TagBudget implements ThinkingBudget {
  readonly #vocabulary: Vocabulary;
  readonly #maxTokens: number;
  readonly #open: { readonly id: number; readonly text: string };
  readonly #close: { readonly id: number; readonly text: string };
  readonly #ending: readonly number[];
  #state: 'before' | 'inside' | 'behind';
  #numTokens = 0;
  #numForced = 0;
  /** Bytes since the beginning, or since the opening tag the last that may begin the closing one. */
  #text = '';

  constructor({ open, close }: ReasoningFormat, vocabulary: Vocabulary, maxTokens: number, isOpen: boolean) {
    this.#vocabulary = vocabulary;
    this.#maxTokens = maxTokens;
    const tag = (spelling: string) => ({ id: vocabulary.tokenId(spelling) ?? -1, text: latin(Buffer.from(spelling)) });
    this.#open = tag(open);
    this.#close = tag(close);
    this.#ending = this.#close.id >= 0 ? [this.#close.id] : encodeText(vocabulary, close);
    this.#state = isOpen ? 'inside' : 'before';
  }

  readonly only = null;

  get never(): number {
    return this.#state === 'before' && this.#maxTokens === 0 ? this.#open.id : -1;
  }

  get forcedToken(): number {
    if (this.#state !== 'inside' || this.#numTokens < this.#maxTokens) return -1;
    return this.#ending[this.#numForced] ?? -1;
  }

  accept(tokenId: number): void {
    const isForced = tokenId === this.forcedToken;
    if (this.#state === 'before') this.#begin(tokenId);
    else if (this.#state === 'inside') {
      if (isForced) this.#numForced++;
      else this.#numTokens++;
      if (tokenId === this.#close.id || (isForced && this.#numForced === this.#ending.length)) this.#state = 'behind';
      else if (this.#close.id < 0) this.#read(this.#bytesOf(tokenId));
    }
  }

  #begin(tokenId: number): void {
    if (tokenId === this.#open.id) {
      this.#state = 'inside';
      return;
    }
    this.#text = (this.#text + this.#bytesOf(tokenId)).trimStart();
    if (this.#open.id >= 0) {
      if (this.#text !== '') this.#state = 'behind';
    } else if (this.#text.startsWith(this.#open.text)) {
      const rest = this.#text.slice(this.#open.text.length);
      this.#state = 'inside';
      this.#text = '';
      this.#read(rest);
    } else if (!this.#open.text.startsWith(this.#text)) this.#state = 'behind';
  }

  #read(bytes: string): void {
    this.#text += bytes;
    if (this.#text.includes(this.#close.text)) this.#state = 'behind';
    this.#text = this.#text.slice(-this.#close.text.length);
  }

  #bytesOf(tokenId: number): string {
    return this.#vocabulary.specialTokenIds.has(tokenId) ? '' : latin(this.#vocabulary.tokenBytes(tokenId));
  }
}

/** Reasoning in messages of the channel `analysis`. */
class ChannelBudget implements ThinkingBudget {
  readonly #tokens: NonNullable<ReturnType<typeof harmonyTokens>>;
  readonly #vocabulary: Vocabulary;
  readonly #maxTokens: number;
  /** Ends the message and opens the next one's channel. */
  readonly #ending: readonly number[];
  /** First tokens of the names of the other channels. */
  readonly #others: readonly number[];
  #state: 'header' | 'channel' | 'thinking' | 'text';
  #header = '';
  #numTokens = 0;
  #numForced = 0;

  constructor(tokens: NonNullable<ReturnType<typeof harmonyTokens>>, vocabulary: Vocabulary, maxTokens: number, isOpen: boolean) {
    this.#tokens = tokens;
    this.#vocabulary = vocabulary;
    this.#maxTokens = maxTokens;
    this.#ending = [tokens.end, tokens.start, ...encodeText(vocabulary, 'assistant'), tokens.channel];
    this.#others = ['final', 'commentary'].flatMap((name) => encodeText(vocabulary, name).slice(0, 1));
    this.#state = isOpen ? 'thinking' : 'header';
  }

  readonly never = -1;

  get #isUsedUp(): boolean {
    return this.#numTokens >= this.#maxTokens;
  }

  get only(): readonly number[] | null {
    return this.#isUsedUp && this.#state === 'channel' && this.#header === '' ? this.#others : null;
  }

  get forcedToken(): number {
    if (!this.#isUsedUp) return -1;
    if (this.#state === 'thinking' || this.#numForced > 0) return this.#ending[this.#numForced] ?? -1;
    return this.#state === 'header' && this.#header === '' ? this.#tokens.channel : -1;
  }

  accept(tokenId: number): void {
    const { channel, message, start } = this.#tokens;
    const isEnding = tokenId === this.forcedToken && (this.#state === 'thinking' || this.#numForced > 0);
    if (isEnding && ++this.#numForced === this.#ending.length) this.#numForced = 0;
    if (tokenId === channel) {
      this.#state = 'channel';
      this.#header = '';
    } else if (tokenId === message) {
      this.#state = /\banalysis\b/.test(this.#header) ? 'thinking' : 'text';
    } else if (tokenId === start || this.#tokens.ends.has(tokenId)) {
      this.#state = 'header';
      this.#header = '';
    } else if (this.#state === 'thinking') this.#numTokens++;
    else if (this.#state !== 'text') this.#header += latin(this.#vocabulary.tokenBytes(tokenId));
  }
}
