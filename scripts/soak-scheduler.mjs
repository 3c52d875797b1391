/**
 * Lives random lives of the scheduler until so many steps are done (default 1,000,000), checking every invariant after every action.
 *
 *   node scripts/soak-scheduler.mjs [steps] [first seed]
 *
 * A life that breaks is named by its seed, which repeats it.
 */
import { tsImport } from 'tsx/esm/api';

const wanted = Number(process.argv[2] ?? 1_000_000);
let seed = Number(process.argv[3] ?? 1);
if (!(wanted > 0) || !Number.isInteger(seed)) {
  console.error('usage: node scripts/soak-scheduler.mjs [steps] [first seed]');
  process.exit(2);
}
const { liveRandomly } = await tsImport('../test/fixtures/scheduler-life.ts', import.meta.url);
const sum = {};
const start = performance.now();
for (let nextLine = 0; (sum.steps ?? 0) < wanted; seed++) {
  let report;
  try {
    report = liveRandomly(seed, 500);
  } catch (thrown) {
    console.error(`the life of seed ${seed} broke: ${thrown.stack}`);
    process.exit(1);
  }
  for (const [name, count] of Object.entries(report)) sum[name] = (sum[name] ?? 0) + count;
  if (sum.steps < nextLine) continue;
  console.log(`seed ${seed}: ${JSON.stringify(sum)}`);
  nextLine += wanted / 20;
}
console.log(`${sum.steps} steps in ${((performance.now() - start) / 1000).toFixed(0)} s, no invariant broken: ${JSON.stringify(sum)}`);
