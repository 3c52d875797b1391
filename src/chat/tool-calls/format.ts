import type { ChannelContext } from '../harmony.ts';
import type { CallSink } from '../output-events.ts';
import type { OutputReader, Parsing } from '../output-reader.ts';
import type { Syntax, SyntaxWriter } from '../output-syntax.ts';

/** A tool of the request, as far as formats need to know it. */
export interface ToolDefinition {
  readonly name: string;
  /** JSON Schema of the arguments. */
  readonly parameters?: Readonly<Record<string, unknown>>;
}

/** What a parser of calls works with. */
export interface CallContext {
  readonly reader: OutputReader;
  readonly sink: CallSink;
  /** By name. */
  readonly tools: ReadonlyMap<string, ToolDefinition>;
}

/** One way of writing tool calls: a file in this folder, a row in `index.ts`. */
export interface ToolCallFormat {
  readonly name: string;
  /** Whether a chat template teaches this format, by its text. */
  isTaughtBy(template: string): boolean;
  /** Tags that begin a call, or a list of calls. */
  readonly openTags: readonly string[];
  /** All tags that may have a token of their own in the vocabulary; such a tag is then known by its token only. */
  readonly tokenTags: readonly string[];
  /** Reads on behind an opening tag, to the end of the call or the list. */
  parse(context: CallContext, openTag: string): Parsing<void>;
  /** Tried where the answer begins, for formats without a tag. Gives text that is no call back to the sink. */
  parseStart?(context: CallContext): Parsing<void>;
  /** Reads the whole output, its reasoning too, for formats in which all of it stands in messages of their own. */
  parseOutput?(context: ChannelContext): Parsing<void>;
  /**
   * Calls of these tools as a grammar: one, or with `many` any number from one on, as `parse` and its kin read them.
   * @returns null where this format cannot hold a model to the schema of one of the tools
   */
  callSyntax(write: SyntaxWriter, tools: readonly ToolDefinition[], many: boolean): Syntax | null;
  /** Calls may begin with this character where the answer begins, without a tag. */
  readonly bareStart?: '{' | '[';
  /** A whole answer in JSON could be taken for a call, or a call for one. */
  readonly looksLikeJson?: boolean;
  /** An id for a call, in the form that the template wants back; without it, `call_` and 24 letters and digits. */
  readonly idLength?: number;
}
