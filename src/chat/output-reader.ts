/** Unread output of a model, as parsers written in one piece read it: a parser is a generator that yields when it needs more. */
import { JsonScanner } from './json-scanner.ts';

/** A parser that returns a `T`; resumed whenever there is more to read, or the end. */
export type Parsing<T> = Generator<undefined, T, undefined>;

/** A token that stands for a tag of the format, such as `<tool_call>`. */
export interface Marker {
  readonly spelling: string;
  /** Special tokens are not shown when they stand where they mean nothing. */
  readonly isSpecial: boolean;
}

export class OutputReader {
  /** Head first; two texts never follow each other. */
  readonly #unread: (string | Marker)[] = [];
  /** Tags that only a token can be: their spelling in text is text. */
  readonly #tokenTags: ReadonlySet<string>;
  #isEnded = false;
  #numBytes = 0;
  #numMarkers = 0;
  #recorded: string | null = null;

  constructor(tokenTags: ReadonlySet<string> = new Set()) {
    this.#tokenTags = tokenTags;
  }

  // --- the writer's side ---

  addText(text: string): void {
    if (text === '') return;
    const last = this.#unread.length - 1;
    const tail = this.#unread[last];
    if (typeof tail === 'string') this.#unread[last] = tail + text;
    else this.#unread.push(text);
  }

  addMarker(marker: Marker): void {
    this.#unread.push(marker);
  }

  end(): void {
    this.#isEnded = true;
  }

  // --- the parser's side ---

  /**
   * Reads up to and past the first of these tags; text before it goes to `onText` as soon as it cannot be a part of a tag.
   * @returns the tag, or null at the end of the output
   */
  *until(tags: readonly string[], onText: (text: string) => void): Parsing<string | null> {
    const textTags = tags.filter((tag) => !this.#tokenTags.has(tag));
    for (;;) {
      const head = this.#unread[0];
      if (head === undefined) {
        if (this.#isEnded) return null;
        yield;
      } else if (typeof head !== 'string') {
        this.#dropMarker();
        if (tags.includes(head.spelling)) return head.spelling;
        if (!head.isSpecial) onText(head.spelling);
      } else {
        const found = firstTag(head, textTags);
        if (found !== null) {
          if (found.at > 0) onText(head.slice(0, found.at));
          this.#dropText(found.at + found.tag.length);
          return found.tag;
        }
        const canGrow = this.#unread.length === 1 && !this.#isEnded;
        const end = head.length - (canGrow ? unfinishedTag(head, textTags) : 0);
        if (end > 0) {
          onText(head.slice(0, end));
          this.#dropText(end);
        } else yield;
      }
    }
  }

  /** Text up to a tag, as `until`, in one string; null when the output ends before it. */
  *textUntil(tags: readonly string[]): Parsing<{ text: string; tag: string } | null> {
    let text = '';
    const tag = yield* this.until(tags, (piece) => {
      text += piece;
    });
    return tag === null ? null : { text, tag };
  }

  /** The next character (a UTF-16 unit) that is not white space, not consumed; null where a marker or the end comes first. */
  *peekPastSpace(): Parsing<string | null> {
    for (;;) {
      const head = this.#unread[0];
      if (head === undefined) {
        if (this.#isEnded) return null;
        yield;
      } else if (typeof head !== 'string') return null;
      else {
        const at = head.search(/\S/);
        this.#dropText(at < 0 ? head.length : at);
        if (at >= 0) return head[at] ?? null;
      }
    }
  }

  /** Consumes this character when it comes next, after white space. */
  *accept(character: string): Parsing<boolean> {
    if ((yield* this.peekPastSpace()) !== character) return false;
    this.#dropText(1);
    return true;
  }

  /** Consumes this tag when it comes next, after white space, as a token or in text. */
  *acceptTag(tag: string): Parsing<boolean> {
    if ((yield* this.peekPastSpace()) === null) {
      const head = this.#unread[0];
      if (typeof head !== 'object' || head.spelling !== tag) return false;
      this.#dropMarker();
      return true;
    }
    if (this.#tokenTags.has(tag)) return false;
    for (;;) {
      const head = this.#unread[0];
      if (typeof head !== 'string') return false;
      if (head.startsWith(tag)) {
        this.#dropText(tag.length);
        return true;
      }
      if (!tag.startsWith(head) || this.#unread.length > 1 || this.#isEnded) return false;
      yield;
    }
  }

  /**
   * Reads one JSON value, after white space, and hands out its text as it comes.
   * @returns false when the output ends, or cannot be JSON, before the value is whole
   */
  *json(onText: (text: string) => void): Parsing<boolean> {
    if ((yield* this.peekPastSpace()) === null) return false;
    const scanner = new JsonScanner();
    for (;;) {
      const head = this.#unread[0];
      if (head === undefined) {
        if (this.#isEnded) return scanner.end();
        yield;
      } else if (typeof head !== 'string') {
        // In a string a tag is text that happens to have a token of its own.
        if (!scanner.isInString) return scanner.end();
        this.#spellHead(head);
      } else {
        const text = scanner.push(head);
        if (text !== '') onText(text);
        this.#dropText(scanner.numUsed);
        if (scanner.state !== 'open') return scanner.state === 'whole';
      }
    }
  }

  /** One JSON value in one string, or null. */
  *jsonText(): Parsing<string | null> {
    let text = '';
    const isWhole = yield* this.json((piece) => {
      text += piece;
    });
    return isWhole ? text : null;
  }

  /** What was consumed until now: UTF-8 bytes of text, and markers. */
  get consumed(): { numBytes: number; numMarkers: number } {
    return { numBytes: this.#numBytes, numMarkers: this.#numMarkers };
  }

  /** Puts text back in front of the rest. */
  unread(text: string): void {
    const head = this.#unread[0];
    if (typeof head === 'string') this.#unread[0] = text + head;
    else this.#unread.unshift(text);
  }

  /** From here on, what is consumed is remembered, until `recorded` is called. */
  record(): void {
    this.#recorded = '';
  }

  /** What was consumed since `record`; special tokens left out. */
  recorded(): string {
    const text = this.#recorded ?? '';
    this.#recorded = null;
    return text;
  }

  #dropText(length: number): void {
    const head = this.#unread[0];
    if (typeof head !== 'string') return;
    const dropped = head.slice(0, length);
    this.#numBytes += Buffer.byteLength(dropped);
    if (this.#recorded !== null) this.#recorded += dropped;
    if (length >= head.length) this.#unread.shift();
    else this.#unread[0] = head.slice(length);
  }

  #dropMarker(): void {
    const head = this.#unread.shift();
    this.#numMarkers++;
    if (this.#recorded !== null && typeof head === 'object' && !head.isSpecial) this.#recorded += head.spelling;
  }

  #spellHead({ spelling }: Marker): void {
    this.#unread.shift();
    this.unread(spelling);
  }
}

/** The earliest tag in a text; of two at one place, the longer. */
function firstTag(text: string, tags: readonly string[]): { at: number; tag: string } | null {
  let first: { at: number; tag: string } | null = null;
  for (const tag of tags) {
    const at = text.indexOf(tag);
    if (at < 0) continue;
    if (first === null || at < first.at || (at === first.at && tag.length > first.tag.length)) first = { at, tag };
  }
  return first;
}

/** Characters at the end of a text that may be the beginning of a tag. */
function unfinishedTag(text: string, tags: readonly string[]): number {
  let most = 0;
  for (const tag of tags) {
    for (let length = Math.min(tag.length - 1, text.length); length > most; length--) {
      if (!text.endsWith(tag.slice(0, length))) continue;
      most = length;
      break;
    }
  }
  return most;
}
