/** A typed value from a model: the schema holds the output, and says what type the value has. */
import type { Static, TSchema } from 'typebox';
import { MillraceError } from '../base/errors.ts';
import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import type { OutputEvent } from '../chat/output-events.ts';
import { type OutputFormats, OutputParser, outputFormats } from '../chat/output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed } from '../chat/reasoning.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { Engine, GenerateInput } from './engine.ts';
import { parsePartialJson } from './partial-json.ts';
import type { GenerationChoice } from './request-stream.ts';

/** What is read of a Standard Schema (Zod, Valibot, ArkType and others), as far as it can say itself as JSON Schema. */
export interface StandardSchema {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult | Promise<StandardResult>;
    readonly types?: { readonly input: unknown; readonly output: unknown } | undefined;
    /** Standard JSON Schema. */
    readonly jsonSchema?: { readonly input: (options: { target: string }) => unknown } | undefined;
  };
}

type StandardResult = { readonly value: unknown; readonly issues?: undefined } | { readonly issues: readonly { readonly message: string }[] };

/** A JSON Schema as a value (TypeBox's are such), or a Standard Schema. */
export type ObjectSchema = StandardSchema | object;

/** The type of the values of a schema: as a Standard Schema or TypeBox declares it, else unknown. */
export type ValueOf<S> = S extends { readonly '~standard': { readonly types?: infer T } }
  ? NonNullable<T> extends { readonly output: infer O }
    ? O
    : unknown
  : S extends { readonly static: infer T }
    ? T
    : S extends TSchema
      ? Static<S>
      : unknown;

export interface ObjectOptions<S extends ObjectSchema> {
  readonly schema: S;
  /** Text to continue; this or `messages`. */
  readonly prompt?: string;
  /** A conversation to answer, or what the user says. */
  readonly messages?: readonly ChatMessage[] | string;
  readonly template?: ChatTemplateOptions;
  readonly params?: Omit<SamplingParams, 'structuredOutput' | 'n'>;
  readonly signal?: AbortSignal;
}

/** A value while it is written: everything in it may be missing yet. */
export type DeepPartial<T> = T extends readonly (infer Item)[] ? DeepPartial<Item>[] : T extends object ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

/** The type of values before the schema's own transformations: what a Standard Schema takes in. */
export type InputOf<S> = S extends { readonly '~standard': { readonly types?: infer T } }
  ? NonNullable<T> extends { readonly input: infer I }
    ? I
    : unknown
  : ValueOf<S>;

/**
 * A value in the making: await it for the whole one, checked by the schema, or iterate over what there is of it so far (once). A Standard Schema's
 * own transformations are made of the whole value only. Leaving the loop early aborts the request.
 */
export interface ObjectStream<S extends ObjectSchema> extends PromiseLike<ValueOf<S>>, AsyncIterable<DeepPartial<InputOf<S>>> {
  abort(reason?: MillraceError): void;
}

/** @throws (from the promise and the loop alike) as `generateObject` */
export function streamObject<S extends ObjectSchema>(engine: Engine, options: ObjectOptions<S>): ObjectStream<S> {
  const { schema, params = {}, signal } = options;
  const structuredOutput = { json: jsonSchemaOf(schema) };
  const reading = new AnswerReading(engine, options.messages !== undefined);
  const stream = engine.generate(
    inputOf(options),
    { ...params, structuredOutput },
    {
      markerTokenIds: reading.markerTokenIds,
      ...(signal === undefined ? {} : { signal }),
    },
  );
  // asked for at once, and only once: a Standard Schema may do what it likes with the value
  let whole: Promise<ValueOf<S>> | null = null;
  const value = () => {
    whole ??= Promise.resolve(stream).then(({ choices, promptTokenIds }) => finished(schema, choices[0], reading.textOf(promptTokenIds, choices[0])));
    return whole;
  };
  return {
    // biome-ignore lint/suspicious/noThenProperty: it is a promise as well
    then: (onValue, onError) => value().then(onValue, onError),
    abort: (reason) => stream.abort(reason),
    async *[Symbol.asyncIterator]() {
      let text = '';
      let last = '';
      const { promptTokenIds } = await stream.admitted;
      const parser = reading.parser(promptTokenIds);
      for await (const delta of stream) {
        text += contentOf(parser.push(delta.text, delta.markers));
        const partial = parsePartialJson(text);
        const said = JSON.stringify(partial);
        if (partial === undefined || said === last) continue;
        last = said;
        yield partial as DeepPartial<InputOf<S>>;
      }
      await value();
    },
  };
}

/** Tells the answer from the reasoning before it, in a conversation. */
class AnswerReading {
  readonly #engine: Engine;
  readonly #formats: OutputFormats;

  constructor(engine: Engine, isChat: boolean) {
    const name = isChat ? (engine.model.outputFormats?.reasoning ?? null) : null;
    this.#engine = engine;
    this.#formats = outputFormats(engine.tokenizer, reasoningFormatNamed(name), null);
  }

  get markerTokenIds(): ReadonlySet<number> {
    return new Set(this.#formats.markers.keys());
  }

  parser(promptTokenIds: Int32Array): OutputParser {
    const { reasoning } = this.#formats;
    const tail = reasoning === null ? '' : this.#engine.tokenizer.decode(promptTokenIds.slice(-16), { skipSpecialTokens: false });
    return new OutputParser(this.#formats, { beginsInReasoning: reasoning !== null && beginsInReasoning(reasoning, tail) });
  }

  textOf(promptTokenIds: Int32Array, { text, markers = [] }: GenerationChoice): string {
    const parser = this.parser(promptTokenIds);
    return contentOf([...parser.push(text, markers), ...parser.end()]);
  }
}

function contentOf(events: readonly OutputEvent[]): string {
  return events.map((event) => (event.type === 'content' ? event.text : '')).join('');
}

/**
 * @throws OUTPUT_INCOMPLETE when `maxTokens` came before the end or the schema's own checks refuse the value; GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED,
 *   GRAMMAR_TOO_LARGE for the schema; what generating throws
 */
export function generateObject<S extends ObjectSchema>(engine: Engine, options: ObjectOptions<S>): Promise<ValueOf<S>> {
  return Promise.resolve().then(() => streamObject(engine, options));
}

async function finished<S extends ObjectSchema>(schema: S, { finishReason, stopReason }: GenerationChoice, text: string): Promise<ValueOf<S>> {
  if (finishReason !== 'stop' || stopReason !== null) {
    throw new MillraceError('OUTPUT_INCOMPLETE', {
      message: 'The output ended before the value was complete.',
      received: finishReason === 'length' ? 'the limit of tokens' : `the stop ${JSON.stringify(stopReason)}`,
      hint: 'Raise maxTokens, or bound the schema by maxLength and maxItems.',
    });
  }
  const value: unknown = JSON.parse(text);
  if (!isStandard(schema)) return value as ValueOf<S>;
  const result = await schema['~standard'].validate(value);
  if (result.issues === undefined) return result.value as ValueOf<S>;
  throw new MillraceError('OUTPUT_INCOMPLETE', {
    message: `The value fulfils the JSON Schema but not the schema's own checks: ${result.issues.map(({ message }) => message).join('; ')}`,
  });
}

function isStandard(schema: ObjectSchema): schema is StandardSchema {
  return '~standard' in schema;
}

function jsonSchemaOf(schema: ObjectSchema): unknown {
  if (!isStandard(schema)) return schema;
  const { jsonSchema, vendor } = schema['~standard'];
  if (jsonSchema !== undefined) return jsonSchema.input({ target: 'draft-2020-12' });
  const own = 'toJSONSchema' in schema ? schema.toJSONSchema : undefined;
  if (typeof own === 'function') return own.call(schema);
  throw new MillraceError('GRAMMAR_UNSUPPORTED', {
    message: `The schema (of ${vendor}) cannot say itself as JSON Schema.`,
    expected: 'a JSON Schema, or a Standard Schema with ~standard.jsonSchema or toJSONSchema()',
  });
}

function inputOf({ prompt, messages, template }: ObjectOptions<ObjectSchema>): GenerateInput {
  if ((prompt === undefined) === (messages === undefined)) {
    throw new MillraceError('REQUEST_INVALID', { message: 'An object is made from a prompt or from messages.', expected: 'one of the two' });
  }
  if (prompt !== undefined) return { prompt };
  const list = typeof messages === 'string' ? [{ role: 'user', content: messages }] : (messages ?? []);
  return { messages: list, ...(template === undefined ? {} : { template }) };
}
