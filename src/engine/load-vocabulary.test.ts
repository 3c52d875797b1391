import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { VocabularyTrie } from '../sampling/grammar/vocabulary-trie.ts';
import { ByteTokenizer } from '../tokenizer/byte-tokenizer.ts';
import { VocabularyLoader } from './load-vocabulary.ts';

const VOCAB_SIZE = 20_000;
const tokenizer = new ByteTokenizer(VOCAB_SIZE);
const options = { tokenizer, vocabSize: VOCAB_SIZE, eosTokenIds: [300], tagTokenIds: [301, 302] };

test('a vocabulary that a worker makes into trees is the one that is made in place, and others get the thread meanwhile', async () => {
  const loader = new VocabularyLoader(options);
  let numTurns = 0;
  let isLoading = true;
  const others = (async () => {
    for (; isLoading; numTurns++) await nextTurn();
  })();
  const loaded = await loader.load();
  isLoading = false;
  await others;
  expect(numTurns).toBeGreaterThan(4);
  expect(loaded.tables).toEqual(new VocabularyTrie(tokenizer, VOCAB_SIZE, [300], [301, 302]).tables);
  expect(await loader.load()).toBe(loaded);
  loader.close();
});

test('closing while the worker runs ends the wait', async () => {
  const loader = new VocabularyLoader(options);
  const loading = loader.load();
  await nextTurn();
  loader.close();
  await expect(loading).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
});
