/**
 * Harmony, the format of gpt-oss (github.com/openai/harmony): an output is a row of messages, each with a header that names its channel
 * (`analysis`, `commentary`, `final`) and for a call its recipient (`to=functions.name`).
 */
import type { CallSink } from './output-events.ts';
import type { OutputReader, Parsing } from './output-reader.ts';

const start = '<|start|>';
const channel = '<|channel|>';
const message = '<|message|>';
const constrain = '<|constrain|>';
const ends = ['<|end|>', '<|call|>', '<|return|>', start];

export const harmonyTags: readonly string[] = [start, channel, message, constrain, ...ends.slice(0, 3)];

export const teachesHarmony = (template: string): boolean => template.includes(channel) && template.includes('<|call|>');

/** What a parser of whole outputs works with besides the calls: where reasoning begins and ends. */
export interface ChannelContext {
  readonly reader: OutputReader;
  readonly sink: CallSink & { beginReasoning(): void; reasoning(text: string): void; endReasoning(): void };
  /** Told at the first end of reasoning, and at its first beginning. */
  onReasoning(state: 'open' | 'closed'): void;
}

/** Reads the whole output. It begins behind `<|start|>assistant`, which stands in the prompt. */
export function* parseHarmony({ reader, sink, onReasoning }: ChannelContext): Parsing<void> {
  for (;;) {
    let header = '';
    const tag = yield* reader.until([message], (text) => {
      header += text;
    });
    // markers are left out of a header's text already, tags in plain text are not
    const words = header.replaceAll(/<\|(start|channel|constrain)\|>/g, ' ');
    if (tag === null) {
      if (!/^\s*(assistant\b|to=|analysis\b|commentary\b|final\b|$)/.test(words)) sink.content(words);
      return;
    }
    const name = /to=functions\.([^\s]+?)(?=\s|$|commentary|analysis|json$)/.exec(words)?.[1];
    const isEnded = name === undefined ? yield* readText(words, reader, sink, onReasoning) : yield* readCall(name, reader, sink);
    if (!isEnded) return;
  }
}

function* readCall(name: string, reader: OutputReader, sink: CallSink): Parsing<boolean> {
  sink.start(name);
  if (yield* reader.json((text) => sink.arguments(text))) sink.end();
  return (yield* reader.until(ends, () => undefined)) !== null;
}

function* readText(header: string, reader: OutputReader, sink: ChannelContext['sink'], onReasoning: ChannelContext['onReasoning']): Parsing<boolean> {
  if (!/\banalysis\b/.test(header)) return (yield* reader.until(ends, (text) => sink.content(text))) !== null;
  sink.beginReasoning();
  onReasoning('open');
  const tag = yield* reader.until(ends, (text) => sink.reasoning(text));
  if (tag === null) return false;
  sink.endReasoning();
  onReasoning('closed');
  return true;
}
