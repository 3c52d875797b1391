/** What a model's output consists of, apart from its spelling in the model's own format. */
export type OutputEvent =
  | { readonly type: 'content'; readonly text: string }
  | { readonly type: 'reasoning'; readonly text: string }
  /** A call begins; `index` counts the calls of one output from 0. */
  | { readonly type: 'toolCallStart'; readonly index: number; readonly id: string; readonly name: string }
  /** A piece of the arguments; the pieces of one call, joined, are its JSON. */
  | { readonly type: 'toolCallArguments'; readonly index: number; readonly text: string }
  /** The call is complete: its arguments are whole. */
  | { readonly type: 'toolCallEnd'; readonly index: number };

/** Where parsers of tool calls write what they find. */
export interface CallSink {
  start(name: string): void;
  arguments(text: string): void;
  end(): void;
  /** Text that turned out not to be a call. */
  content(text: string): void;
}
