import { either, row, type Syntax, sequence } from '../output-syntax.ts';
import type { ToolCallFormat } from './format.ts';
import { readPythonCalls } from './python-calls.ts';
import { pythonCall } from './python-syntax.ts';

const open = '```tool_code';
const close = '```';

/** Calls as Python in a fenced block, one a line: what Google's documents of Gemma 3 prompt for. */
export const toolCode: ToolCallFormat = {
  name: 'tool-code',
  isTaughtBy: (template) => template.includes('tool_code'),
  openTags: [open],
  tokenTags: [],
  callSyntax(write, tools, many) {
    const calls = tools.map((tool) => pythonCall(write, tool));
    if (calls.includes(null)) return null;
    return sequence(write.text(`${open}\n`), row(either(...(calls as Syntax[])), write.text('\n'), many), write.text(`\n${close}`));
  },
  *parse({ reader, sink }) {
    const block = yield* reader.textUntil([`\n${close}`]);
    if (block === null) return; // cut off: half a program is no call
    const calls = readPythonCalls(asList(block.text));
    if (calls === null || calls.length === 0) return sink.content(`${open}${block.text}\n${close}`);
    for (const call of calls) {
      sink.start(call.name);
      sink.arguments(JSON.stringify(call.arguments));
      sink.end();
    }
  },
};

/** Lines of calls, in `print(...)` or not, as one list. */
function asList(block: string): string {
  const text = block.trim();
  if (text.startsWith('[')) return text;
  const lines = text.split('\n').map((line) => line.trim());
  const calls = lines.filter((line) => line !== '').map((line) => /^print\((.*)\)$/.exec(line)?.[1] ?? line);
  return `[${calls.join(', ')}]`;
}
