/** What each family becomes: the printed plan of every golden checkpoint, so that a change of a family shows in review. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readEncoder, readModel } from '../../src/models/index.ts';
import type { WeightFormat } from '../../src/plan/plan.ts';
import { printPlan } from '../../src/plan/print.ts';

const goldens = join(import.meta.dirname, '../golden');
const names = readdirSync(goldens).filter((name) => existsSync(join(goldens, name, 'config.json')));

function modelOf(name: string) {
  const config: unknown = JSON.parse(readFileSync(join(goldens, name, 'config.json'), 'utf8'));
  return readEncoder(config) ?? readModel(config);
}

test.each(names)('the plan of %s is as recorded', async (name) => {
  const plan = modelOf(name).build({ formatOf: () => 'f32', activationFor: () => 'f32' });
  await expect(printPlan(plan)).toMatchFileSnapshot(`families/${name}.txt`);
});

test('matrices stored in different formats get a linear each, as recorded', async () => {
  const formatOf = (tensor: string): WeightFormat => (tensor.includes('v_proj') || tensor.includes('down_proj') ? 'f16' : 'q8_0');
  const plan = readModel(JSON.parse(readFileSync(join(goldens, 'qwen2', 'config.json'), 'utf8'))).build(
    { formatOf, activationFor: (format) => (format === 'q8_0' ? 'int8-group32' : 'f32') },
    { from: 0, to: 1 },
  );
  await expect(printPlan(plan)).toMatchFileSnapshot('families/qwen2-mixed-stage.txt');
});
