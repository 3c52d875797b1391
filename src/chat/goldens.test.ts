/** The templates of real models against Python's renderings. The files lie outside the repository; without them the test is skipped. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { MillraceError } from '../base/errors.ts';
import { JinjaError } from './jinja/errors.ts';
import { ChatTemplate } from './template.ts';

interface Goldens {
  readonly fixed_variables: Record<string, unknown>;
  readonly cases: Record<string, Record<string, unknown>>;
  readonly outputs: Record<string, Record<string, { output?: string; error?: string }>>;
}

const data = join(process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../shared'), 'data');
const file = join(data, 'chat-template-goldens/goldens.json.gz');

test.skipIf(!existsSync(file))('templates of real models render, or fail, in every case as in Python', () => {
  const goldens = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as Goldens;
  const different: string[] = [];
  for (const [path, byCase] of Object.entries(goldens.outputs)) {
    const template = ChatTemplate.compile(readFileSync(join(data, path), 'utf8'), {}, () => new Date(2026, 0, 15, 12));
    for (const [name, expected] of Object.entries(byCase)) {
      const rendered = render(template, { ...goldens.fixed_variables, ...goldens.cases[name] });
      if (rendered.output !== expected.output || rendered.error !== expected.error)
        different.push(`${path} ${name}: ${JSON.stringify(rendered).slice(0, 300)}`);
    }
  }
  expect(different).toEqual([]);
  expect(Object.keys(goldens.outputs).length).toBeGreaterThan(40);
});

/** An error as Python prints it: its class and message. */
function render(template: ChatTemplate, variables: Record<string, unknown>): { output?: string; error?: string } {
  try {
    return { output: template.renderVariables(variables) };
  } catch (thrown) {
    const { cause } = thrown as MillraceError;
    expect(thrown).toMatchObject({ code: 'CHAT_TEMPLATE_FAILED' });
    return { error: cause instanceof JinjaError ? `${cause.kind}: ${cause.message}` : String(cause) };
  }
}
