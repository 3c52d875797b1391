/** The small random tokenizers that `make_goldens.py` writes, one folder each. */
import { join } from 'node:path';

export const goldenTokenizersFolder = process.env.MILLRACE_TOKENIZER_GOLDENS ?? join(import.meta.dirname, 'goldens');

export const goldenTokenizers = [
  'bert',
  'bert-cased',
  'unigram',
  'unigram-bytes',
  'word-level',
  'roberta',
  'bpe-kimi',
  'bpe-bailing',
  'bpe-triples',
  'bpe-cuts',
  'bpe-merged',
  'bpe-digits',
  'bpe-delimiter',
  'metaspace-first',
  'byte-normalizer',
  'spm-bpe',
  'spm-bpe-rules',
  'spm-unigram',
  'spm-unigram-user',
  'spm-unigram-bytes',
  'spm-unigram-suffix',
  'tiktoken-llama3',
  'tiktoken-qwen',
  'tiktoken-glm4',
  'tiktoken-kimi',
  'plain-gpt2',
  'plain-roberta',
  'plain-bert',
  'plain-bert-cased',
  'spm-xlmr',
] as const;
