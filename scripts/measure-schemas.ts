/**
 * The grammar of JSON Schemas against JSONSchemaBench and the JSON Schema test suite: prints the table of docs/structured-output.md.
 *
 * npx tsx scripts/measure-schemas.ts [--stride 1] [--refusals] [--datasets]   (reads ../shared/data, or MILLRACE_SHARED)
 */
import { parseArgs } from 'node:util';
import { benchSamples, drafts, type Sample, suiteSamples, type Tally, tally } from '../test/grammar/schema-data.ts';

const { values } = parseArgs({
  options: { stride: { type: 'string', default: '1' }, refusals: { type: 'boolean', default: false }, datasets: { type: 'boolean', default: false } },
});

const percent = (part: number, whole: number) => `${((100 * part) / Math.max(1, whole)).toFixed(1)} %`;

function row(name: string, t: Tally): string {
  const sorted = t.compileMs.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(1);
  const compiled = `${t.numCompiled} (${percent(t.numCompiled, t.numSchemas)})`;
  const times = [0.5, 0.95, 0.99, 1].map(at).join(' / ');
  return `| ${name} | ${t.numSchemas} | ${compiled} | ${percent(t.numValidAccepted, t.numValid)} of ${t.numValid} | ${t.invalidAccepted.length} | ${times} |`;
}

/** What stands in the way, most frequent first. */
function reasons(t: Tally): string {
  const counts = new Map<string, number>();
  for (const refusal of t.refusals) {
    const reason = refusal.replace(/ \[[^\]]*\]$/, '').replace(/ at #.*$| at [^ ]*\/.*$/, '');
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  return sorted
    .map(([reason, count]) => `${String(count).padStart(6)}  ${reason}`)
    .slice(0, 45)
    .join('\n');
}

console.log('| collection | schemas | compiled | valid accepted | invalid accepted | compile ms p50 / p95 / p99 / max |\n|---|---|---|---|---|---|');
const bench = tally(benchSamples(Number(values.stride)));
console.log(row('JSONSchemaBench', bench));
/** How the names of the schemas of each dataset begin. */
const datasets = [
  ...['BFCL', 'Github_trivial', 'Github_easy', 'Github_medium', 'Github_hard', 'Github_ultra', 'Glaiveai2K', 'Handwritten', 'JME', 'JsonSchemaStore'],
  ...['Kubernetes', 'MCPspec', 'Snowplow', 'Synthesized', 'WashingtonPost'],
];
function* samplesOf(dataset: string): Generator<Sample> {
  for (const sample of benchSamples(Number(values.stride))) if (sample.name.startsWith(dataset)) yield sample;
}
for (const dataset of values.datasets ? datasets : []) {
  const counts = tally(samplesOf(dataset));
  if (counts.numSchemas > 0) console.log(row(dataset, counts));
}
const suites = drafts.map((draft) => {
  const counts = tally(suiteSamples(draft));
  console.log(row(`test suite, ${draft}`, counts));
  return counts;
});
for (const t of [bench, ...suites]) for (const line of [...t.unexpected, ...t.invalidAccepted].slice(0, 20)) console.log(`BAD ${line}`);
if (values.refusals) {
  console.log(reasons(bench));
  console.log('valid and refused:');
  for (const line of bench.validRefused) console.log(line);
}
