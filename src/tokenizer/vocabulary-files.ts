/** Files of a model folder that hold its tokenizer, best first. */
export const vocabularyFiles = [
  'tokenizer.json',
  'tokenizer.model',
  'spiece.model',
  'sentencepiece.bpe.model',
  'tiktoken.model',
  'qwen.tiktoken',
  'o200k_harmony.tiktoken',
  'o200k_base.tiktoken',
  'cl100k_base.tiktoken',
  'p50k_base.tiktoken',
  'r50k_base.tiktoken',
  'vocab.json',
  'vocab.txt',
] as const;
