import type { LanguageModelV4StreamPart } from '@ai-sdk/provider';
import type { OutputEvent } from '../chat/output-events.ts';

type Open =
  | { readonly type: 'text' | 'reasoning'; readonly id: string }
  | { readonly type: 'tool'; readonly id: string; readonly name: string; input: string };

/** Events of an answer as the parts of an AI SDK stream: what begins is ended before something else begins. */
export class PartWriter {
  #open: Open | null = null;
  #count = 0;

  *write(event: OutputEvent): Generator<LanguageModelV4StreamPart> {
    switch (event.type) {
      case 'content':
        yield* this.#text('text', event.text);
        break;
      case 'reasoning':
        yield* this.#text('reasoning', event.text);
        break;
      case 'toolCallStart':
        yield* this.end();
        this.#open = { type: 'tool', id: event.id, name: event.name, input: '' };
        yield { type: 'tool-input-start', id: event.id, toolName: event.name };
        break;
      case 'toolCallArguments':
        if (this.#open?.type !== 'tool') return;
        this.#open.input += event.text;
        yield { type: 'tool-input-delta', id: this.#open.id, delta: event.text };
        break;
      case 'toolCallEnd':
        yield* this.end();
    }
  }

  /** Ends what is open. */
  *end(): Generator<LanguageModelV4StreamPart> {
    const open = this.#open;
    this.#open = null;
    if (open === null) return;
    if (open.type !== 'tool') yield { type: `${open.type}-end`, id: open.id };
    else {
      yield { type: 'tool-input-end', id: open.id };
      yield { type: 'tool-call', toolCallId: open.id, toolName: open.name, input: open.input };
    }
  }

  *#text(type: 'text' | 'reasoning', delta: string): Generator<LanguageModelV4StreamPart> {
    if (this.#open?.type !== type) {
      yield* this.end();
      this.#open = { type, id: String(this.#count++) };
      yield { type: `${type}-start`, id: this.#open.id };
    }
    yield { type: `${type}-delta`, id: this.#open.id, delta };
  }
}
