/**
 * The engine's options, each declared once: from this table come the type, the validation, the CLI flag (`--max-model-len`), the environment
 * name (`MILLRACE_MAX_MODEL_LEN`) and the row in the docs. What `auto` comes to is decided in `resolve.ts`.
 */
import { MillraceError } from '../base/errors.ts';
import { reasoningFormats } from '../chat/reasoning.ts';
import { toolCallFormats } from '../chat/tool-calls/index.ts';
import { type EvictionPolicyName, evictionPolicies } from '../kv/eviction/index.ts';
import { weightFormats } from '../plan/encode.ts';
import { type PolicyName, policies } from '../scheduler/policies/index.ts';

/** One option, as the CLI and the docs see it. */
export interface OptionDeclaration {
  /** Key of `LoadOptions`. */
  readonly name: string;
  /** Without the dashes. */
  readonly flag: string;
  readonly kind: 'string' | 'integer' | 'number' | 'boolean' | 'strings';
  readonly choices?: readonly string[];
  /** `auto`: resolved at load; null: none. */
  readonly default: unknown;
  readonly min?: number;
  readonly max?: number;
  readonly placeholder?: string;
  /** One sentence. */
  readonly meaning: string;
}

const MAX_TOKENS = 1 << 28;

const table = {
  model: {
    flag: 'model',
    kind: 'string',
    default: null,
    placeholder: 'MODEL',
    meaning: 'Hugging Face folder, GGUF file or name on the hub (`org/name`, `org/name:file.gguf`, `org/name:Q4_K_M`, `org/name@revision`) to load.',
  },
  servedModelName: {
    flag: 'served-model-name',
    kind: 'strings',
    default: null,
    placeholder: 'NAME...',
    meaning: 'Names that the model answers to; when absent its name on the hub, or the last part of its path.',
  },
  loadFormat: {
    flag: 'load-format',
    kind: 'string',
    choices: ['auto', 'dummy'],
    default: 'auto',
    meaning: 'auto reads the weights; dummy makes random ones from the config alone.',
  },
  weightFormat: {
    flag: 'weight-format',
    kind: 'string',
    choices: ['auto', ...weightFormats],
    default: 'auto',
    meaning: 'Storage format of dummy weights; files keep their own.',
  },
  quantize: {
    flag: 'quantize',
    kind: 'string',
    choices: ['none', 'int8', 'int8-channel', 'int4', 'fp8'],
    default: 'none',
    meaning: 'Rounds F32, F16 and BF16 weights to this at load (docs/quantization.md); what is quantised already stays as it is.',
  },
  backend: {
    flag: 'backend',
    kind: 'string',
    choices: ['auto', 'cpu', 'cuda', 'reference', 'null'],
    default: 'auto',
    meaning:
      'What computes: native CPU kernels, an NVIDIA GPU (cuda: f32, f16 and bf16 weights; not yet run on one, docs/gpu.md), the TypeScript reference in a worker, or nothing at all (null, for measuring the engine).',
  },
  isa: {
    flag: 'isa',
    kind: 'string',
    choices: ['auto', 'avx512', 'avxvnni', 'avx2', 'neon_dotprod', 'neon', 'portable'],
    default: 'auto',
    meaning: 'Instruction-set class of the CPU kernels; part of the reproducibility contract.',
  },
  threads: { flag: 'threads', kind: 'integer', default: 'auto', min: 1, max: 1024, placeholder: 'N', meaning: 'Threads that compute.' },
  dtype: {
    flag: 'dtype',
    kind: 'string',
    choices: ['auto', 'bfloat16', 'float16', 'float32'],
    default: 'auto',
    meaning: 'What activations round to before they meet weights that are not quantised.',
  },
  activation: {
    flag: 'activation',
    kind: 'string',
    choices: ['auto', 'float', 'int8-group32', 'int8-token'],
    default: 'auto',
    meaning: 'What activations round to before they meet quantised weights.',
  },
  maxModelLen: {
    flag: 'max-model-len',
    kind: 'integer',
    default: 'auto',
    min: 2,
    max: MAX_TOKENS,
    placeholder: 'TOKENS',
    meaning: 'Longest prompt plus output.',
  },
  maxNumSeqs: { flag: 'max-num-seqs', kind: 'integer', default: 'auto', min: 1, max: 4096, placeholder: 'N', meaning: 'Most rows in a step.' },
  maxNumBatchedTokens: {
    flag: 'max-num-batched-tokens',
    kind: 'integer',
    default: 'auto',
    min: 1,
    max: 1 << 20,
    placeholder: 'TOKENS',
    meaning: 'Most tokens in a step; longer prompts are computed in chunks.',
  },
  maxQueue: {
    flag: 'max-queue',
    kind: 'integer',
    default: 1024,
    min: 1,
    max: 1 << 20,
    placeholder: 'N',
    meaning: 'Most requests that may wait; more are refused with 429.',
  },
  maxQueueMs: {
    flag: 'max-queue-ms',
    kind: 'integer',
    default: null,
    min: 1,
    max: 2 ** 31 - 1,
    placeholder: 'MS',
    meaning: 'Longest that a request may wait to be started; then it fails with 503. No limit when absent.',
  },
  maxTenantSeqs: {
    flag: 'max-tenant-seqs',
    kind: 'integer',
    default: null,
    min: 1,
    max: 1 << 20,
    placeholder: 'N',
    meaning: 'Most open requests (choices) of one API key or `user`; more are refused with 429. No limit when absent.',
  },
  schedulingPolicy: {
    flag: 'scheduling-policy',
    kind: 'string',
    choices: Object.keys(policies) as PolicyName[],
    default: 'fcfs',
    meaning: 'Which waiting request starts next; docs/scheduling.md describes each.',
  },
  maxInFlight: {
    flag: 'max-in-flight',
    kind: 'integer',
    default: null,
    min: 1,
    max: 2,
    placeholder: 'STEPS',
    meaning:
      'Steps scheduled and not yet worked up: with 2 the next step is ready when one ends. The results are the same. Default: 2 on a GPU, 1 elsewhere.',
  },
  targetItlMs: {
    flag: 'target-itl-ms',
    kind: 'number',
    default: null,
    min: 0.001,
    max: 1e6,
    placeholder: 'MS',
    meaning:
      'Prompts take only so much of a step that the next tokens of others come within this time. No limit when absent. The results are the same.',
  },
  jumpForward: {
    flag: 'jump-forward',
    kind: 'boolean',
    default: true,
    meaning: 'Take tokens that a grammar forces without a step for each. The results are the same.',
  },
  maxPromptLogprobs: {
    flag: 'max-prompt-logprobs',
    kind: 'integer',
    default: 20,
    min: -1,
    max: MAX_TOKENS,
    placeholder: 'N',
    meaning:
      'Most alternatives that `prompt_logprobs` may ask for at each place of a prompt; -1: the whole vocabulary, which makes answers of many megabytes.',
  },
  blockSize: {
    flag: 'block-size',
    kind: 'integer',
    default: 'auto',
    min: 1,
    max: 256,
    placeholder: 'TOKENS',
    meaning: 'Tokens in a KV block; divides 256.',
  },
  pinThreads: {
    flag: 'pin-threads',
    kind: 'boolean',
    default: false,
    meaning:
      'Keep each computing thread on a processor of its own (Linux). The system can then no longer move it away from other work, such as the JavaScript of the server.',
  },
  expertWeights: {
    flag: 'expert-weights',
    kind: 'string',
    choices: ['auto', 'packed', 'mapped'],
    default: 'auto',
    meaning: 'Matrices of experts: packed in memory, or mapped from their file and packed a tile at a time when needed; auto maps what does not fit.',
  },
  kvCacheDtype: {
    flag: 'kv-cache-dtype',
    kind: 'string',
    choices: ['auto', 'bfloat16', 'float16', 'float32', 'int8', 'fp8', 'int4'],
    default: 'auto',
    meaning: 'Number type of K and V; int8, fp8 (E4M3) and int4 with a scale for each token and head.',
  },
  kvCacheMemoryBytes: {
    flag: 'kv-cache-memory-bytes',
    kind: 'integer',
    default: 'auto',
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
    placeholder: 'BYTES',
    meaning: 'Memory for K and V.',
  },
  gpuMemoryUtilization: {
    flag: 'gpu-memory-utilization',
    kind: 'number',
    default: 0.9,
    min: 0.05,
    max: 1,
    placeholder: 'SHARE',
    meaning: 'Share of the memory free on the GPU that weights, activations, K and V may take together.',
  },
  enablePrefixCaching: {
    flag: 'enable-prefix-caching',
    kind: 'boolean',
    default: true,
    meaning: 'Share the K and V of prompts that begin alike.',
  },
  evictionPolicy: {
    flag: 'eviction-policy',
    kind: 'string',
    choices: Object.keys(evictionPolicies) as EvictionPolicyName[],
    default: 'lru',
    meaning: 'Which remembered prefix is forgotten first when KV blocks are needed; docs/kv-cache.md describes each.',
  },
  prefixTtlSeconds: {
    flag: 'prefix-ttl-seconds',
    kind: 'number',
    default: 3600,
    min: 0.001,
    max: 1e9,
    placeholder: 'SECONDS',
    meaning: 'With --eviction-policy ttl: a prefix that nobody has used for so long is forgotten.',
  },
  kvHostGb: {
    flag: 'kv-host-gb',
    kind: 'number',
    default: 0,
    min: 0,
    max: 1 << 20,
    placeholder: 'GB',
    meaning: 'Memory (10^9 bytes) for KV blocks that had to leave the cache, those of preempted requests among them. 0: none.',
  },
  kvDiskDir: {
    flag: 'kv-disk-dir',
    kind: 'string',
    default: null,
    placeholder: 'DIR',
    meaning: 'Directory in which computed KV blocks outlive the process. None when absent.',
  },
  kvDiskGb: {
    flag: 'kv-disk-gb',
    kind: 'number',
    default: 8,
    min: 0.001,
    max: 1 << 20,
    placeholder: 'GB',
    meaning: 'Most that --kv-disk-dir may hold, 10^9 bytes; the least recently used goes first.',
  },
  chatTemplate: {
    flag: 'chat-template',
    kind: 'string',
    default: null,
    placeholder: 'FILE',
    meaning: "A Jinja file that takes the place of the model's own chat template.",
  },
  toolCallFormat: {
    flag: 'tool-call-format',
    kind: 'string',
    choices: ['auto', 'none', ...toolCallFormats.map(({ name }) => name)],
    default: 'auto',
    meaning: 'How the model writes tool calls; auto finds it in the chat template.',
  },
  reasoningFormat: {
    flag: 'reasoning-format',
    kind: 'string',
    choices: ['auto', 'none', ...reasoningFormats.map(({ name }) => name)],
    default: 'auto',
    meaning: 'How the model sets its reasoning apart; auto finds it in the chat template.',
  },
  generationConfig: {
    flag: 'generation-config',
    kind: 'string',
    choices: ['auto', 'none'],
    default: 'auto',
    meaning: "Whether the model's generation_config.json gives sampling defaults.",
  },
  seed: {
    flag: 'seed',
    kind: 'integer',
    default: null,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    placeholder: 'N',
    meaning: 'Start of the seeds given to requests that bring none; drawn from the system when absent.',
  },
} as const satisfies Record<string, Omit<OptionDeclaration, 'name'>>;

type Table = typeof table;

type ValueOf<D> = D extends { kind: 'strings' }
  ? readonly string[]
  : D extends { choices: readonly (infer Choice)[] }
    ? Choice
    : D extends { kind: 'string' }
      ? string
      : D extends { kind: 'boolean' }
        ? boolean
        : D extends { default: 'auto' }
          ? number | 'auto'
          : number;

/** What a caller may say; `model` must be there. */
export type LoadOptions = { readonly [K in keyof Table]?: ValueOf<Table[K]> | undefined };

/** Every option present, `auto` still to be resolved. */
export type CheckedOptions = { readonly [K in keyof Table]: ValueOf<Table[K]> | (Table[K]['default'] extends null ? null : never) };

/** The declarations in order of the docs. */
export const engineOptions: readonly OptionDeclaration[] = Object.entries(table).map(([name, declaration]) => ({ name, ...declaration }));

/** Name of an option in the environment. */
export function environmentName(flag: string): string {
  return `MILLRACE_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/**
 * Fills in defaults and checks names, types and ranges.
 * @throws CONFIG_INVALID naming the option
 */
export function checkOptions(given: LoadOptions): CheckedOptions {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(table, name)) throw invalid(name, `one of ${Object.keys(table).join(', ')}`, name, 'There is no such option');
  }
  const checked = Object.fromEntries(
    engineOptions.map((option) => [option.name, checkOption(option, (given as Record<string, unknown>)[option.name])]),
  );
  return Object.freeze(checked) as CheckedOptions;
}

function checkOption(option: OptionDeclaration, value: unknown): unknown {
  if (value === undefined || value === null) return option.default;
  const { kind, choices, min = -Infinity, max = Infinity } = option;
  if (value === 'auto' && option.default === 'auto') return value;
  if (kind === 'integer' || kind === 'number') {
    const fits = typeof value === 'number' && value >= min && value <= max && (kind === 'number' || Number.isInteger(value));
    if (fits) return value;
    throw invalid(
      option.flag,
      `${kind === 'integer' ? 'an integer' : 'a number'} from ${min} to ${max}${option.default === 'auto' ? ', or auto' : ''}`,
      value,
    );
  }
  if (kind === 'boolean') {
    if (typeof value === 'boolean') return value;
    throw invalid(option.flag, 'true or false', value);
  }
  if (kind === 'strings') {
    if (Array.isArray(value) && value.length > 0 && value.every((v) => typeof v === 'string' && v.length > 0)) return Object.freeze([...value]);
    throw invalid(option.flag, 'one or more names', value);
  }
  if (typeof value === 'string' && (choices === undefined ? value.length > 0 : choices.includes(value))) return value;
  throw invalid(option.flag, choices === undefined ? 'a text' : `one of ${choices.join(', ')}`, value);
}

function invalid(option: string, expected: string, received: unknown, message = `Option ${option} cannot be that`): MillraceError {
  return new MillraceError('CONFIG_INVALID', { message: `${message}.`, expected, received: JSON.stringify(received) ?? String(received) });
}
