/** `millrace eval ppl|kl`: how well a model predicts a text, and how far it is from another. */
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import type { DivergenceReport, Estimate, PerplexityReport } from '../../bench/evaluate.ts';
import { textTable } from '../../bench/report.ts';
import type { ScoringOptions } from '../../bench/scoring-windows.ts';
import { engineOptions, type LoadOptions } from '../../engine/config.ts';
import type { Scorer, ScorerInfo } from '../../engine/scorer.ts';
import type { CliContext } from '../context.ts';
import { addEngineFlags, readLoadOptions } from '../engine-flags.ts';
import { addFlags, type FlagDeclaration, readFlags } from '../flags.ts';
import { Progress } from '../progress.ts';
import { readText } from '../read-text.ts';

const DEFAULT_CONTEXT = { sliding: 2048, 'llama.cpp': 512 };
const DEFAULT_STRIDE = 512;

const textFlags: readonly FlagDeclaration[] = [
  { name: 'file', flag: 'file', kind: 'string', placeholder: 'FILE', env: null, meaning: 'the text, UTF-8; standard input when absent or -' },
  {
    name: 'method',
    flag: 'method',
    kind: 'string',
    choices: ['sliding', 'llama.cpp'],
    default: 'sliding',
    env: null,
    meaning:
      'sliding: overlapping windows, each token counts once (transformers); llama.cpp: disjoint windows, the second half of each counts (llama-perplexity)',
  },
  {
    name: 'context',
    flag: 'context',
    kind: 'integer',
    placeholder: 'TOKENS',
    env: null,
    meaning: 'tokens of a window (default: 2048, with llama.cpp 512; less where the model allows less)',
  },
  {
    name: 'stride',
    flag: 'stride',
    kind: 'integer',
    placeholder: 'TOKENS',
    env: null,
    meaning: 'tokens between the beginnings of two windows of sliding (default: 512, or half the context where that is less)',
  },
  { name: 'maxTokens', flag: 'max-tokens', kind: 'integer', placeholder: 'N', env: null, meaning: 'read only so many tokens of the text' },
  {
    name: 'parseSpecial',
    flag: 'parse-special',
    kind: 'boolean',
    env: null,
    meaning: 'read spellings of special tokens in the text as those tokens, as in rendered conversations',
  },
];

/** How the reference of `kl` differs from the model, unless flags say otherwise: in nothing but its number types, which are f32. */
const REFERENCE_DEFAULTS: LoadOptions = { dtype: 'float32', kvCacheDtype: 'float32', activation: 'float', quantize: 'none' };

const againstFlags: readonly FlagDeclaration[] = [
  {
    name: 'model',
    flag: 'against',
    kind: 'string',
    placeholder: 'MODEL',
    env: null,
    meaning: 'the reference: folder, GGUF file or hub name (default: the same model)',
  },
  ...engineOptions
    .filter(({ name }) => ['dtype', 'kvCacheDtype', 'activation', 'quantize', 'backend', 'isa'].includes(name))
    .map(({ choices, ...option }) => ({
      ...option,
      ...(choices === undefined ? {} : { choices }),
      flag: `against-${option.flag}`,
      default: REFERENCE_DEFAULTS[option.name as keyof LoadOptions],
      env: null,
      meaning: `--${option.flag} of the reference`,
    })),
];

export function evalCommand(context: CliContext): Command {
  const command = new Command('eval').description('measure how well a model predicts a text of yours (docs/accuracy.md)');
  command.addCommand(pplCommand(context));
  command.addCommand(klCommand(context));
  return command;
}

function pplCommand(context: CliContext): Command {
  const command = evaluation('ppl', 'perplexity of a model on a text');
  return command.action(async (model: string | undefined) => {
    const request = readRequest(context, command, model);
    const { measurePerplexity } = await import('../../bench/evaluate.ts');
    await request.run(async (open, progress) => {
      const scorer = await open(request.options, (most) => request.contextWithin(most));
      const ids = await request.encode(scorer);
      const scoring = request.scoring(scorer.info.context);
      const report = await measurePerplexity(scorer, ids, scoring, (done, total) => progress.update('score', done, total));
      const whole = { model: scorer.info, text: { numTokens: ids.length }, scoring, ...report };
      context.stdout.write(
        request.json ? json(whole) : `${heading(scoring, ids.length)}\n${modelLine('model', scorer.info)}\n${perplexityText(report)}`,
      );
    });
  });
}

function klCommand(context: CliContext): Command {
  const command = evaluation('kl', 'Kullback-Leibler divergence of a model from a reference on a text: by default from itself in f32');
  addFlags(command, againstFlags);
  return command.action(async (model: string | undefined) => {
    const request = readRequest(context, command, model);
    const { measureDivergence, requireSameVocabulary } = await import('../../bench/evaluate.ts');
    await request.run(async (open, progress) => {
      const scorer = await open(request.options, (most) => request.contextWithin(most));
      const against = { ...request.options, ...REFERENCE_DEFAULTS, ...(readFlags(command, againstFlags) as LoadOptions) };
      const reference = await open(against, () => scorer.info.context);
      const ids = await request.encode(scorer);
      requireSameVocabulary(scorer, reference, ids, await request.encode(reference));
      const scoring = request.scoring(scorer.info.context);
      const report = await measureDivergence(scorer, reference, ids, scoring, (done, total) => progress.update('score', done, total));
      const { model: ofModel, reference: ofReference, ...divergence } = report;
      const models = { model: { ...scorer.info, ...ofModel }, reference: { ...reference.info, ...ofReference } };
      const lines = [heading(scoring, ids.length), modelLine('model', scorer.info), modelLine('against', reference.info)];
      context.stdout.write(
        request.json
          ? json({ ...models, text: { numTokens: ids.length }, scoring, ...divergence })
          : `${lines.join('\n')}\n${divergenceText(report)}`,
      );
    });
  });
}

function evaluation(name: string, description: string): Command {
  const command = new Command(name)
    .description(description)
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--json', 'print everything as JSON');
  addFlags(command, textFlags);
  return addEngineFlags(command);
}

type Open = (options: LoadOptions, contextFor: (maxPositions: number) => number) => Promise<Scorer>;

interface TextFlags {
  readonly file?: string;
  readonly method?: ScoringOptions['method'];
  readonly context?: number;
  readonly stride?: number;
  readonly maxTokens?: number;
  readonly parseSpecial?: boolean;
}

function readTextFlags(command: Command): TextFlags & { readonly method: ScoringOptions['method'] } {
  const flags = { method: 'sliding' as const, ...(readFlags(command, textFlags) as TextFlags) };
  const { method, stride } = flags;
  atLeast('context', flags.context, method === 'sliding' ? 2 : 4);
  atLeast('stride', stride, 1);
  atLeast('max-tokens', flags.maxTokens, 2);
  if (method === 'sliding' || stride === undefined) return flags;
  throw new MillraceError('CONFIG_INVALID', {
    message: '--stride belongs to --method sliding.',
    expected: 'no --stride',
    received: String(stride),
    param: 'stride',
  });
}

/** What both evaluations ask for. @throws CONFIG_INVALID */
function readRequest(context: CliContext, command: Command, model: string | undefined) {
  const json = command.opts<{ json?: boolean }>().json === true;
  const { options, notice } = readLoadOptions(command, model);
  const { file, method, stride, maxTokens, parseSpecial = false, context: asked = options.maxModelLen } = readTextFlags(command);
  let text = '';
  return {
    json,
    options,
    /** Tokens of a window; one that the model does not allow is left for the engine to refuse. */
    contextWithin: (most: number): number => (typeof asked === 'number' ? asked : Math.min(DEFAULT_CONTEXT[method], most)),
    scoring(windowTokens: number): ScoringOptions {
      if (stride !== undefined && stride > windowTokens) {
        throw new MillraceError('CONFIG_INVALID', {
          message: '--stride is longer than the context: tokens would be left out.',
          expected: `at most ${windowTokens}`,
          received: String(stride),
          param: 'stride',
        });
      }
      return { method, context: windowTokens, stride: stride ?? Math.min(DEFAULT_STRIDE, Math.floor(windowTokens / 2)) };
    },
    /** Ids of the text, with the special tokens that the tokenizer puts around one. */
    async encode(scorer: Scorer): Promise<Int32Array> {
      const ids = await scorer.tokenizer.encodeAsync(text, { addSpecialTokens: true, parseSpecial });
      return ids.subarray(0, maxTokens);
    },
    /** Reads the text, evaluates, and closes what was opened. */
    async run(evaluate: (open: Open, progress: Progress) => Promise<void>): Promise<void> {
      text = await readText(file, context.stdin, maxTokens !== undefined);
      const { Scorer } = await import('../../engine/scorer.ts');
      const progress = new Progress(context.stderr, { quiet: json });
      if (notice !== null) progress.line(notice);
      const opened: Scorer[] = [];
      try {
        const hooks = {
          onProgress: (stage: string, done: number, total: number) => progress.update(stage, done, total),
          onNotice: (line: string) => progress.line(line),
        };
        await evaluate(async (given, contextFor) => {
          const scorer = await Scorer.load(given, contextFor, hooks);
          opened.push(scorer);
          return scorer;
        }, progress);
      } finally {
        progress.stop();
        for (const scorer of opened) await scorer.close();
      }
    },
  };
}

function atLeast(flag: string, value: number | undefined, least: number): void {
  if (value === undefined || value >= least) return;
  throw new MillraceError('CONFIG_INVALID', {
    message: `--${flag} is too small.`,
    expected: `at least ${least}`,
    received: String(value),
    param: flag,
  });
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

function heading({ method, context, stride }: ScoringOptions, numTokens: number): string {
  const windows =
    method === 'sliding'
      ? `sliding windows of ${context} tokens, ${stride} apart; each token but the first${stride === context ? ' of a window' : ''} counts once`
      : `windows of ${context} tokens side by side as llama.cpp cuts them; the second half of each counts`;
  return `text     ${numTokens} tokens; ${windows}`;
}

function modelLine(what: string, info: ScorerInfo): string {
  return `${what.padEnd(8)} ${info.name}: weights ${info.weightFormats.join(', ')}; activations ${info.activations.join(', ')}; KV ${info.kvCacheDtype}; ${info.backend}`;
}

const plusMinus = ({ mean, standardError }: Estimate, digits: number, factor = 1): string =>
  `${(mean * factor).toFixed(digits)}${standardError === null ? '' : ` +/- ${(standardError * factor).toFixed(digits)}`}`;

function perplexityText({ numTokens, totalNats, natsPerToken, perplexity }: PerplexityReport): string {
  const rows = [
    ['tokens counted', String(numTokens)],
    ['nats', totalNats.toFixed(3)],
    ['nats per token', plusMinus(natsPerToken, 5)],
    ['perplexity', plusMinus(perplexity, 4)],
  ];
  return `\n${textTable(rows, 'll')}\n`;
}

function divergenceText({ numTokens, kl, sameTop, model, reference }: DivergenceReport): string {
  const nats = (value: number): string => value.toExponential(3);
  const rows = [
    ['tokens counted', String(numTokens)],
    ['mean KL(against || model)', `${nats(kl.mean)}${kl.standardError === null ? '' : ` +/- ${nats(kl.standardError)}`} nats`],
    ['median', `${nats(kl.median)} nats`],
    ['99th percentile', `${nats(kl.p99)} nats`],
    ['maximum', `${nats(kl.max)} nats`],
    ['same likeliest token', `${plusMinus(sameTop, 3, 100)} %`],
    ['perplexity of the model', plusMinus(model.perplexity, 4)],
    ['perplexity of against', plusMinus(reference.perplexity, 4)],
  ];
  return `\n${textTable(rows, 'll')}\n`;
}
