import { MillraceError } from '../../base/errors.ts';
import type { ChatTemplateOptions } from '../../chat/messages.ts';
import type { ToolDefinition } from '../../chat/tool-calls/format.ts';
import { noTools, type ToolUse } from '../choice-output.ts';
import type { ChatCompletionBody } from './schemas.ts';
import { notSupported } from './unsupported.ts';

/** What a chat may call, and what it must. @throws REQUEST_INVALID, NOT_SUPPORTED */
export function readToolUse({ tools, tool_choice: given, parallel_tool_calls: allowsMany }: ChatCompletionBody): ToolUse {
  const definitions = (tools ?? []).map(({ function: { name, parameters } }): ToolDefinition => ({ name, ...(parameters ? { parameters } : {}) }));
  const isStrict = (tools ?? []).some(({ function: { strict } }) => strict === true);
  const choice = given ?? 'auto';
  if (choice === 'none') return noTools;
  const use = { tools: definitions, allowsMany: allowsMany ?? true, forced: null, isStrict };
  if (choice === 'auto') return use;
  if (choice !== 'required' && typeof choice !== 'object') throw invalidChoice('"none", "auto", "required" or a function');
  if (definitions.length === 0) throw invalidChoice('tools to choose from');
  if (choice === 'required') return { ...use, forced: definitions };
  const name = nameOf(choice);
  const chosen = definitions.find((tool) => tool.name === name);
  if (chosen === undefined) throw invalidChoice('the name of one of the tools');
  return { ...use, forced: [chosen], isNamed: true, allowsMany: false };
}

function nameOf(choice: object): unknown {
  if ('type' in choice && choice.type !== 'function')
    throw notSupported('tool_choice', `A tool_choice of type ${JSON.stringify(choice.type)?.slice(0, 64)}`);
  const target: unknown = 'function' in choice ? choice.function : null;
  return typeof target === 'object' && target !== null && 'name' in target ? target.name : undefined;
}

function invalidChoice(expected: string): MillraceError {
  return new MillraceError('REQUEST_INVALID', { message: 'The field tool_choice has a value that it cannot take.', expected, param: 'tool_choice' });
}

/** Tools that may not be called are not shown to the model either. */
export function offered({ tools }: ToolUse, given: ChatCompletionBody['tools']): Pick<ChatTemplateOptions, 'tools'> {
  return tools.length === 0 || !given ? {} : { tools: given };
}
