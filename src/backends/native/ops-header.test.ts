import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { weightFormats } from '../../plan/encode.ts';
import { ATTENTION_SPLIT } from '../../plan/ops/attention.ts';
import { ops } from '../../plan/ops/index.ts';
import { LINEAR_SEGMENT, linear } from '../../plan/ops/linear.ts';
import { weightFormats as definitions } from '../../quant/formats/index.ts';
import { packageRoot } from './sources.ts';

const native = (path: string) => readFileSync(join(packageRoot(), 'native', path), 'utf8');

test('the native list of ops has the opcodes and attributes of the op table, in its order', () => {
  const rows = [...native('common/ops.h').matchAll(/^ {2}X\((\w+), "([^"]*)", "([^"]*)"\)/gm)];
  const expected = Object.entries(ops).map(([name, { attrs }]) => [name, Object.keys(attrs).join(' ')]);
  expect(rows.map(([, , name, attrs]) => [name, attrs])).toEqual(expected);
  const camelCase = (name: string) => name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  expect(rows.map(([, enumerator]) => enumerator)).toEqual(Object.keys(ops).map(camelCase));
});

test('formats, activations, segment and split are the same on both sides', () => {
  const header = native('common/contract.h');
  const enumOf = (name: string) => (new RegExp(`enum class ${name} : int32_t \\{([^}]*)\\}`).exec(header)?.[1] ?? '').match(/\w+(?= =)/g);
  const blocks = [...native('common/weight_formats.h').matchAll(/^ {2}X\((\w+), (\d+), (\d+)\)/gm)];
  expect(blocks.map(([, name, elements, bytes]) => [name, Number(elements), Number(bytes)])).toEqual(
    weightFormats.map((name) => [name, definitions[name].blockElements, definitions[name].blockBytes]),
  );
  const activations = (linear.attrs.activation as readonly string[]).map((word) =>
    word.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase()),
  );
  expect(enumOf('Activation')).toEqual(activations);
  expect(header).toContain(`kLinearSegment = ${LINEAR_SEGMENT};`);
  expect(header).toContain(`kAttentionSplit = ${ATTENTION_SPLIT};`);
});
