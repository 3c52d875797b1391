/** Fields of protobuf messages. Wire format: https://protobuf.dev/programming-guides/encoding/ */
import { tokenizerInvalid } from './definition.ts';

export interface ProtobufField {
  readonly number: number;
  /** Varint, low 53 bits; 0 for other wire types. */
  readonly value: number;
  /** 32-bit float; 0 for other wire types. */
  readonly float: number;
  /** Length-delimited content; null for other wire types. */
  readonly bytes: Uint8Array | null;
}

/** Fields of one message, in order. @throws TOKENIZER_INVALID when it is truncated */
export function* protobufFields(bytes: Uint8Array): Generator<ProtobufField> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= bytes.length) throw truncated();
      const byte = bytes[at++];
      if (shift < 49) value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw truncated();
  };
  const advance = (length: number): number => {
    if (length > bytes.length - at) throw truncated();
    at += length;
    return at - length;
  };
  while (at < bytes.length) {
    const key = varint();
    const number = Math.floor(key / 8);
    const empty = { number, value: 0, float: 0, bytes: null };
    switch (key % 8) {
      case 0:
        yield { ...empty, value: varint() };
        break;
      case 1:
        advance(8);
        break;
      case 2: {
        const length = varint();
        const start = advance(length);
        yield { ...empty, bytes: bytes.subarray(start, start + length) };
        break;
      }
      case 5:
        yield { ...empty, float: view.getFloat32(advance(4), true) };
        break;
      default:
        throw truncated();
    }
  }
}

function truncated(): Error {
  return tokenizerInvalid('tokenizer.model is truncated or not a SentencePiece model.');
}
