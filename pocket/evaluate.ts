/**
 * Measures the pocket model through Millrace itself, greedy: prints the table of the model card and writes what the model said, which
 * evaluate.py compares with transformers.
 *
 *     npx tsx pocket/evaluate.ts --model pocket/model --work build/pocket
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type ChatMessage, LLM } from '../src/index.ts';

interface Call {
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** One question. In sets (a) and (b) the last message is what is expected; prompts by hand say it in `contains`, `json` or `call`. */
interface Item {
  readonly set: string;
  readonly kind: string;
  readonly messages: readonly ChatMessage[];
  readonly tools?: readonly unknown[];
  readonly contains?: readonly string[];
  readonly json?: unknown;
  readonly call?: Call;
}

interface Said {
  readonly item: Item;
  readonly text: string;
  readonly tokenIds: readonly number[];
}

const refusal = 'bigger model with: npm start';

function readSet(set: string, file: string): Item[] {
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return lines.map((line) => {
    const row: Item = JSON.parse(line);
    if (set === 'c') return { ...row, set, ...(row.tools === undefined ? {} : { tools: row.tools.map(toolOf) }) };
    return { ...row, set, ...expectedOf(row.messages[row.messages.length - 1]), messages: row.messages.slice(0, -1) };
  });
}

function expectedOf(last: ChatMessage): Partial<Item> {
  const [call] = (last.tool_calls ?? []) as readonly { readonly function: Call }[];
  if (call !== undefined) return { call: call.function };
  const text = String(last.content);
  return text.startsWith('{') ? { json: JSON.parse(text) } : { contains: [text] };
}

/** The prompts by hand name tools as `name(argument,argument)`. */
function toolOf(signature: unknown): unknown {
  const [name, rest = ''] = String(signature).split('(');
  const names = rest.replace(')', '').split(',');
  const properties = Object.fromEntries(names.map((key) => [key, { type: key === 'minutes' ? 'integer' : 'string' }]));
  return { type: 'function', function: { name, parameters: { type: 'object', properties, required: names } } };
}

function callIn(text: string): unknown {
  const found = /<tool_call>\s*(.*?)\s*<\/tool_call>/s.exec(text);
  return found === null ? undefined : parsed(found[1]);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Equal as JSON, whatever the order of keys. */
function same(a: unknown, b: unknown): boolean {
  const sorted = (_: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)))
      : value;
  return a !== undefined && JSON.stringify(a, sorted) === JSON.stringify(b, sorted);
}

function right({ item, text }: Said): boolean {
  if (item.kind === 'out of scope') return text.includes(refusal);
  if (item.call !== undefined) return same(callIn(text), { name: item.call.name, arguments: item.call.arguments });
  if (item.json !== undefined) return same(parsed(text.trim()), item.json);
  if (item.kind === 'no tool') return !text.includes('<tool_call>') && text.includes(refusal) === refusing(item);
  if (item.kind === 'facts' || item.kind === 'tool result') return (item.contains ?? []).every((part) => text.includes(part));
  return !text.includes(refusal) && !text.includes('<tool_call>');
}

const refusing = (item: Item): boolean => (item.contains ?? []).some((part) => part.includes(refusal));

function share(all: readonly Said[], wanted: (said: Said) => boolean, holds: (said: Said) => boolean): string {
  const of = all.filter(wanted);
  const count = of.filter(holds).length;
  return of.length === 0 ? '-' : `${count}/${of.length} (${Math.round((100 * count) / of.length)} %)`;
}

function row(set: string, said: readonly Said[]): string {
  const all = said.filter((one) => one.item.set === set);
  const kind = (name: string) => share(all, (one) => one.item.kind === name, right);
  const answerable = (one: Said): boolean => one.item.kind !== 'out of scope' && !refusing(one.item);
  const refused = share(all, answerable, (one) => one.text.includes(refusal));
  return `| (${set}) | ${[kind('tool call'), kind('json'), kind('facts'), kind('out of scope'), refused, kind('tool result'), kind('no tool')].join(' | ')} |`;
}

async function main(): Promise<void> {
  const options = {
    model: { type: 'string', default: 'pocket/model' },
    work: { type: 'string', default: 'build/pocket' },
    /** The prompts by hand are left out while anything is still being tuned: `--sets ab`. */
    sets: { type: 'string', default: 'abc' },
    /** float32 throughout, for comparing with transformers; else as anybody would run it. */
    exact: { type: 'boolean', default: false },
  } as const;
  const { values } = parseArgs({ options });
  const files = {
    a: path.join(values.work, 'eval-a.jsonl'),
    b: path.join(values.work, 'eval-b.jsonl'),
    c: path.join(import.meta.dirname, 'prompts-by-hand.jsonl'),
  };
  const items = Object.entries(files).flatMap(([set, file]) => (values.sets.includes(set) ? readSet(set, file) : []));
  const stories = [
    'Tell me a story.',
    'Tell me a story about a dog.',
    'Tell me a short story.',
    'Write a story about a boat.',
    'Can you tell me a story about a cat?',
  ];
  items.push(...stories.map((content) => ({ set: 'stories', kind: 'story', messages: [{ role: 'user', content }] })));
  await using llm = await LLM.load({ model: values.model, ...(values.exact ? { dtype: 'float32', kvCacheDtype: 'float32' } : {}) });
  const said = await Promise.all(
    items.map(async (item): Promise<Said> => {
      const maxTokens = item.kind === 'story' ? 400 : 160;
      const template = item.tools === undefined ? {} : { template: { tools: item.tools } };
      const [choice] = (await llm.chat(item.messages, { temperature: 0, maxTokens }, template)).choices;
      return { item, text: choice.text, tokenIds: choice.tokenIds };
    }),
  );
  writeFileSync(path.join(values.work, 'said.jsonl'), said.map((one) => `${JSON.stringify({ ...one, right: right(one) })}\n`).join(''));
  const heads = [
    'set',
    'tool call and arguments exact',
    'JSON exact',
    'facts',
    'out of scope',
    'wrongly refused',
    'answer from a tool result',
    'no tool needed',
  ];
  console.log(`| ${heads.join(' | ')} |\n|${'---|'.repeat(heads.length)}`);
  for (const set of values.sets) console.log(row(set, said));
}

await main();
