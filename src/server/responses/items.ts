import type { OutputEvent } from '../../chat/output-events.ts';
import type { ChatTokenLogprob } from '../openai/logprobs.ts';

/** A token of a text, as a part of a message reports it. */
export type PartLogprob = ChatTokenLogprob & { readonly top_logprobs: readonly ChatTokenLogprob[] };

interface Status {
  readonly id: string;
  status: 'in_progress' | 'completed' | 'incomplete';
}

interface Part {
  readonly type: 'output_text' | 'reasoning_text';
  text: string;
  readonly annotations?: readonly never[];
  readonly logprobs?: PartLogprob[];
}

export type Item =
  | (Status & { readonly type: 'message'; readonly role: 'assistant'; content: Part[] })
  | (Status & { readonly type: 'reasoning'; readonly summary: readonly never[]; content: Part[] })
  | (Status & { readonly type: 'function_call'; readonly call_id: string; readonly name: string; arguments: string });

/** The items of one answer as they grow, and the events that tell of it. */
export class OutputItems {
  readonly items: Item[] = [];
  readonly #responseId: string;
  #isOpen = false;

  constructor(responseId: string) {
    this.#responseId = responseId;
  }

  /**
   * @param logprobs of the tokens that a text of the answer consists of
   * @returns the events of the stream, their sequence numbers still missing
   */
  write(event: OutputEvent, logprobs: readonly PartLogprob[] = []): object[] {
    switch (event.type) {
      case 'content':
        return this.#text('message', event.text, logprobs);
      case 'reasoning':
        return this.#text('reasoning', event.text, []);
      case 'toolCallStart': {
        const { id, name } = event;
        const closed = this.close('completed');
        const added = this.#add({ type: 'function_call', ...this.#status('fc'), call_id: id, name, arguments: '' });
        return [...closed, ...added];
      }
      case 'toolCallArguments': {
        const item = this.items.at(-1);
        if (item?.type !== 'function_call') return [];
        item.arguments += event.text;
        return [{ type: 'response.function_call_arguments.delta', ...this.#place(item), delta: event.text }];
      }
      case 'toolCallEnd':
        return this.close('completed');
    }
  }

  /** Ends the last item, if it is open. */
  close(status: 'completed' | 'incomplete'): object[] {
    const item = this.items.at(-1);
    if (!this.#isOpen || item === undefined) return [];
    this.#isOpen = false;
    item.status = status;
    const place = this.#place(item);
    const done = { type: 'response.output_item.done', output_index: place.output_index, item: structuredClone(item) };
    if (item.type === 'function_call') {
      return [{ type: 'response.function_call_arguments.done', ...place, name: item.name, arguments: item.arguments }, done];
    }
    const [part] = item.content;
    if (part === undefined) return [done];
    return [
      {
        type: `response.${part.type}.done`,
        ...place,
        content_index: 0,
        text: part.text,
        ...(part.logprobs === undefined ? {} : { logprobs: part.logprobs }),
      },
      { type: 'response.content_part.done', ...place, content_index: 0, part: structuredClone(part) },
      done,
    ];
  }

  #text(type: 'message' | 'reasoning', text: string, logprobs: readonly PartLogprob[]): object[] {
    const events: object[] = [];
    if (!this.#isOpen || this.items.at(-1)?.type !== type) events.push(...this.close('completed'), ...this.#openText(type));
    const item = this.items.at(-1);
    const part = item === undefined || item.type === 'function_call' ? undefined : item.content[0];
    if (item === undefined || part === undefined) return events;
    part.text += text;
    part.logprobs?.push(...logprobs);
    const extra = part.logprobs === undefined ? {} : { logprobs };
    events.push({ type: `response.${part.type}.delta`, ...this.#place(item), content_index: 0, delta: text, ...extra });
    return events;
  }

  #openText(type: 'message' | 'reasoning'): object[] {
    const part: Part = type === 'message' ? { type: 'output_text', text: '', annotations: [], logprobs: [] } : { type: 'reasoning_text', text: '' };
    const item: Item =
      type === 'message'
        ? { type, ...this.#status('msg'), role: 'assistant', content: [] }
        : { type, ...this.#status('rs'), summary: [], content: [] };
    const added = this.#add(item);
    item.content.push(part);
    return [...added, { type: 'response.content_part.added', ...this.#place(item), content_index: 0, part: structuredClone(part) }];
  }

  #add(item: Item): object[] {
    this.items.push(item);
    this.#isOpen = true;
    return [{ type: 'response.output_item.added', output_index: this.items.length - 1, item: structuredClone(item) }];
  }

  #status(prefix: string): Status {
    return { id: `${prefix}_${this.#responseId}_${this.items.length}`, status: 'in_progress' };
  }

  #place(item: Item): { item_id: string; output_index: number } {
    return { item_id: item.id, output_index: this.items.length - 1 };
  }
}
