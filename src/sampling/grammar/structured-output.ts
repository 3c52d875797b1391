/** What an output may be held to, and the way from there to a grammar. */
import { MillraceError } from '../../base/errors.ts';
import { literals } from './expression.ts';
import { compileGbnf } from './gbnf.ts';
import { type Grammar, GrammarBuilder } from './grammar.ts';
import { compileAnyJson, compileJsonSchema } from './json-schema.ts';
import { grammarInvalid, grammarLimits, tooLarge } from './limits.ts';
import { compileOutline, compileStructuralTag } from './structural-tag.ts';
import { patternExpression } from './text-language.ts';

/** Exactly one constraint; the whole output fulfils it. */
export interface StructuredOutput {
  /** A JSON Schema, as a value or as its text. */
  readonly json?: unknown;
  /** Any JSON object. */
  readonly jsonObject?: boolean | undefined;
  /** A pattern that the whole output matches. */
  readonly regex?: string | undefined;
  /** One of these texts. */
  readonly choice?: readonly string[] | undefined;
  /** A grammar in GBNF (EBNF with `::=`); its rule `root` is the output. */
  readonly grammar?: string | undefined;
  /** Free text with parts that are held to schemas, as vLLM and xgrammar write it: an object, or its text. */
  readonly structuralTag?: unknown;
  /** The form of a whole output, reasoning and calls among it, as the engine makes it from the others: see `compileOutline`. */
  readonly outline?: unknown;
  /** JSON without any white space; by default one space may follow each colon and comma. */
  readonly disableAnyWhitespace?: boolean | undefined;
}

const constraints = ['json', 'jsonObject', 'regex', 'choice', 'grammar', 'structuralTag', 'outline'] as const;

/** @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
export function compileStructuredOutput(wanted: StructuredOutput): Grammar {
  const given = givenConstraints(wanted);
  if (given.length !== 1) {
    throw new MillraceError('GRAMMAR_INVALID', {
      message: 'A structured output takes one constraint.',
      expected: `exactly one of ${constraints.filter((name) => name !== 'outline').join(', ')}`,
      received: given.length === 0 ? 'none' : given.join(' and '),
      param: 'structured_outputs',
    });
  }
  const spelling = { compact: wanted.disableAnyWhitespace === true };
  switch (given[0]) {
    case 'json':
      return compileJsonSchema(schemaOf(wanted.json), spelling);
    case 'jsonObject':
      if (wanted.jsonObject !== true) throw grammarInvalid('The constraint jsonObject takes only true.', 'structured_outputs');
      return compileAnyJson('object', spelling);
    case 'regex':
      return compileRegex(textOf(wanted.regex, 'regex'));
    case 'choice':
      return compileChoice(wanted.choice);
    case 'outline':
      return compileOutline(wanted.outline, spelling);
    case 'structuralTag':
      return compileStructuralTag(wanted.structuralTag, spelling);
    default:
      return compileGbnf(textOf(wanted.grammar, 'grammar'));
  }
}

function givenConstraints(wanted: StructuredOutput): (typeof constraints)[number][] {
  return constraints.filter((name) => wanted[name] !== undefined && wanted[name] !== null);
}

/** Whether there is neither none nor several. */
export function isOneConstraint(wanted: StructuredOutput): boolean {
  return givenConstraints(wanted).length === 1;
}

/** A text by which equal constraints are known. @throws GRAMMAR_INVALID for what JSON cannot hold, GRAMMAR_TOO_LARGE */
export function structuredOutputKey(wanted: StructuredOutput): string {
  let text: string;
  try {
    text = JSON.stringify([...constraints, 'disableAnyWhitespace' as const].map((name) => wanted[name] ?? null));
  } catch (thrown) {
    throw new MillraceError('GRAMMAR_INVALID', { message: 'The structured output is not a JSON value.', cause: thrown });
  }
  if (text.length > grammarLimits.sourceLength) {
    throw tooLarge('its text', `at most ${grammarLimits.sourceLength} characters`, String(text.length));
  }
  return text;
}

function schemaOf(json: unknown): unknown {
  if (typeof json !== 'string') return json;
  try {
    return JSON.parse(json);
  } catch (thrown) {
    throw new MillraceError('GRAMMAR_INVALID', { message: 'The JSON Schema is not valid JSON.', cause: thrown });
  }
}

function textOf(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw grammarInvalid(`The constraint ${name} must be a string.`);
}

/** A pattern for the whole output. */
export function compileRegex(pattern: string): Grammar {
  const builder = new GrammarBuilder();
  builder.addRule('pattern', patternExpression(pattern));
  return builder.build();
}

function compileChoice(texts: unknown): Grammar {
  if (!Array.isArray(texts) || texts.length === 0 || !texts.every((text) => typeof text === 'string' && text.length > 0)) {
    throw grammarInvalid('The constraint choice must be a list of texts that are not empty.');
  }
  const builder = new GrammarBuilder();
  builder.addRule('choice', literals(texts as string[]));
  return builder.build();
}
