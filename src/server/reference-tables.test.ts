import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { referenceTables } from './reference-tables.ts';

const documents = ['api', 'metrics'].map((name) => readFileSync(new URL(`../../docs/${name}.md`, import.meta.url), 'utf8')).join('\n');

test.each(Object.entries(referenceTables()))('the table of %s in the documents is true to the code', (name, rows) => {
  const [, written] = new RegExp(`<!-- table: ${name} -->\n([\\s\\S]*?)\n<!-- end -->`).exec(documents) ?? [];
  expect(written, 'run node scripts/check-docs.mjs --write').toBe(rows.join('\n'));
});

test('every table that the documents announce is rendered', () => {
  const names = [...documents.matchAll(/<!-- table: (\S+) -->/g)].map(([, name]) => name);
  expect(names.toSorted()).toEqual(Object.keys(referenceTables()).toSorted());
});
