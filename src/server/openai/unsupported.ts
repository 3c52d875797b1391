import { MillraceError } from '../../base/errors.ts';

/** True when the value asks for nothing: absent, or the field's way of saying "off". */
type IsOff = (value: unknown, body: Readonly<Record<string, unknown>>) => boolean;

const falsy: IsOff = (value) => !value;
const never: IsOff = () => false;
const empty: IsOff = (value) => Array.isArray(value) && value.length === 0;

/**
 * Fields of the OpenAI, vLLM and SGLang APIs that change the output and are not built yet. Ignoring one would answer another question than the
 * one asked, so each is refused unless it is off. Whoever builds one deletes its line here and declares it in `schemas.ts`.
 */
const unsupportedFields: Readonly<Record<string, IsOff>> = {
  functions: empty,
  function_call: (value) => value === 'none' || value === 'auto',
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  json_schema: never,
  regex: never,
  repetition_detection: never,
  truncation_side: (value) => value === 'left',
  ebnf: never,
  grammar: never,
  stop_regex: never,
  modalities: (value) => Array.isArray(value) && value.every((modality) => modality === 'text'),
  audio: never,
  verbosity: (value) => value === 'medium',
  web_search_options: never,
  chat_template: never,
  suffix: falsy,
  prompt_embeds: never,
  custom_logit_processor: never,
  logits_processors: empty,
  samplers: empty,
  lora_path: never,
};

/** For the docs. */
export const unsupportedFieldNames: readonly string[] = Object.keys(unsupportedFields);

/** @throws NOT_SUPPORTED naming the field */
export function refuseUnsupported(body: Readonly<Record<string, unknown>>): void {
  for (const [field, isOff] of Object.entries(unsupportedFields)) {
    if (!Object.hasOwn(body, field)) continue;
    const value = body[field];
    if (value === null || value === undefined || isOff(value, body)) continue;
    throw notSupported(field);
  }
}

export function notSupported(field: string, what = `The field ${field}`): MillraceError {
  return new MillraceError('NOT_SUPPORTED', {
    message: `${what} is not supported yet.`,
    hint: 'It is refused rather than ignored, since the answer would not be what was asked for.',
    param: field,
  });
}
