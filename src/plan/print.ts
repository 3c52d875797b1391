/** A plan as text: for `inspect`, for errors and for snapshot tests. */
import type { AnyNode, CacheGroup, Plan, ValueId, Weight, WeightPart } from './plan.ts';

/** One line a node in order, then weights, constants and cache groups. Equal plans print alike. */
export function printPlan(plan: Plan): string {
  const lines = [
    `plan ${plan.name}: ${plan.input.kind} -> ${Object.entries(plan.outputs)
      .map(([name, id]) => `${name} = ${printValue(plan, id)}`)
      .join(', ')}`,
    ...(plan.worldSize === 1 ? [] : [`world of ${plan.worldSize}`]),
    ...(plan.numPositionAxes === 1 ? [] : [`${plan.numPositionAxes} position axes`]),
    ...plan.nodes.map((node) => `  ${printNode(plan, node)}`),
    'weights',
    ...plan.weights.map((weight) => `  ${printWeight(weight)}`),
    ...(plan.constants.length === 0 ? [] : ['constants']),
    ...plan.constants.map(
      ({ name, data }) => `  ${name} [${data.length}] = ${[...data.subarray(0, 4)].map((x) => x.toPrecision(4)).join(', ')}, ...`,
    ),
    ...(plan.cacheGroups.length === 0 ? [] : ['cache groups']),
    ...plan.cacheGroups.map((group) => `  ${printGroup(group)}`),
  ];
  return `${lines.join('\n')}\n`;
}

function printNode(plan: Plan, node: AnyNode): string {
  const outputs = node.outputs.map((id) => printValue(plan, id)).join(', ');
  const operands = [
    ...node.inputs.map((id) => printValue(plan, id)),
    ...node.weights.map((id) => (id === null ? 'no weight' : plan.weights[id].name)),
    ...node.constants.map((id) => plan.constants[id].name),
  ];
  const attrs = Object.entries(node.attrs).map(([name, value]) => `${name} ${value}`);
  return `${outputs === '' ? '' : `${outputs} = `}${node.op}(${operands.join(', ')})${attrs.length === 0 ? '' : ` {${attrs.join(', ')}}`}`;
}

/** `name [axis, width]`, with the columns where it is a view. */
function printValue(plan: Plan, id: ValueId): string {
  const { name, axis, width, dtype, view } = plan.values[id];
  const columns = view === undefined ? '' : ` of ${plan.values[view.of].name}[${view.offset}:${view.offset + width}]`;
  return `${name}[${axis}, ${width}]${dtype === 'i32' ? ' i32' : ''}${columns}`;
}

function printWeight({ name, shape, format, parts }: Weight): string {
  const plain = parts.length === 1 && parts[0].tensor === name && parts[0].transposed !== true;
  const tensors = plain ? '' : ` = ${parts.map(printPart).join(' + ')}`;
  return `${name} [${shape.join(', ')}] ${format}${tensors}`;
}

function printPart({ tensor, shape, index, rows, transposed, interleaved }: WeightPart): string {
  const entry = index === undefined ? '' : ` entry ${index}`;
  const taken = rows === undefined ? '' : ` rows ${rows[0]} to ${rows[1]}`;
  const order = `${transposed === true ? ' transposed' : ''}${interleaved === true ? ' interleaved' : ''}`;
  return `${tensor} [${shape.join(', ')}]${entry}${taken}${order}`;
}

function printGroup({ name, kind, window, numLayers, numKvHeads, headDim }: CacheGroup): string {
  if (kind === 'latent') return `${name}: latent, ${numLayers} layers, rows of ${headDim}`;
  if (kind === 'state') return `${name}: state, ${numLayers} layers, ${numKvHeads} heads of ${headDim}`;
  return `${name}: ${kind}${window === undefined ? '' : ` ${window}`}, ${numLayers} layers, ${numKvHeads} KV heads of ${headDim}`;
}
