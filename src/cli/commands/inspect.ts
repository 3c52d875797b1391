/** `millrace inspect`: what a model is, how it would run here, and why. */
import { Command } from 'commander';
import { textTable } from '../../bench/report.ts';
import type { Plan } from '../../plan/plan.ts';
import { heldBits } from '../../quant/formats/index.ts';
import type { CliContext, CliEngine } from '../context.ts';
import { addEngineFlags, describeWithProgress, loadWithProgress } from '../engine-flags.ts';

export function inspectCommand(context: CliContext): Command {
  const command = new Command('inspect')
    .description('show a model, its plan, the kernel and number format of each tensor, memory, and why each "auto" was chosen')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--plan', 'print the whole plan, node by node')
    .option('--json', 'print everything as JSON');
  addEngineFlags(command);
  return command.action(async (model: string | undefined) => {
    const { json, plan } = command.opts<{ json?: boolean; plan?: boolean }>();
    const print = (report: InspectReport) => context.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : inspectText(report, plan === true));
    const remote = await describeWithProgress(context, command, model, { quiet: json === true });
    if (remote !== null) return void print(inspect(remote, remote.model.notice));
    const { engine, notice } = await loadWithProgress(context, command, model, { quiet: json === true });
    try {
      print(inspect(engine, notice));
    } finally {
      await engine.close();
    }
  });
}

export type InspectReport = ReturnType<typeof inspect>;

/** Everything that is known of an engine, as plain values. */
export function inspect(engine: Pick<CliEngine, 'model' | 'config' | 'describe'>, notice: string | null) {
  const { plan, kernels, backend, memory } = engine.describe();
  const kernelOf = new Map(kernels.map((choice) => [choice.node, choice.kernel]));
  const nodes = plan.nodes.map((node) => ({
    node: node.name,
    op: node.op,
    kernel: kernelOf.get(node.name) ?? null,
    ...('activation' in node.attrs ? { activation: node.attrs.activation } : {}),
    weights: node.weights.flatMap((id) => (id === null ? [] : [weightOf(plan, id)])),
  }));
  return {
    model: { ...engine.model, notice },
    backend,
    memory,
    config: { values: engine.config.values, reasons: engine.config.reasons },
    cacheGroups: plan.cacheGroups,
    nodes,
  };
}

function weightOf(plan: Plan, id: number) {
  const { name, shape, format, parts } = plan.weights[id];
  const numElements = shape.reduce((product, size) => product * size, 1);
  return { name, shape, format, sizeBytes: (heldBits(format) / 8) * numElements, tensors: parts.map((part) => part.tensor) };
}

function inspectText(report: InspectReport, wholePlan: boolean): string {
  const { model, backend, memory, config, cacheGroups } = report;
  const lines = [
    `model    ${model.servedNames.join(', ')} (${model.architecture}), ${model.path}`,
    `         ${model.numParameters.toLocaleString('en')} parameters, vocabulary ${model.vocabSize.toLocaleString('en')}, context ${model.maxModelLen.toLocaleString('en')}`,
    ...(model.notice === null ? [] : [`         ${model.notice}`]),
    `backend  ${backend.name}, ${backend.isa}, ${backend.numThreads} threads`,
    `memory   weights ${mebibytes(memory.weightBytes)}, KV cache ${mebibytes(memory.cacheBytes)}, activations ${mebibytes(memory.arenaBytes)}`,
    ...cacheGroups.map(
      (group) =>
        `cache    ${group.name}: ${group.kind}${group.window === undefined ? '' : ` ${group.window}`}, ${group.numLayers} layers, ${group.kind === 'latent' ? 'rows' : `${group.numKvHeads} heads`} of ${group.headDim}`,
    ),
    ...config.reasons.map((reason) => `chosen   ${reason}`),
  ];
  const rows = report.nodes
    .filter((node) => wholePlan || node.weights.length > 0)
    .map((node) => {
      const [weight] = node.weights;
      const stored = weight === undefined ? ['', '', ''] : [weight.format, weight.shape.join(' x '), mebibytes(weight.sizeBytes)];
      return [node.node, node.op, ...stored, node.activation ?? '', node.kernel ?? ''];
    });
  return `${lines.join('\n')}\n\n${textTable([['node', 'op', 'format', 'shape', 'size', 'activation', 'kernel'], ...rows], 'lllrrll')}\n`;
}

function mebibytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
