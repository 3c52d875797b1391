import { expect, test } from 'vitest';
import { ByteTokenizer } from '../../../test/e2e/fake-engine.ts';
import { CompletionLogprobsWriter, chatLogprobs, promptLogprobs } from './logprobs.ts';

const tokenizer = new ByteTokenizer();
const entries = (text: string, special: readonly number[] = []) =>
  [...Buffer.from(text, 'utf8'), ...special].map((tokenId) => ({ tokenId, logprob: -1, top: [] }));
const options = { tokensAsIds: false, skipSpecialTokens: true, startText: '' };

test('offsets count characters, and a token inside a character begins where the character does', () => {
  const { text_offset, tokens } = new CompletionLogprobsWriter(tokenizer, options).write(entries('aé𝄞b'));
  expect(text_offset).toEqual([0, 1, 1, 2, 2, 2, 2, 3]);
  expect(tokens).toEqual(['a', 'bytes:\\xc3', 'bytes:\\xa9', 'bytes:\\xf0', 'bytes:\\x9d', 'bytes:\\x84', 'bytes:\\x9e', 'b']);
});

test('offsets go on from delta to delta, after the echoed prompt, and hidden tokens take no room', () => {
  const writer = new CompletionLogprobsWriter(tokenizer, { ...options, startText: '𝄞𝄞' });
  expect(writer.write(entries('ab', [257])).text_offset).toEqual([2, 3, 4]);
  expect(writer.write(entries('c')).text_offset).toEqual([4]);
});

test('the sampled token is among its alternatives, and impossible ones are finite', () => {
  const entry = {
    tokenId: 97,
    logprob: -2,
    top: [
      { tokenId: 98, logprob: -0.1 },
      { tokenId: 99, logprob: Number.NEGATIVE_INFINITY },
    ],
  };
  const { top_logprobs } = new CompletionLogprobsWriter(tokenizer, options).write([entry]);
  expect(top_logprobs).toEqual([{ b: -0.1, c: -9999, a: -2 }]);
});

test('chat logprobs keep the exact bytes of a part of a character', () => {
  const { content } = chatLogprobs(entries('é'), tokenizer, false);
  expect(content.map(({ bytes }) => bytes)).toEqual([[0xc3], [0xa9]]);
  expect(chatLogprobs(entries('é'), tokenizer, true).content[0]!.token).toBe('token_id:195');
});

test('a place of a prompt lists its token with its rank, and as many alternatives as were asked for', () => {
  const top = [98, 99, 100, 97].map((tokenId, i) => ({ tokenId, logprob: -1 - i }));
  const place = { tokenId: 97, logprob: -4, rank: 4, top };
  const [none, two] = promptLogprobs([null, place], 2, tokenizer);
  expect(none).toBeNull();
  expect(two).toEqual({
    97: { logprob: -4, rank: 4, decoded_token: 'a' },
    98: { logprob: -1, rank: 1, decoded_token: 'b' },
    99: { logprob: -2, rank: 2, decoded_token: 'c' },
  });
  expect(Object.keys(promptLogprobs([place], -1, tokenizer)[0] ?? {})).toEqual(['97', '98', '99', '100']);
});
