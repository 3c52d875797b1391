/**
 * Every pair of features in one request, on the pocket model through the socket: each must hold what it promises, or the pair is refused. The table in
 * docs/compatibility.md is what came out; it is compared, and written anew with MILLRACE_WRITE_DOCS=1.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { features } from './features.ts';
import { Harness, Refused } from './harness.ts';

const harness = new Harness();
afterAll(() => harness[Symbol.asyncDispose]());

const document = path.join(import.meta.dirname, '..', '..', 'docs', 'compatibility.md');
/** By the names of two features, in the order of the list: null where they work together. */
const results = new Map<string, Refused | null>();
const nameOf = (one: string, other: string) => `${one} + ${other}`;
const pairs = features.flatMap((one, at) => features.slice(at + 1).map((other) => [one, other] as const));

test.each(features.map((feature) => [feature.name, feature] as const))('%s alone', async (_name, feature) => {
  await harness.alone(feature);
});

test.each(pairs.map(([one, other]) => [one.name, other.name, one, other] as const))('%s and %s', async (_one, _other, one, other) => {
  const refused = await harness.together(one, other).then(
    () => null,
    (thrown: unknown) => {
      if (thrown instanceof Refused) return thrown;
      throw thrown;
    },
  );
  // A refusal is a clear one, and comes before anything was generated.
  if (refused !== null) expect([refused.status, refused.told.length > 10]).toEqual([400, true]);
  results.set(nameOf(one.name, other.name), refused);
});

test('docs/compatibility.md says what came out', () => {
  const text = fs.readFileSync(document, 'utf8');
  const [open, close] = ['<!-- pairs -->\n', '<!-- end -->'];
  const start = text.indexOf(open) + open.length;
  const end = text.indexOf(close, start);
  const written = text.slice(start, end);
  if (results.size < pairs.length) return; // some tests were left out or failed: nothing to compare
  const rows = `${table().join('\n')}\n`;
  if (process.env.MILLRACE_WRITE_DOCS === '1')
    fs.writeFileSync(
      document,
      text.replace(written, () => rows),
    );
  else expect(written, 'MILLRACE_WRITE_DOCS=1 npx vitest run test/compatibility writes it').toBe(rows);
});

function table(): string[] {
  // without what was received, which is the request
  const reasonOf = ({ code, told }: Refused) => `\`${code}\`: ${told.replace(/\.? (but received|Received) .*?(?=\. Hint:|\.$)/s, '')}`;
  const reasons = [...new Set([...results.values()].flatMap((refused) => (refused === null ? [] : [reasonOf(refused)])))];
  const cell = (row: number, column: number) => {
    if (row === column) return '';
    const [one, other] = [features[Math.min(row, column)]!, features[Math.max(row, column)]!];
    const name = nameOf(one.name, other.name);
    const refused = results.get(name) ?? null;
    return refused === null ? '✓' : `[${reasons.indexOf(reasonOf(refused)) + 1}]`;
  };
  const numbers = features.map((_, at) => String(at + 1));
  return [
    `| | feature | ${numbers.join(' | ')} |`,
    `|---|---|${numbers.map(() => '---|').join('')}`,
    ...features.map(({ name, means }, row) => `| ${row + 1} | ${name}: ${means} | ${features.map((_, column) => cell(row, column)).join(' | ')} |`),
    ...(reasons.length === 0 ? [] : ['', 'Refused with 400:', '', ...reasons.map((reason, at) => `${at + 1}. ${reason}`)]),
  ];
}
