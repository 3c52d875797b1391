import { MillraceError } from '../../base/errors.ts';
import type { StructuredOutput } from '../../sampling/params.ts';
import type { ChatCompletionBody, CompletionBody } from './schemas.ts';
import { notSupported } from './unsupported.ts';

type StructureBody = Pick<ChatCompletionBody & CompletionBody, 'response_format' | 'structured_outputs'>;

/** `response_format` and `structured_outputs` as one constraint; undefined when neither asks for anything. @throws REQUEST_INVALID, NOT_SUPPORTED */
export function readStructuredOutput({ response_format: format, structured_outputs: outputs }: StructureBody): StructuredOutput | undefined {
  const fromFormat = format ? readResponseFormat(format) : undefined;
  const fromOutputs = outputs ? readOutputs(outputs) : undefined;
  if (fromFormat !== undefined && fromOutputs !== undefined) {
    throw new MillraceError('REQUEST_INVALID', {
      message: 'response_format and structured_outputs exclude each other.',
      param: 'structured_outputs',
    });
  }
  return fromFormat ?? fromOutputs;
}

function readResponseFormat(format: NonNullable<StructureBody['response_format']>): StructuredOutput | undefined {
  const { type, json_schema: wrapper } = format;
  if (type === 'structural_tag') return { structuralTag: format };
  if (type === 'text') return undefined;
  if (type === 'json_object') return { jsonObject: true };
  if (type !== 'json_schema') throw notSupported('response_format', `The response format ${JSON.stringify(type.slice(0, 64))}`);
  const schema = typeof wrapper === 'object' && wrapper !== null && 'schema' in wrapper ? wrapper.schema : undefined;
  if (schema === undefined || schema === null) {
    throw new MillraceError('REQUEST_INVALID', {
      message: 'The field response_format.json_schema.schema is missing.',
      param: 'response_format.json_schema.schema',
    });
  }
  return { json: schema };
}

function readOutputs(outputs: NonNullable<StructureBody['structured_outputs']>): StructuredOutput {
  const { json, json_object: jsonObject, regex, choice, grammar, structural_tag: structuralTag, disable_any_whitespace: compact } = outputs;
  const given = Object.entries({ json, jsonObject: jsonObject === false ? null : jsonObject, regex, choice, grammar, structuralTag });
  const wanted = Object.fromEntries(given.filter(([, value]) => value !== null && value !== undefined));
  return { ...wanted, disableAnyWhitespace: compact ?? undefined };
}
