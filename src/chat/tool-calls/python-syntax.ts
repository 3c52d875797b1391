/** Calls with keyword arguments as a grammar, as `python-calls.ts` reads them. */
import { either, emptySyntax, json, optional, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { ToolDefinition } from './format.ts';
import { type ParameterSyntax, parametersOf, typesOf } from './parameter-syntax.ts';

const identifier = /^[^\s()[\]{},="'#]+$/;
/** Where so many optional parameters could come first, each with all behind it, the grammar grows by the square. */
const MAX_FIRST = 12;

/** @returns null where a tool's arguments are more than a list of properties */
export function pythonCall(write: SyntaxWriter, tool: ToolDefinition): Syntax | null {
  const given = parametersOf(tool);
  if (given === null || !identifier.test(tool.name) || given.some(({ name }) => !identifier.test(name))) return null;
  const args = separated(
    given.map((parameter) => ({
      element: sequence(write.text(`${parameter.name}=`), pythonValue(write, parameter)),
      isRequired: parameter.isRequired,
    })),
    write.text(', '),
  );
  return args === null ? null : sequence(write.text(`${tool.name}(`), args, write.text(')'));
}

/** JSON is read as well as Python, so only what stands alone is written as Python writes it. */
function pythonValue(write: SyntaxWriter, { schema, rooted }: ParameterSyntax): Syntax {
  const types = typesOf(schema);
  const isPlain = !['enum', 'const', 'anyOf', 'oneOf', 'not', '$ref', 'if'].some((word) => word in schema);
  if (!isPlain || types.length !== 1) return json(rooted);
  if (types[0] === 'boolean') return either(write.text('True'), write.text('False'));
  return types[0] === 'null' ? write.text('None') : json(rooted);
}

/** Elements in their order, those that are not required left out at will, and a separator between those that are there. */
export function separated(elements: readonly { readonly element: Syntax; readonly isRequired: boolean }[], between: Syntax): Syntax | null {
  const firstRequired = elements.findIndex(({ isRequired }) => isRequired);
  const numFirst = firstRequired < 0 ? elements.length : firstRequired + 1;
  if (numFirst > MAX_FIRST) return null;
  const behind = (from: number) =>
    elements.slice(from).map(({ element, isRequired }) => (isRequired ? sequence(between, element) : optional(sequence(between, element))));
  const forms = elements.slice(0, numFirst).map(({ element }, first) => sequence(element, ...behind(first + 1)));
  return firstRequired < 0 ? either(...forms, emptySyntax) : either(...forms);
}
