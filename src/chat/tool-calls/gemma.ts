import type { Parsing } from '../output-reader.ts';
import { either, repeat, type Syntax, sequence } from '../output-syntax.ts';
import type { CallContext, ToolCallFormat } from './format.ts';
import { gemmaArguments, readGemmaEntry } from './gemma-values.ts';

interface Tags {
  readonly open: string;
  readonly close: string;
  readonly quote: string;
}

/** `<start_function_call>call:name{key:<escape>text<escape>,count:3}<end_function_call>` (ai.google.dev/gemma/docs/functiongemma). */
export const functionGemma: ToolCallFormat = gemmaFormat('function-gemma', {
  open: '<start_function_call>',
  close: '<end_function_call>',
  quote: '<escape>',
});

/** `<|tool_call>call:name{key:<|"|>text<|"|>,count:3}<tool_call|>`: Gemma 4. */
export const gemma4: ToolCallFormat = gemmaFormat('gemma4', { open: '<|tool_call>', close: '<tool_call|>', quote: '<|"|>' });

function gemmaFormat(name: string, tags: Tags): ToolCallFormat {
  const { open, close, quote } = tags;
  return {
    name,
    isTaughtBy: (template) => template.includes(open),
    openTags: [open],
    tokenTags: [open, close, quote],
    callSyntax(write, tools, many) {
      const forms = tools.map((tool) => {
        const args = /[\s{}:]/.test(tool.name) ? null : gemmaArguments(write, quote, tool);
        return args === null ? null : sequence(write.text(`${open}call:${tool.name}`), args, write.text(close));
      });
      if (forms.includes(null)) return null;
      const one = either(...(forms as Syntax[]));
      return many ? sequence(one, repeat(one)) : one;
    },
    parse: (context) => parseCall(context, tags),
  };
}

/** A parameter goes out when it is whole. */
function* parseCall({ reader, sink }: CallContext, { open, close, quote }: Tags): Parsing<void> {
  reader.record();
  const head = yield* reader.textUntil(['{', close]);
  const text = reader.recorded();
  const name = /^\s*call\s*:\s*(\S+)\s*$/.exec(head?.text ?? '')?.[1];
  if (name === undefined || head?.tag !== '{') return sink.content(open + text);
  sink.start(name);
  let count = 0;
  while (!(yield* reader.accept('}'))) {
    if (count > 0 && !(yield* reader.accept(','))) return;
    const entry = yield* readGemmaEntry(reader, quote);
    if (entry === null) return;
    sink.arguments(`${count++ === 0 ? '{' : ', '}${JSON.stringify(entry[0])}: ${JSON.stringify(entry[1])}`);
  }
  sink.arguments(count === 0 ? '{}' : '}');
  sink.end();
  yield* reader.until([close], () => undefined);
}
