import type { Parsing } from '../output-reader.ts';
import { either, row, type Syntax, sequence } from '../output-syntax.ts';
import type { CallContext, ToolCallFormat } from './format.ts';
import { readPythonCalls } from './python-calls.ts';
import { pythonCall } from './python-syntax.ts';

const open = '<|tool_call_start|>';
const close = '<|tool_call_end|>';
const python = '<|python_start|>';
const pythonEnd = '<|python_end|>';

/** `[name(key="value", other=1), ...]`: Llama 3.2 and 4 as the whole answer, LFM2 in tags. */
export const pythonic: ToolCallFormat = {
  name: 'pythonic',
  isTaughtBy: (template) => template.includes(open) || template.includes('[func_name1(params_name1=params_value1'),
  openTags: [open, python],
  tokenTags: [open, close, python, pythonEnd],
  callSyntax(write, tools, many) {
    const calls = tools.map((tool) => pythonCall(write, tool));
    if (calls.includes(null)) return null;
    const [before, after] = write.isToken(open) ? [open, close] : write.isToken(python) ? [python, pythonEnd] : ['', ''];
    return sequence(write.text(`${before}[`), row(either(...(calls as Syntax[])), write.text(', '), many), write.text(`]${after}`));
  },
  bareStart: '[',
  *parse(context, openTag) {
    const text = yield* read(context, [openTag === open ? close : pythonEnd]);
    if (!report(text, context, false)) context.sink.content(text);
  },
  *parseStart(context) {
    if ((yield* context.reader.peekPastSpace()) !== '[') return;
    const text = yield* read(context, [pythonEnd]);
    if (!report(text, context, true)) context.sink.content(text);
  },
};

function* read({ reader }: CallContext, tags: readonly string[]): Parsing<string> {
  let text = '';
  yield* reader.until(tags, (piece) => {
    text += piece;
  });
  return text;
}

/** @param isStrict take only calls of tools of the request for calls: anything else is a list that somebody asked for */
function report(text: string, { sink, tools }: CallContext, isStrict: boolean): boolean {
  const calls = readPythonCalls(text);
  if (calls === null || calls.length === 0 || (isStrict && !calls.every(({ name }) => tools.has(name)))) return false;
  for (const call of calls) {
    sink.start(call.name);
    sink.arguments(JSON.stringify(call.arguments));
    sink.end();
  }
  return true;
}
