/** The OpenAPI document, and OpenAI's own: what their document has, ours takes, refuses by name, or is listed here as without effect. */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { unsupportedFieldNames } from '../../src/server/openai/unsupported.ts';
import { routes } from '../../src/server/routes/index.ts';
import { FakeEngine } from './fake-engine.ts';
import { type Serving, serve } from './serving.ts';

type Schema = { readonly [key: string]: unknown };
interface Operation {
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: Schema } } };
  readonly parameters?: readonly { readonly name: string }[];
  readonly security?: readonly object[];
}
interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

let serving: Serving<FakeEngine>;
let ours: Document;
beforeAll(async () => {
  serving = await serve(new FakeEngine({ stepMs: 0 }), { apiKeys: ['secret'] });
  ours = (await (await fetch(`${serving.url}/openapi.json`)).json()) as Document;
});
afterAll(() => serving[Symbol.asyncDispose]());

/** Names of the fields of a schema, references and unions followed. */
function fieldsOf(schema: Schema, { components }: Document): string[] {
  const reference = typeof schema.$ref === 'string' ? components.schemas[schema.$ref.split('/').at(-1)!] : undefined;
  if (reference !== undefined) return fieldsOf(reference, { components } as Document);
  const parts = ['allOf', 'anyOf', 'oneOf'].flatMap((key) => (schema[key] as Schema[] | undefined) ?? []);
  return [
    ...new Set([
      ...parts.flatMap((part) => fieldsOf(part, { components } as Document)),
      ...Object.keys((schema.properties as Schema | undefined) ?? {}),
    ]),
  ];
}
const bodyFields = (document: Document, at: string) => fieldsOf(document.paths[at]!.post!.requestBody!.content['application/json'].schema, document);

test('every endpoint is described, without a key, those that want one by their security', () => {
  expect(ours.openapi).toBe('3.1.0');
  const listed = Object.entries(ours.paths).flatMap(([at, operations]) => Object.keys(operations).map((method) => `${method} ${at}`));
  expect(listed).toHaveLength(routes.length - 1);
  expect(ours.paths['/v1/responses/{id}/cancel']!.post!.parameters).toMatchObject([{ name: 'id', in: 'path', required: true }]);
  expect(ours.paths['/v1/chat/completions']!.post!.security).toEqual([{ apiKey: [] }]);
  expect(ours.paths['/health']!.get!.security).toEqual([]);
  expect(bodyFields(ours, '/v1/chat/completions')).toEqual(expect.arrayContaining(['messages', 'temperature', 'tools']));
});

/** Kinds of items, parts and tools that are taken; others are refused by their `type`, whatever stands beside it. */
const takenTypes: ReadonlySet<string> = new Set([
  ...['function', 'json_schema', 'json_object', 'text', 'input_text', 'output_text', 'reasoning_text'],
  ...['message', 'reasoning', 'function_call', 'function_call_output', 'item_reference'],
]);

/** The values of `type` that a schema allows; none where it says nothing of it. */
function typesOf({ properties }: Schema): readonly string[] {
  const type = (properties as Record<string, Schema> | undefined)?.type;
  return (type?.enum as string[] | undefined) ?? (type?.const === undefined ? [] : [type.const as string]);
}

interface Found {
  /** Paths of all fields: `tools[].function.name`. */
  readonly fields: Set<string>;
  /** Paths of values that may be anything. */
  readonly open: Set<string>;
  /** By the path of a list or field: the types that its alternatives have. */
  readonly types: Map<string, Set<string>>;
}

/** What stands at any depth of a schema. @param takes false for alternatives that are left out */
function walk(
  schema: Schema,
  document: Document,
  takes: (types: readonly string[]) => boolean,
  found: Found,
  at = '',
  within: readonly string[] = [],
): Found {
  if (typeof schema.$ref === 'string') {
    const name = schema.$ref.split('/').at(-1)!;
    return within.includes(name) ? found : walk(document.components.schemas[name]!, document, takes, found, at, [...within, name]);
  }
  const types = typesOf(schema);
  if (types.length > 0) found.types.set(at, new Set([...(found.types.get(at) ?? []), ...types]));
  if (!takes(types)) return found;
  const parts = ['allOf', 'anyOf', 'oneOf'].flatMap((key) => (schema[key] as Schema[] | undefined) ?? []);
  for (const part of parts) walk(part, document, takes, found, at, within);
  for (const [name, field] of Object.entries((schema.properties as Record<string, Schema> | undefined) ?? {})) {
    const path = at === '' ? name : `${at}.${name}`;
    found.fields.add(path);
    walk(field, document, takes, found, path, within);
  }
  if (schema.items !== undefined) walk(schema.items as Schema, document, takes, found, `${at}[]`, within);
  const saysNothing = parts.length === 0 && ['type', 'properties', 'const', 'enum'].every((key) => schema[key] === undefined);
  if (saysNothing || schema.patternProperties !== undefined || (schema.type === 'object' && schema.properties === undefined)) found.open.add(at);
  return found;
}

function bodyOf(document: Document, at: string, takes: (types: readonly string[]) => boolean = () => true): Found {
  const { schema } = document.paths[at]!.post!.requestBody!.content['application/json'];
  return walk(schema, document, takes, { fields: new Set(), open: new Set(), types: new Map() });
}

const isTaken = (types: readonly string[]) => types.length === 0 || types.some((type) => takenTypes.has(type));

/** Fields that a schema requires and a value has not, at any depth; where there are alternatives, nothing is required. */
function missingFields(schema: Schema, value: unknown, document: Document, at = ''): string[] {
  const reference = typeof schema.$ref === 'string' ? document.components.schemas[schema.$ref.split('/').at(-1)!] : undefined;
  if (reference !== undefined) return missingFields(reference, value, document, at);
  const inherited = ((schema.allOf as Schema[] | undefined) ?? []).flatMap((part) => missingFields(part, value, document, at));
  if (Array.isArray(value)) {
    const items = schema.items as Schema | undefined;
    return items === undefined ? inherited : [...inherited, ...value.flatMap((each) => missingFields(items, each, document, `${at}[]`))];
  }
  if (typeof value !== 'object' || value === null) return inherited;
  const absent = ((schema.required as string[] | undefined) ?? []).filter((name) => !(name in value)).map((name) => `${at}.${name}`);
  const within = Object.entries((schema.properties as Record<string, Schema> | undefined) ?? {}).flatMap(([name, field]) =>
    missingFields(field, (value as Record<string, unknown>)[name], document, `${at}.${name}`),
  );
  return [...new Set([...inherited, ...absent, ...within])];
}

const file = path.join(process.env.MILLRACE_SHARED ?? path.resolve('../shared'), 'data/openai-openapi/openapi.json.gz');

/** Fields that change nothing in what is generated: bookkeeping, billing and caching of OpenAI's own service. */
const withoutEffect: readonly string[] = [
  'metadata',
  'moderation',
  'prediction',
  'prompt_cache_key',
  'prompt_cache_options',
  'prompt_cache_retention',
  'safety_identifier',
  'service_tier',
  'store',
  'user',
];
/** Of fields within fields, the same. */
const nestedWithoutEffect: Readonly<Record<string, readonly string[]>> = {
  '/chat/completions': [
    'messages[].audio', // names a sound that was an answer
    'messages[].content[].prompt_cache_breakpoint',
    'messages[].refusal',
    'stream_options.include_obfuscation',
  ],
  '/completions': ['stream_options.include_obfuscation'],
  '/responses': [
    'input[].caller',
    'input[].content[].annotations',
    'input[].content[].logprobs',
    'input[].content[].prompt_cache_breakpoint',
    'input[].encrypted_content',
    'input[].namespace',
    'input[].output[].prompt_cache_breakpoint',
    'input[].phase',
    'input[].status',
    'input[].summary',
    'reasoning.context',
    'reasoning.generate_summary',
    'reasoning.mode',
    'reasoning.summary',
    'text.format.description',
    'tools[].allowed_callers',
    'tools[].defer_loading',
    'tools[].output_schema',
  ],
};
/** Taken, though our schema does not spell them out: `json_schema` in the words of this API. */
const spelledElsewhere = ['text.format.name', 'text.format.schema', 'text.format.strict'];
/** Fields that would change the answer, are not built and are ignored all the same: each is a gap. */
const gaps: Readonly<Record<string, readonly string[]>> = {
  '/chat/completions': [],
  '/completions': [],
  '/responses': [],
};

describe.skipIf(!fs.existsSync(file))("OpenAI's document (../shared/data/openai-openapi)", () => {
  let theirs: Document;
  beforeAll(() => {
    theirs = JSON.parse(gunzipSync(fs.readFileSync(file)).toString('utf8')) as Document;
  });

  test.each(Object.keys(gaps))('each field of POST %s is taken, refused by name, without effect, or a known gap', (at) => {
    const taken = new Set([...bodyFields(ours, `/v1${at}`), ...(at === '/responses' ? [] : unsupportedFieldNames), ...withoutEffect]);
    const unknown = bodyFields(theirs, at).filter((name) => !taken.has(name));
    expect(unknown.sort()).toEqual(gaps[at]);
  });

  test.each(Object.keys(gaps))('so is each field within the fields of POST %s, of the kinds that are taken', (at) => {
    const here = bodyOf(ours, `/v1${at}`);
    const topLevel = new Set([...here.fields, ...unsupportedFieldNames, ...withoutEffect]);
    const known = [...(nestedWithoutEffect[at] ?? []), ...spelledElsewhere];
    const isKnown = (path: string) =>
      here.fields.has(path) ||
      known.includes(path) ||
      [...here.open, ...known].some((open) => open !== '' && (path.startsWith(`${open}.`) || path.startsWith(`${open}[`))) ||
      (!here.fields.has(path.split(/[.[]/)[0]!) && topLevel.has(path.split(/[.[]/)[0]!));
    const unknown = [...bodyOf(theirs, at, isTaken).fields].filter((path) => !isKnown(path));
    expect(unknown.sort()).toEqual([]);
    const unlisted = [...bodyOf(theirs, at, isTaken).fields];
    expect((nestedWithoutEffect[at] ?? []).filter((path) => !unlisted.includes(path))).toEqual([]);
  });

  test.each([
    ['/chat/completions', 'tools[]', (type: string) => ({ messages: [{ role: 'user', content: 'x' }], tools: [{ type, [type]: { name: 'x' } }] })],
    ['/chat/completions', 'messages[].content[]', (type: string) => ({ messages: [{ role: 'user', content: [{ type, text: 'x', [type]: {} }] }] })],
    ['/chat/completions', 'response_format', (type: string) => ({ messages: [{ role: 'user', content: 'x' }], response_format: { type } })],
    ['/responses', 'tools[]', (type: string) => ({ input: 'x', tools: [{ type }] })],
    ['/responses', 'input[]', (type: string) => ({ input: [{ type, id: 'i', call_id: 'c', role: 'user', content: 'x', name: 'x', output: 'x' }] })],
    ['/responses', 'input[].content[]', (type: string) => ({ input: [{ role: 'user', content: [{ type, text: 'x' }] }] })],
    ['/responses', 'text.format', (type: string) => ({ input: 'x', text: { format: { type } } })],
  ])('POST %s refuses every other type that %s may have there', async (at, path, body) => {
    const types = [...(bodyOf(theirs, at).types.get(path) ?? [])];
    expect(types.length, path).toBeGreaterThan(1);
    for (const type of types.filter((each) => !takenTypes.has(each))) {
      const response = await serving.post(`/v1${at}`, body(type), { authorization: 'Bearer secret' });
      expect([type, response.status]).toEqual([type, 400]);
      const { error } = (await response.json()) as { error: { code: string; param: string } };
      expect(['NOT_SUPPORTED', 'REQUEST_INVALID'], `${type}: ${JSON.stringify(error)}`).toContain(error.code);
      expect(error.param, type).toMatch(/type|response_format|tools|text/);
    }
  });

  test.each([
    ['/chat/completions', 'post', { messages: [{ role: 'user', content: 'x' }], max_tokens: 3, logprobs: true, top_logprobs: 1 }],
    ['/completions', 'post', { prompt: 'x', max_tokens: 3, logprobs: 1 }],
    ['/responses', 'post', { input: 'x', max_output_tokens: 3 }],
    ['/models', 'get', undefined],
  ])('an answer of %s has each field that its schema requires', async (at, method, body) => {
    const authorization = 'Bearer secret';
    const response =
      body === undefined
        ? await fetch(`${serving.url}/v1${at}`, { headers: { authorization } })
        : await serving.post(`/v1${at}`, body, { authorization });
    expect(response.status).toBe(200);
    const { content } = (theirs.paths[at]![method] as unknown as { responses: Record<string, { content: Record<string, { schema: Schema }> }> })
      .responses['200']!;
    expect(missingFields(content['application/json']!.schema, await response.json(), theirs)).toEqual([]);
  });

  test('its endpoints of responses and models exist here, but for those named', () => {
    const missing = Object.entries(theirs.paths).flatMap(([at, operations]) => {
      if (!/^\/(chat\/completions|completions|responses|models)(\/[^?]*)?$/.test(at)) return [];
      const here = ours.paths[`/v1${at.replace(/\{(response_id)\}/, '{id}')}`] ?? {};
      return Object.keys(operations).flatMap((method) => (method in here ? [] : [`${method} ${at}`]));
    });
    expect(missing.sort()).toEqual([
      'delete /chat/completions/{completion_id}',
      'delete /models/{model}',
      'get /chat/completions',
      'get /chat/completions/{completion_id}',
      'get /chat/completions/{completion_id}/messages',
      'post /chat/completions/{completion_id}',
      'post /responses/compact',
    ]);
  });
});

test.each([
  ['low', { reasoning_effort: 'low', enable_thinking: true, thinking: true }],
  ['none', { enable_thinking: false, thinking: false }],
])('reasoning_effort %s reaches the template', async (effort, kwargs) => {
  const body = { messages: [{ role: 'user', content: 'x' }], reasoning_effort: effort, max_tokens: 2 };
  expect((await serving.post('/v1/chat/completions', body, { authorization: 'Bearer secret' })).status).toBe(200);
  const { input } = serving.engine.seen.at(-1)!;
  expect('messages' in input && input.template?.kwargs).toEqual(kwargs);
});

test.each([
  ['context_management', [{}]],
  ['max_tool_calls', 3],
  ['truncation', 'auto'],
  ['include', ['file_search_call.results']],
])('POST /v1/responses refuses %s by name', async (field, value) => {
  const response = await serving.post('/v1/responses', { input: 'x', [field]: value }, { authorization: 'Bearer secret' });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { code: 'NOT_SUPPORTED', param: field } });
});

test('POST /v1/responses takes those fields when they ask for nothing', async () => {
  const off = { context_management: null, max_tool_calls: null, truncation: 'disabled', include: ['reasoning.encrypted_content'], top_logprobs: 0 };
  const response = await serving.post('/v1/responses', { input: 'x', ...off, max_output_tokens: 2 }, { authorization: 'Bearer secret' });
  expect(response.status).toBe(200);
});
