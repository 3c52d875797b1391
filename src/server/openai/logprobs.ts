import type { TokenLogprob } from '../../engine/request-stream.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/** JSON has no infinity: what stands for the logarithm of zero, here as elsewhere in the field. */
const LOG_ZERO = -9999;

export interface ChatTokenLogprob {
  readonly token: string;
  readonly logprob: number;
  /** UTF-8 of the token: several tokens may share a character, so only the bytes join to the text. */
  readonly bytes: readonly number[];
}

export interface ChatLogprobs {
  readonly content: readonly (ChatTokenLogprob & { readonly top_logprobs: readonly ChatTokenLogprob[] })[];
  readonly refusal: null;
}

/** Logprobs as chat completions report them. */
export function chatLogprobs(entries: readonly TokenLogprob[], tokenizer: Tokenizer, tokensAsIds: boolean): ChatLogprobs {
  const entry = (tokenId: number, logprob: number): ChatTokenLogprob => {
    const bytes = tokenizer.tokenBytes(tokenId);
    return {
      token: tokensAsIds ? `token_id:${tokenId}` : lossyText.decode(bytes),
      logprob: finite(logprob),
      bytes: Array.from(bytes),
    };
  };
  return {
    content: entries.map(({ tokenId, logprob, top, wanted = [] }) => ({
      ...entry(tokenId, logprob),
      top_logprobs: [...top, ...wanted].map((other) => entry(other.tokenId, other.logprob)),
    })),
    refusal: null,
  };
}

export interface CompletionLogprobs {
  readonly tokens: readonly string[];
  /** null for the first token of an echoed prompt. */
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  /** Where each token begins in the text, in characters (code points), the echoed prompt included. */
  readonly text_offset: readonly number[];
}

/** Logprobs as plain completions report them. One a choice, since offsets go on from delta to delta. */
export class CompletionLogprobsWriter {
  readonly #tokenizer: Tokenizer;
  readonly #tokensAsIds: boolean;
  readonly #skipSpecialTokens: boolean;
  // Counts characters only when they are complete, as the text does.
  readonly #decoder = new TextDecoder();
  #offset: number;

  constructor(tokenizer: Tokenizer, options: { tokensAsIds: boolean; skipSpecialTokens: boolean; startText: string }) {
    this.#tokenizer = tokenizer;
    this.#tokensAsIds = options.tokensAsIds;
    this.#skipSpecialTokens = options.skipSpecialTokens;
    this.#offset = codePoints(options.startText);
  }

  write(entries: readonly TokenLogprob[]): CompletionLogprobs {
    return {
      tokens: entries.map(({ tokenId }) => this.#name(tokenId)),
      token_logprobs: entries.map(({ logprob }) => finite(logprob)),
      top_logprobs: entries.map(({ tokenId, logprob, top, wanted = [] }) => {
        const alternatives: Record<string, number> = {};
        for (const other of [...top, ...wanted]) alternatives[this.#name(other.tokenId)] ??= finite(other.logprob);
        alternatives[this.#name(tokenId)] ??= finite(logprob);
        return alternatives;
      }),
      text_offset: entries.map(({ tokenId }) => this.#advance(tokenId)),
    };
  }

  /** An echoed prompt: its first token follows nothing, so nothing is known of it. @param k alternatives to show */
  writePrompt(promptTokenIds: Int32Array, entries: readonly (TokenLogprob | null)[], k: number): CompletionLogprobs {
    const all = Array.from(promptTokenIds, (tokenId, i) => {
      const entry = entries[i] ?? null;
      return entry === null ? { tokenId, logprob: 0, top: [] } : { ...entry, top: entry.top.slice(0, k) };
    });
    const written = this.write(all);
    const known = <T>(values: readonly T[]) => values.map((value, i) => ((entries[i] ?? null) === null ? null : value));
    return { ...written, token_logprobs: known(written.token_logprobs), top_logprobs: known(written.top_logprobs) };
  }

  /** @returns where the token begins */
  #advance(tokenId: number): number {
    const offset = this.#offset;
    const isHidden = this.#skipSpecialTokens && this.#tokenizer.specialTokenIds.has(tokenId);
    if (!isHidden) this.#offset += codePoints(this.#decoder.decode(this.#tokenizer.tokenBytes(tokenId), { stream: true }));
    return offset;
  }

  #name(tokenId: number): string {
    if (this.#tokensAsIds) return `token_id:${tokenId}`;
    const bytes = this.#tokenizer.tokenBytes(tokenId);
    try {
      return exactText.decode(bytes);
    } catch {
      // Part of a character: spelled by its bytes, or all such tokens would share one name.
      return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
    }
  }
}

/** Log probabilities of a prompt as vLLM reports them: one record by token id a place, null for the first. @param k alternatives to show; -1: all */
export function promptLogprobs(entries: readonly (TokenLogprob | null)[], k: number, tokenizer: Tokenizer): readonly (object | null)[] {
  return entries.map((entry) => {
    if (entry === null) return null;
    const record: Record<string, { logprob: number; rank: number | null; decoded_token: string }> = {};
    const ranked = k < 0 ? entry.top : entry.top.slice(0, k);
    const note = ({ tokenId, logprob }: { tokenId: number; logprob: number }, place: number | null) => {
      record[tokenId] = { logprob: finite(logprob), rank: place, decoded_token: lossyText.decode(tokenizer.tokenBytes(tokenId)) };
    };
    note(entry, entry.rank ?? null);
    for (const [i, other] of ranked.entries()) note(other, i + 1);
    return record;
  });
}

const lossyText = new TextDecoder('utf-8', { ignoreBOM: true });
const exactText = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : LOG_ZERO;
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
