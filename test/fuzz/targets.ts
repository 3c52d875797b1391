/**
 * What is fuzzed: for each kind of file a good one, how it is damaged, and everything that reads it. A new reader is a row here; new families and
 * tokenizers are found by their goldens and fixtures.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { chatTemplateFromFolder, chatTemplateFromGguf } from '../../src/chat/load-template.ts';
import type { ChatTemplate } from '../../src/chat/template.ts';
import { checkOptions } from '../../src/engine/config.ts';
import { buildPlan } from '../../src/engine/load.ts';
import { openModel } from '../../src/engine/open-model.ts';
import { ggufToHf, readEncoder, readModel } from '../../src/models/index.ts';
import type { BuildOptions } from '../../src/plan/builder.ts';
import { readTensor } from '../../src/quant/read-tensor.ts';
import { ByteTokenizer } from '../../src/tokenizer/byte-tokenizer.ts';
import { tokenizerFromFolder, tokenizerFromGguf } from '../../src/tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { checkWeights } from '../../src/weights/check-weights.ts';
import { GgufFile } from '../../src/weights/gguf.ts';
import { openModelFiles } from '../../src/weights/model-files.ts';
import { SafetensorsSource } from '../../src/weights/safetensors.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { f32Bytes, type GgufEntry, ggufBytes, safetensorsBytes } from '../fixtures/checkpoint-files.ts';
import { tokenizerFolder, tokenizerKinds } from '../fixtures/tokenizers.ts';
import { goldenTokenizers, goldenTokenizersFolder } from '../tokenizer/goldens.ts';
import { mutateBytes, mutateJson, mutateText, type RandomBelow } from './mutate.ts';

type Files = Record<string, Uint8Array>;

export interface FuzzTarget {
  readonly name: string;
  /** A good folder. */
  readonly files: Files;
  /** The folder with damage. */
  damage(files: Files, random: RandomBelow): Files;
  /** Reads all that the folder claims to hold; may throw any MillraceError but those of our own faults. */
  read(folder: string): Promise<void>;
}

const repository = join(import.meta.dirname, '../..');
const TEXT = 'Hello world! Ünïcode 水 🙂 <|im_end|> </s> 12345\n\n  indented\tand 3.14';

function readAll(source: WeightSource): void {
  try {
    for (const name of source.names()) {
      const tensor = source.find(name);
      if (tensor !== undefined && tensor.sizeBytes < 1 << 22) readTensor(source, tensor);
    }
  } finally {
    source.close();
  }
}

function useTokenizer(tokenizer: Tokenizer): void {
  const ids = tokenizer.encode(TEXT, { addSpecialTokens: true, parseSpecial: true });
  tokenizer.decode(ids);
  tokenizer.close();
}

async function useTemplate(template: ChatTemplate | null): Promise<void> {
  const messages = [
    { role: 'system', content: 'Be good.' },
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: '', tool_calls: [{ type: 'function', function: { name: 'f', arguments: { a: 1 } } }] },
  ];
  template?.renderVariables({ messages, add_generation_prompt: true, tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] });
}

/** As the engine does before it binds weights, and then reads them. */
async function readFolder(folder: string): Promise<void> {
  const opened = openModel(folder, false);
  try {
    const { source } = opened;
    const plan = buildPlan(opened.model, source, checkOptions({ model: folder }), opened.announcedDtype);
    if (source === null) return;
    checkWeights(plan, source);
    for (const { tensor } of plan.weights.flatMap(({ parts }) => parts)) {
      const stored = source.find(tensor);
      if (stored !== undefined) readTensor(source, stored);
    }
  } finally {
    opened.close();
  }
}

/** Damages one of the named files as JSON. */
const damageJson =
  (...names: string[]) =>
  (files: Files, random: RandomBelow): Files => {
    const name = names[random(names.length)];
    return { ...files, [name]: mutateJson(files[name], random) };
  };

const damageBytes =
  (name: string, headerBytes: number) =>
  (files: Files, random: RandomBelow): Files => ({
    ...files,
    [name]: mutateBytes(files[name], headerBytes, random),
  });

const tensors = [
  { name: 'token_embd.weight', shape: [16, 8], bytes: f32Bytes(Array(128).fill(1)), type: 0 },
  { name: 'output_norm.weight', shape: [8], bytes: f32Bytes(Array(8).fill(1)), type: 0 },
  { name: 'blk.0.attn_q.weight', shape: [8, 32], bytes: new Uint8Array(8 * 34), type: 8 },
  { name: 'blk.0.attn_k.weight', shape: [1, 256], bytes: new Uint8Array(144), type: 12 },
];

function ggufFile(): Uint8Array {
  return ggufBytes({ metadata: ggufMetadata(), tensors });
}

const splitName = (part: number) => `model-0000${part}-of-00002.gguf`;

/** The same in two files. */
function splitFiles(): Files {
  const split = (part: number): Record<string, GgufEntry> => ({
    'split.no': ['u16', part],
    'split.count': ['u16', 2],
    'split.tensors.count': ['i32', tensors.length],
  });
  return {
    [splitName(1)]: ggufBytes({ metadata: { ...ggufMetadata(), ...split(0) }, tensors: tensors.slice(0, 2) }),
    [splitName(2)]: ggufBytes({ metadata: split(1), tensors: tensors.slice(2) }),
  };
}

function ggufEncoder(): Uint8Array {
  const number = (key: string, value: number): [string, GgufEntry] => [`bert.${key}`, ['u32', value]];
  const metadata = Object.fromEntries<GgufEntry>([
    ['general.architecture', ['string', 'bert']],
    number('block_count', 1),
    number('embedding_length', 8),
    number('feed_forward_length', 16),
    number('attention.head_count', 2),
    number('context_length', 16),
    number('pooling_type', 1),
    ['bert.attention.layer_norm_epsilon', ['f32', 1e-12]],
    ['tokenizer.ggml.model', ['string', 'bert']],
    ['tokenizer.ggml.tokens', ['array', ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '▁a', 'b'], 'string']],
    ['tokenizer.ggml.token_type', ['array', [3, 3, 3, 3, 1, 1], 'i32']],
  ]);
  const ones = (name: string, ...shape: number[]) => ({ name, shape, bytes: f32Bytes(Array(shape.reduce((a, b) => a * b)).fill(1)), type: 0 });
  const outer = [
    ones('token_embd.weight', 6, 8),
    ones('position_embd.weight', 16, 8),
    ones('token_types.weight', 8),
    ones('token_embd_norm.bias', 8),
  ];
  return ggufBytes({ metadata, tensors: [...outer, ones('blk.0.attn_q.weight', 8, 8), ones('blk.0.layer_output_norm.weight', 8)] });
}

function ggufMetadata(): Record<string, GgufEntry> {
  const number = (key: string, value: number): [string, GgufEntry] => [`llama.${key}`, ['u32', value]];
  const tokens = [
    '<unk>',
    '<s>',
    '</s>',
    ...Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`),
    'a',
    'b',
    'ab',
    '▁',
    '▁a',
  ];
  return Object.fromEntries<GgufEntry>([
    ['general.architecture', ['string', 'llama']],
    number('block_count', 1),
    number('embedding_length', 8),
    number('feed_forward_length', 16),
    number('attention.head_count', 2),
    number('attention.head_count_kv', 1),
    number('context_length', 64),
    ['llama.attention.layer_norm_rms_epsilon', ['f32', 1e-5]],
    ['llama.rope.scaling.type', ['string', 'linear']],
    ['llama.rope.scaling.factor', ['f32', 2]],
    ['tokenizer.ggml.model', ['string', 'llama']],
    ['tokenizer.ggml.tokens', ['array', tokens, 'string']],
    ['tokenizer.ggml.scores', ['array', tokens.map((_, i) => -i), 'f32']],
    ['tokenizer.ggml.token_type', ['array', tokens.map((_, i) => (i < 1 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1)), 'i32']],
    ['tokenizer.ggml.bos_token_id', ['u32', 1]],
    ['tokenizer.ggml.eos_token_id', ['u32', 2]],
    ['tokenizer.chat_template', ['string', '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}']],
    ['nested', ['array', [[1], [2]], 'array']],
  ]);
}

const formats: BuildOptions = { formatOf: () => 'f32', activationFor: () => 'f32' };

async function readGguf(folder: string, name = 'model.gguf'): Promise<void> {
  const file = GgufFile.open(join(folder, name));
  try {
    const { config, translate } = ggufToHf(file);
    // an encoder, or else a model that generates
    (readEncoder(config) ?? readModel(config)).build(formats);
    readAll(file.source(translate));
    const tokenizer = tokenizerFromGguf(file.metadata);
    await useTemplate(await chatTemplateFromGguf(file.metadata, tokenizer));
    useTokenizer(tokenizer);
  } finally {
    file.close();
  }
}

const templates = [
  "{%- for m in messages %}{% if loop.first and m['role'] == 'system' %}{{ m.content | trim }}{% else %}{{ '<|im_start|>' + m.role }}{% endif %}{% endfor %}",
  '{% macro f(x, y=2) %}{{ x * y }}{% endmacro %}{% for i in range(100) %}{{ f(i) }}{% endfor %}{% set ns = namespace(a=0) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}',
  "{{ messages | tojson(indent=2) }}{% if tools is defined and tools %}{{ tools | map(attribute='function') | list }}{% endif %}{{ strftime_now('%Y') }}",
  "{% for a in messages | selectattr('role', 'equalto', 'user') %}{{ a.content[0:2] ~ '-' ~ a['content'].split('i') | join(',') }}{% endfor %}{{ raise_exception('no') }}",
];
const templateWords = [
  '{% for i in range(999999999) %}',
  '{% endfor %}',
  '{{ "x" * 999999999 }}',
  '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  '{{',
  '}}',
  '{%',
  '%}',
  '{#',
  ' | tojson',
  ' | join',
  '[0]',
  '[::-1]',
  '.__class__',
  '.constructor',
  '["__proto__"]',
  'namespace()',
  'range(1e9)',
  '**',
  '9999999999',
  '-',
  '(',
  ')',
  '[',
  ']',
  "'",
  '"',
  ' if x else ',
  ' is defined',
  'loop.index',
  '| map(',
  '{% set x = messages + messages %}',
  '{% include "x" %}',
  '{% if true %}',
  '{% endif %}',
  '{{ cycler }}',
  '{% raw %}',
  '| replace("", "xxxxxxxxxx")',
  '| indent(999999999)',
  '"%999999999d" | format(1)',
];

const golden = (name: string) => join(repository, 'test/golden', name);
const goldens = readdirSync(join(repository, 'test/golden')).filter((name) => existsSync(join(golden(name), 'config.json')));

const filesOf = (folder: string, ...names: string[]): Files =>
  Object.fromEntries(names.filter((name) => existsSync(join(folder, name))).map((name) => [name, readFileSync(join(folder, name))]));

/** Folders of small tokenizers of every kind. */
const tokenizerFolders = [...goldenTokenizers.map((name) => join(goldenTokenizersFolder, name)), ...tokenizerKinds.map(tokenizerFolder)];

/** Damages the vocabulary mostly, of whatever kind it is, and what lies beside it now and then. */
function tokenizerTarget(folder: string): FuzzTarget {
  const names = readdirSync(folder).filter((name) => name !== 'vectors.json');
  const vocabulary = names.find((name) => /^tokenizer\.json$|^vocab\.|\.model$|\.tiktoken$/.test(name)) ?? 'tokenizer.json';
  const beside = names.filter((name) => name !== vocabulary);
  return {
    name: `${vocabulary} of ${basename(folder)}`,
    files: filesOf(folder, ...names),
    damage: (files, random) => {
      const name = random(3) === 0 && beside.length > 0 ? beside[random(beside.length)] : vocabulary;
      const bytes = files[name];
      return { ...files, [name]: name.endsWith('.json') ? mutateJson(bytes, random) : mutateBytes(bytes, bytes.length, random) };
    },
    read: async (at) => {
      const tokenizer = await tokenizerFromFolder(at);
      await useTemplate(await chatTemplateFromFolder(at, tokenizer));
      useTokenizer(tokenizer);
    },
  };
}

const index = { metadata: { total_size: 544 }, weight_map: { 'token_embd.weight': 'a-1.safetensors', 'output_norm.weight': 'a-2.safetensors' } };

export const targets: readonly FuzzTarget[] = [
  {
    name: 'safetensors',
    files: { 'model.safetensors': safetensorsBytes(tensors.slice(0, 2)) },
    damage: damageBytes('model.safetensors', 300),
    read: async (folder) => readAll(SafetensorsSource.openFile(join(folder, 'model.safetensors'))),
  },
  {
    name: 'shard index',
    files: {
      'config.json': Buffer.from('{}'),
      'model.safetensors.index.json': Buffer.from(JSON.stringify(index)),
      'a-1.safetensors': safetensorsBytes(tensors.slice(0, 1)),
      'a-2.safetensors': safetensorsBytes(tensors.slice(1, 2)),
    },
    damage: damageJson('model.safetensors.index.json'),
    read: async (folder) => {
      const files = openModelFiles(folder);
      if (files.kind === 'huggingface') readAll(files.openWeights());
    },
  },
  {
    name: 'GGUF of split',
    files: splitFiles(),
    damage: (files, random) => damageBytes(splitName(1 + random(2)), 7000)(files, random),
    read: (folder) => readGguf(folder, splitName(1)),
  },
  { name: 'GGUF of an encoder', files: { 'model.gguf': ggufEncoder() }, damage: damageBytes('model.gguf', 1500), read: readGguf },
  { name: 'GGUF', files: { 'model.gguf': ggufFile() }, damage: damageBytes('model.gguf', 7000), read: readGguf },
  ...goldens.map(
    (name): FuzzTarget => ({
      name: `config.json of ${name}`,
      files: filesOf(golden(name), 'config.json'),
      damage: damageJson('config.json'),
      read: async (folder) => {
        const files = openModelFiles(folder);
        if (files.kind === 'huggingface') (readEncoder(files.config) ?? readModel(files.config)).build(formats);
      },
    }),
  ),
  {
    name: 'whole folder',
    files: {
      ...filesOf(golden('qwen3'), 'config.json', 'model.safetensors'),
      'generation_config.json': Buffer.from('{"eos_token_id":[1,2],"temperature":0.7,"do_sample":true}'),
    },
    damage: damageJson('config.json', 'generation_config.json'),
    read: readFolder,
  },
  ...readdirSync(golden('quantized')).map(
    (name): FuzzTarget => ({
      name: `quantised folder of ${name}`,
      files: filesOf(golden(`quantized/${name}`), 'config.json', 'model.safetensors'),
      damage: (files, random) => (random(2) === 0 ? damageJson('config.json') : damageBytes('model.safetensors', 5000))(files, random),
      read: readFolder,
    }),
  ),
  ...tokenizerFolders.map(tokenizerTarget),
  {
    name: 'chat template',
    files: { 'chat_template.jinja': Buffer.from(templates[0]) },
    damage: (_, random) => ({ 'chat_template.jinja': Buffer.from(mutateText(templates[random(templates.length)], templateWords, random)) }),
    read: async (folder) => useTemplate(await chatTemplateFromFolder(folder, new ByteTokenizer(300))),
  },
];
