/**
 * The form of outputs as a grammar: what a format's parser reads, said in the words of structural tags, so that a request can hold a model to it.
 * A tag that is one token of the vocabulary is named by its token; any other is text.
 */

/** A node of a structural tag's `format` (see docs/structured-output.md), as plain data. */
export type Syntax = Readonly<Record<string, unknown>>;

type JsonSchema = Readonly<Record<string, unknown>>;

export const emptySyntax: Syntax = { type: 'const_string', value: '' };

export class SyntaxWriter {
  readonly #tokens: ReadonlyMap<string, number>;
  readonly #splitter: RegExp | null;

  /** @param tokens tags that are tokens, with their ids */
  constructor(tokens: ReadonlyMap<string, number>) {
    this.#tokens = tokens;
    const spellings = [...tokens.keys()].sort((a, b) => b.length - a.length).map((tag) => tag.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
    this.#splitter = spellings.length === 0 ? null : new RegExp(`(${spellings.join('|')})`);
  }

  isToken(tag: string): boolean {
    return this.#tokens.has(tag);
  }

  /** Exactly this, its tags as tokens. */
  text(text: string): Syntax {
    const parts = this.#splitter === null ? [text] : text.split(this.#splitter);
    const written = parts
      .filter((part) => part !== '')
      .map((part): Syntax => {
        const id = this.#tokens.get(part);
        return id === undefined ? { type: 'const_string', value: part } : { type: 'token', id };
      });
    return sequence(...written);
  }

  /** Reasoning: as `free`, and it may be ended anywhere, inside of a character too. */
  thoughts(...without: readonly string[]): Syntax {
    return { ...this.free(...without), type: 'any_bytes' };
  }

  /** Any text without tag tokens and without these tags where they are text. */
  free(...without: readonly string[]): Syntax {
    return { type: 'any_text', excludes: without.filter((tag) => !this.#tokens.has(tag)) };
  }
}

export function sequence(...elements: readonly Syntax[]): Syntax {
  if (elements.length === 1) return elements[0] ?? emptySyntax;
  return elements.length === 0 ? emptySyntax : { type: 'sequence', elements };
}

export function either(...elements: readonly Syntax[]): Syntax {
  return elements.length === 1 ? (elements[0] ?? emptySyntax) : { type: 'or', elements };
}

export const optional = (element: Syntax): Syntax => either(element, emptySyntax);
export const repeat = (element: Syntax): Syntax => ({ type: 'repeat', element });
export const pattern = (text: string): Syntax => ({ type: 'regex', pattern: text });
export const json = (schema: unknown): Syntax => ({ type: 'json_schema', json_schema: schema });

/** One, or with `many` any number of them with `between` between. */
export function row(one: Syntax, between: Syntax, many: boolean): Syntax {
  return many ? sequence(one, repeat(sequence(between, one))) : one;
}

/** Arguments are an object, whether the schema says so or not. */
export function argumentsSchema({ parameters = {} }: { readonly parameters?: JsonSchema }): JsonSchema {
  return 'type' in parameters || '$ref' in parameters ? parameters : { ...parameters, type: 'object' };
}
