/**
 * The state of one rendering: its output and its bounds. A template comes with a model from a stranger: it may loop without end or
 * double a string until memory is gone. So every loop of the interpreter and of its built-ins counts steps here, work on long strings
 * and lists counts by their length, and everything that makes one asks for room first.
 */
import { TemplateTooLarge } from './errors.ts';

/** Steps of one rendering. Thousands of messages need some hundred thousand, with a template that looks through all of them for each ten million. */
export const maxSteps = 20_000_000;
/** Steps cost differently, so time is bounded as well. */
export const maxRenderingMs = 2000;
/** Longest string that may arise, in UTF-16 units: the prompt or a part of it. */
export const maxTextLength = 1 << 22;
/** Longest list that may arise. */
export const maxItems = 1 << 20;
/** Macros, callers and recursive loops inside each other. */
export const maxCallDepth = 150;

const stepsBetweenClocks = 1024;

export class Runtime {
  /** What has been written so far, or since the innermost `capture`. */
  out = '';
  readonly #now: () => number;
  readonly #deadlineMs: number;
  #steps = 0;
  #checkAt = stepsBetweenClocks;
  #depth = 0;

  /** @param nowMs a monotonic clock */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#now = nowMs;
    this.#deadlineMs = nowMs() + maxRenderingMs;
  }

  /** Counts work. @throws TemplateTooLarge */
  step(cost = 1): void {
    this.#steps += cost;
    if (this.#steps >= this.#checkAt) this.#check();
  }

  #check(): void {
    if (this.#steps > maxSteps) throw new TemplateTooLarge(`it needs more than ${maxSteps} steps`);
    if (this.#now() > this.#deadlineMs) throw new TemplateTooLarge(`it takes longer than ${maxRenderingMs} ms`);
    this.#checkAt = this.#steps + stepsBetweenClocks;
  }

  /** Counts work over a string. */
  scan(length: number): void {
    this.step(1 + (length >> 3));
  }

  /** Asks for a string of this length and counts the work to make it. */
  room(length: number): void {
    if (!(length <= maxTextLength)) throw new TemplateTooLarge(`it makes a text of more than ${maxTextLength} characters`);
    this.step(1 + (length >> 3));
  }

  /** Asks for a list of this length and counts the work to make it. */
  roomForItems(length: number): void {
    if (!(length <= maxItems)) throw new TemplateTooLarge(`it makes a list of more than ${maxItems} items`);
    this.step(1 + length);
  }

  /** Counts one more item of a list that grows to this length. */
  grow(length: number): void {
    if (length > maxItems) this.roomForItems(length);
    this.step();
  }

  /** Counts work that copies a string once, such as reading one that was put together from many. */
  touch(length: number): void {
    this.step(1 + (length >> 10));
  }

  write(text: string): void {
    const length = this.out.length + text.length;
    if (length > maxTextLength) this.room(length);
    this.out += text;
  }

  /** What `body` writes, as a string. */
  capture(body: () => unknown): string {
    const before = this.out;
    this.out = '';
    body();
    const written = this.out;
    this.out = before;
    return written;
  }

  /** Runs something that may run itself again. */
  nested<T>(body: () => T): T {
    if (++this.#depth > maxCallDepth) throw new TemplateTooLarge(`it nests more than ${maxCallDepth} calls`);
    const result = body();
    this.#depth--;
    return result;
  }
}
