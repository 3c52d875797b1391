/**
 * The spelling of JSON that is generated: no white space but at most one space after `:` and `,` (none with `compact`), numbers of bounded length,
 * strings in UTF-8 with every escape that JSON knows but half surrogates.
 */
import { type CodePointSet, codePoints, complement, includesAll, intersection, plainCodePoints } from './code-points.ts';
import { characters, choice, type Expression, literal, literals, optional, repeat, ruleRef, sequence } from './expression.ts';
import type { GrammarBuilder } from './grammar.ts';

export interface JsonSpelling {
  /** No white space at all. */
  readonly compact: boolean;
}

const escaped = codePoints([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]);
/** Stand for themselves between quotes. */
const plainInJson = complement(escaped);
const shortEscapes: Readonly<Record<number, string>> = { 8: '\\b', 9: '\\t', 10: '\\n', 12: '\\f', 13: '\\r', 34: '\\"', 92: '\\\\' };

const digit = characters(codePoints([[0x30, 0x39]]));
const digitOneToNine = characters(codePoints([[0x31, 0x39]]));
const hex = characters(
  codePoints([
    [0x30, 0x39],
    [0x41, 0x46],
    [0x61, 0x66],
  ]),
);
const hexBut = (set: CodePointSet) =>
  characters(
    intersection(
      codePoints([
        [0x30, 0x39],
        [0x41, 0x46],
        [0x61, 0x66],
      ]),
      set,
    ),
  );

/** One character of a string in any spelling, a surrogate pair counting as one. */
function jsonCharacter(): Expression {
  const d = codePoints([
    [0x44, 0x44],
    [0x64, 0x64],
  ]);
  const lowDigits = codePoints([[0x30, 0x37]]);
  const notD = hexBut(complement(d));
  const pair = sequence(
    characters(d),
    characters(
      codePoints([
        [0x38, 0x39],
        [0x41, 0x42],
        [0x61, 0x62],
      ]),
    ),
    repeat(hex, 2, 2),
    literal('\\u'),
    characters(d),
    characters(
      codePoints([
        [0x43, 0x46],
        [0x63, 0x66],
      ]),
    ),
    repeat(hex, 2, 2),
  );
  const unit = choice(sequence(notD, repeat(hex, 3, 3)), sequence(characters(d), characters(lowDigits), repeat(hex, 2, 2)), pair);
  return choice(characters(plainInJson), literals(['\\"', '\\\\', '\\/', '\\b', '\\f', '\\n', '\\r', '\\t']), sequence(literal('\\u'), unit));
}

/** Controls and all beyond ASCII. */
const commonInJson = codePoints([
  [0, 0x1f],
  [0x80, 0x10ffff],
]);

function spelled(set: CodePointSet): Expression {
  const inner: string[] = [];
  for (const [lo, hi] of intersection(set, escaped)) {
    for (let code = lo; code <= hi; code++) inner.push(shortEscapes[code] ?? `\\u${code.toString(16).padStart(4, '0')}`);
  }
  const plain = characters(intersection(set, plainInJson));
  return inner.length === 0 ? plain : choice(plain, literals(inner));
}

/** Rules of JSON itself, made when first used. */
export class JsonText {
  readonly #builder: GrammarBuilder;
  readonly comma: Expression;
  readonly colon: Expression;
  #character: Expression | null = null;
  #string: Expression | null = null;
  #common: Expression | null = null;
  #value: Expression | null = null;
  #object: Expression | null = null;

  constructor(builder: GrammarBuilder, { compact }: JsonSpelling) {
    this.#builder = builder;
    this.comma = compact ? literal(',') : sequence(literal(','), { kind: 'spacing', place: 1 });
    this.colon = compact ? literal(':') : sequence(literal(':'), { kind: 'spacing', place: 0 });
  }

  get character(): Expression {
    this.#character ??= ruleRef(this.#builder.addRule('JSON character', jsonCharacter()));
    return this.#character;
  }

  get string(): Expression {
    this.#string ??= ruleRef(this.#builder.addRule('JSON string', this.stringOf(0, Number.POSITIVE_INFINITY)));
    return this.#string;
  }

  /** Members of a set as `JSON.stringify` writes them inside a string: one spelling each. What most sets hold is one shared rule. */
  spell(set: CodePointSet): Expression {
    if (!includesAll(set, commonInJson)) return spelled(set);
    this.#common ??= ruleRef(this.#builder.addRule('JSON controls and other scripts', spelled(commonInJson)));
    const alternatives = [spelled(intersection(set, complement(commonInJson))), this.#common];
    return { kind: 'choice', alternatives, isPlain: includesAll(set, plainCodePoints) };
  }

  /** A string of so many characters. */
  stringOf(min: number, max: number): Expression {
    const quote = literal('"');
    // an unbounded loop over the characters themselves is what masks recognise
    const body = max === Number.POSITIVE_INFINITY && min <= 1 ? jsonCharacter() : this.character;
    return sequence(quote, repeat(body, min, max), quote);
  }

  /** Any value. */
  get value(): Expression {
    if (this.#value === null) {
      const rule = this.#builder.addRule('JSON value');
      this.#value = ruleRef(rule);
      this.#builder.define(rule, choice(this.string, number, literals(['true', 'false', 'null']), this.object, this.arrayOf(this.#value)));
    }
    return this.#value;
  }

  /** Any object. */
  get object(): Expression {
    if (this.#object === null) {
      const rule = this.#builder.addRule('JSON object');
      this.#object = ruleRef(rule);
      const member = sequence(this.string, this.colon, this.value);
      this.#builder.define(rule, sequence(literal('{'), optional(this.listOf(member)), literal('}')));
    }
    return this.#object;
  }

  /** One or more, with commas. */
  listOf(member: Expression): Expression {
    return sequence(member, repeat(sequence(this.comma, member), 0, Number.POSITIVE_INFINITY));
  }

  arrayOf(item: Expression): Expression {
    return sequence(literal('['), optional(this.listOf(item)), literal(']'));
  }
}

const sign = optional(literal('-'));

/** At most 19 digits. */
export const integer: Expression = choice(sequence(sign, digitOneToNine, repeat(digit, 0, 18)), literal('0'));

/** Up to 279: behind 22 digits that is still a finite double. */
const exponent = choice(repeat(digit, 1, 2), sequence(characters(codePoints([[0x31, 0x32]])), characters(codePoints([[0x30, 0x37]])), digit));

/** At most 22 digits, 25 behind the point, and an exponent of at most 279: always a finite double. */
export const number: Expression = sequence(
  sign,
  choice(literal('0'), sequence(digitOneToNine, repeat(digit, 0, 21))),
  optional(sequence(literal('.'), repeat(digit, 1, 25))),
  optional(sequence(literals(['e', 'E']), optional(literals(['+', '-'])), exponent)),
);
