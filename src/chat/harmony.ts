/**
 * Harmony, the format of gpt-oss (github.com/openai/harmony): an output is a row of messages, each with a header that names its channel
 * (`analysis`, `commentary`, `final`) and for a call its recipient (`to=functions.name`).
 */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { CallSink } from './output-events.ts';
import type { OutputReader, Parsing } from './output-reader.ts';
import { argumentsSchema, either, emptySyntax, json, repeat, type Syntax, type SyntaxWriter, sequence } from './output-syntax.ts';
import type { ToolDefinition } from './tool-calls/format.ts';

const start = '<|start|>';
const channel = '<|channel|>';
const message = '<|message|>';
const constrain = '<|constrain|>';
const ends = ['<|end|>', '<|call|>', '<|return|>', start];

export const harmonyTags: readonly string[] = [start, channel, message, constrain, ...ends.slice(0, 3)];

export const teachesHarmony = (template: string): boolean => template.includes(channel) && template.includes('<|call|>');

/** The tokens of the format; null for a vocabulary that lacks one. */
export function harmonyTokens(
  vocabulary: Pick<Tokenizer, 'tokenId'>,
): { start: number; channel: number; message: number; end: number; ends: ReadonlySet<number> } | null {
  const [startId, channelId, messageId, end, call, stop] = [start, channel, message, ...ends.slice(0, 3)].map((tag) => vocabulary.tokenId(tag));
  if (startId === undefined || channelId === undefined || messageId === undefined || end === undefined) return null;
  return { start: startId, channel: channelId, message: messageId, end, ends: new Set([end, call ?? end, stop ?? end]) };
}

/** What opens the next message of the same turn. */
export const nextMessage = `${ends[0]}${start}assistant`;

/** One call: a message to a function ends the turn. */
export function harmonyCalls(write: SyntaxWriter, tools: readonly ToolDefinition[]): Syntax {
  const kind = either(write.text(` ${constrain}json${message}`), write.text(message));
  return either(...tools.map((tool) => sequence(write.text(`${channel}commentary to=functions.${tool.name}`), kind, json(argumentsSchema(tool)))));
}

/**
 * A turn in messages: any number of analysis, then the answer in the channel `final`, or a call.
 * @param isOpen the prompt has opened an analysis
 */
export function harmonyTurn(
  write: SyntaxWriter,
  { answer, calls, preambles, isOpen }: { answer: Syntax | null; calls: Syntax | null; preambles: boolean; isOpen: boolean },
): Syntax {
  const rest = sequence(write.thoughts(...ends), write.text(nextMessage));
  const analysis = sequence(write.text(`${channel}analysis${message}`), rest);
  const preamble = preambles ? [sequence(write.text(`${channel}commentary${message}`), rest)] : [];
  const kind = either(write.text(message), write.text(` ${constrain}json${message}`), write.text(`${constrain}json${message}`));
  const final = answer === null ? [] : [sequence(write.text(`${channel}final`), kind, answer)];
  const last = [...final, ...(calls === null ? [] : [calls])];
  return sequence(isOpen ? rest : emptySyntax, repeat(either(analysis, ...preamble)), either(...last));
}

/** What a parser of whole outputs works with besides the calls: where reasoning begins and ends. */
export interface ChannelContext {
  readonly reader: OutputReader;
  /** The prompt has opened a message of reasoning. */
  readonly beginsInReasoning: boolean;
  readonly sink: CallSink & { beginReasoning(): void; reasoning(text: string): void; endReasoning(): void };
  /** Told at the first end of reasoning, and at its first beginning. */
  onReasoning(state: 'open' | 'closed'): void;
}

/** Reads the whole output. It begins behind `<|start|>assistant`, which stands in the prompt. */
export function* parseHarmony({ reader, sink, onReasoning, beginsInReasoning }: ChannelContext): Parsing<void> {
  if (beginsInReasoning && !(yield* readText('analysis', reader, sink, onReasoning))) return;
  for (;;) {
    let words = '';
    let tag: string | null = null;
    do {
      tag = yield* reader.until([message, start, channel, constrain], (text) => {
        words += text;
      });
      words += ' '; // a tag parts words
    } while (tag !== null && tag !== message);
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
