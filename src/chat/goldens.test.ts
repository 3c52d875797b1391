/** The templates of real models against Python's renderings. The files lie outside the repository; without them the test is skipped. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { ChatTemplate } from './template.ts';

interface Goldens {
  readonly fixed_variables: Record<string, unknown>;
  readonly cases: Record<string, Record<string, unknown>>;
  readonly outputs: Record<string, Record<string, { output?: string; error?: string }>>;
}

const data = join(process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../shared'), 'data');
const file = join(data, 'chat-template-goldens/goldens.json.gz');
/** Measured; the library's Jinja differs from Python's in the rest. */
const leastEqual = 461;

test.skipIf(!existsSync(file))('templates of real models render as Python renders them in at least the measured number of cases', () => {
  const goldens = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as Goldens;
  const different: string[] = [];
  let equal = 0;
  for (const [path, byCase] of Object.entries(goldens.outputs)) {
    for (const [name, expected] of Object.entries(byCase)) {
      let output: string | null = null;
      let why = '';
      try {
        const template = ChatTemplate.compile(readFileSync(join(data, path), 'utf8'), {}, () => new Date(2026, 0, 15));
        output = template.renderVariables({ ...goldens.fixed_variables, ...goldens.cases[name] });
      } catch (thrown) {
        why = String(thrown).slice(0, 200);
      }
      if (output === (expected.output ?? null)) equal++;
      else different.push(`${path} ${name} ${why}`);
    }
  }
  expect(equal, `different: ${different.join(', ')}`).toBeGreaterThanOrEqual(leastEqual);
});
