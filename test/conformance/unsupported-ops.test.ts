/** A plan with operations that a backend lacks is refused when it is compiled, and the error names all of them. */
import { afterAll, describe, expect, test } from 'vitest';
import type { AnyNode, Plan } from '../../src/plan/plan.ts';
import { decoderPlan } from '../fixtures/decoder.ts';
import { randomSource } from '../fixtures/weights.ts';
import { candidates } from './backends.ts';

const limits = { maxTokens: 8, maxLogitRows: 8 };
const known = decoderPlan();

/** The plan with the op of some nodes replaced by another. */
function replaced(plan: Plan, replace: (node: AnyNode) => string | undefined): Plan {
  return { ...plan, nodes: plan.nodes.map((node) => ({ ...node, op: replace(node) ?? node.op }) as AnyNode) };
}

/** The plan for two ranks, with an exchange behind each of its first two nodes of hidden states. */
function forTwoRanks(plan: Plan): Plan {
  const [ids, hidden] = plan.nodes[0].inputs.concat(plan.nodes[0].outputs);
  const exchange = (op: 'all-reduce' | 'all-gather', at: number): AnyNode => {
    const output = plan.values.length + at;
    return { op, name: `exchange ${at}`, inputs: [hidden], outputs: [output], weights: [], constants: [], attrs: { peer: 0 } };
  };
  const values = [0, 1].map((at) => ({ ...plan.values[hidden], id: plan.values.length + at, name: `exchanged ${at}` }));
  expect(ids).toBe(plan.input.value);
  return {
    ...plan,
    worldSize: 2,
    values: [...plan.values, ...values],
    nodes: [plan.nodes[0], exchange('all-reduce', 0), exchange('all-gather', 1), ...plan.nodes.slice(1)],
  };
}

for (const { name, open } of await candidates()) {
  describe(name, async () => {
    const backend = await open();
    afterAll(() => backend.close());
    const compile = (plan: Plan) => backend.compile(plan, randomSource(known), limits);

    test('names every op that nobody knows', async () => {
      const ops: Readonly<Record<string, string>> = { 'rms-norm': 'group-norm', 'add-rms-norm': 'group-norm', embedding: 'hash-embedding' };
      const failed = compile(replaced(known, (node) => ops[node.op]));
      await expect(failed).rejects.toMatchObject({ code: 'BACKEND_OP_UNSUPPORTED' });
      await expect(failed).rejects.toThrow(/group-norm/);
      await expect(failed).rejects.toThrow(/hash-embedding/);
    });

    test('names every op that it lacks between ranks, and goes on', async () => {
      const failed = compile(forTwoRanks(known));
      await expect(failed).rejects.toMatchObject({ code: 'BACKEND_OP_UNSUPPORTED' });
      await expect(failed).rejects.toThrow(/all-reduce between ranks/);
      await expect(failed).rejects.toThrow(/all-gather between ranks/);
      (await compile(known)).close();
    });
  });
}
