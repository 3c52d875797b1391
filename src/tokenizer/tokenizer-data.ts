/**
 * All that a tokenizer is made of, as plain values and tables: reading a large `tokenizer.json` leaves ten times its size of garbage, so that is
 * done on a worker thread, which hands this over and ends.
 */
import type { TokenizerDefinition } from './definition.ts';
import { buildEncoderData, type EncoderData } from './encoder.ts';
import { buildTokenBytes, parseDecoder, type TokenBytesTable } from './token-bytes.ts';
import { Vocabulary } from './vocabulary.ts';

/** May be sent between threads. The large tables lie in shared memory, those of `tokenBytes` in buffers of their own that can be transferred. */
export interface TokenizerData {
  readonly encoder: EncoderData;
  readonly tokenBytes: TokenBytesTable;
  readonly stripsLeadingSpace: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/** @throws TOKENIZER_INVALID when a part of the definition is of an unknown kind */
export function buildTokenizerData(definition: TokenizerDefinition): TokenizerData {
  const encoder = buildEncoderData(definition);
  const rules = parseDecoder(definition.decoder);
  return {
    encoder,
    // Not at first use: tens of milliseconds for a large vocabulary, while others would be streaming.
    tokenBytes: buildTokenBytes(new Vocabulary(encoder.vocabulary), rules, definition.addedTokens),
    stripsLeadingSpace: rules.stripsLeadingSpace,
    bosTokenId: definition.bosTokenId,
    eosTokenIds: definition.eosTokenIds,
  };
}
