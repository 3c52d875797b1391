import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NO_NODE } from './block-pool.ts';
import { RadixTree } from './radix-tree.ts';

function common(a: readonly number[], b: readonly number[]): number {
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  return i;
}

test('the longest child is the one that a comparison with all children finds', () => {
  const tokens = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.uniqueArray(tokens, { selector: (t) => t.join(), maxLength: 40 }), tokens, (children, query) => {
      const tree = new RadixTree(4, 1);
      const root = tree.root('');
      const nodes = children.map((child) => tree.insert(root, Int32Array.from(child), 0, child.length));
      const best = Math.max(0, ...children.map((child) => common(child, query)));
      const found = tree.longestChild(root, Int32Array.from(query), 0, query.length);
      expect(tree.commonLength).toBe(best);
      if (best === 0) expect(found).toBe(NO_NODE);
      else expect(common(children[nodes.indexOf(found)], query)).toBe(best);
    }),
  );
});

test('removed children are no longer found and the rest still are', () => {
  const tree = new RadixTree(2, 1);
  const root = tree.root('');
  const children = [[5, 1], [5, 2], [5], [1, 9], [7, 7]];
  const nodes = children.map((child) => tree.insert(root, Int32Array.from(child), 0, child.length));
  tree.remove(nodes[1]);
  expect(tree.longestChild(root, Int32Array.of(5, 2), 0, 2)).not.toBe(nodes[1]);
  expect(tree.commonLength).toBe(1);
  expect(tree.longestChild(root, Int32Array.of(7, 7), 0, 2)).toBe(nodes[4]);
  expect(tree.numNodes).toBe(5);
});

test('namespaces share nothing, and an empty one vanishes', () => {
  const tree = new RadixTree(2, 1);
  const [a, b] = [tree.root('a'), tree.root('b')];
  expect(a).not.toBe(b);
  tree.insert(a, Int32Array.of(1, 2), 0, 2);
  expect(tree.longestChild(b, Int32Array.of(1, 2), 0, 2)).toBe(NO_NODE);
  tree.prune(b);
  expect(tree.numNodes).toBe(2);
});

test('a node with children cannot be removed', () => {
  const tree = new RadixTree(2, 1);
  const parent = tree.insert(tree.root(''), Int32Array.of(1, 2), 0, 2);
  tree.insert(parent, Int32Array.of(3, 4), 0, 2);
  expect(() => tree.remove(parent)).toThrow('in use');
});

test('whatever is inserted and removed, the children found are those that a list would give', () => {
  const tokens = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(fc.array(tokens, { maxLength: 60 }), tokens, (toggles, query) => {
      const tree = new RadixTree(3, 1);
      const root = tree.root('');
      const known = new Map<string, { node: number; child: number[] }>();
      for (const child of toggles) {
        const existing = known.get(child.join());
        if (existing === undefined) known.set(child.join(), { node: tree.insert(root, Int32Array.from(child), 0, child.length), child });
        else {
          tree.remove(existing.node);
          known.delete(child.join());
        }
        const best = Math.max(0, ...[...known.values()].map((entry) => common(entry.child, query)));
        tree.longestChild(root, Int32Array.from(query), 0, query.length);
        expect(tree.commonLength).toBe(best);
      }
      expect(tree.numNodes).toBe(known.size + 1);
      for (const { node } of known.values()) tree.remove(node);
      expect(tree.hasChildren(root)).toBe(false);
    }),
  );
});
