import { describe, expect, test } from 'vitest';
import type { ChatMessage } from './messages.ts';
import { ChatTemplate, type TemplateSource } from './template.ts';

const now = (): Date => new Date(2026, 0, 5, 15, 4, 9);
const compile = (source: TemplateSource): ChatTemplate => ChatTemplate.compile(source, { bos_token: '<s>', eos_token: '</s>' }, now);
const render = (source: TemplateSource, messages: ChatMessage[] = [{ role: 'user', content: 'Hi' }], options = {}): string =>
  compile(source).render(messages, options);
const failed = (reason: string | RegExp) =>
  expect.objectContaining({ code: 'CHAT_TEMPLATE_FAILED', status: 400, message: expect.stringMatching(reason) });
const plain =
  '{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}';

describe('a chat template', () => {
  test('sees messages, special tokens and whether to open the turn of the assistant', () => {
    expect(render(plain)).toBe('<s><user>Hi<assistant>');
    expect(render(plain, undefined, { addGenerationPrompt: false })).toBe('<s><user>Hi');
  });

  test('sees tools and documents, none when there are none', () => {
    const source =
      '{% if tools %}{{ tools | length }}{% else %}{{ tools is none }}{% endif %}{{ documents is none }}{{ documents[0].title if documents }}';
    expect(render(source)).toBe('TrueTrue');
    expect(render(source, undefined, { tools: [] })).toBe('TrueTrue');
    expect(render(source, undefined, { tools: [{ type: 'function' }], documents: [{ title: 'T' }] })).toBe('1FalseT');
  });

  test('gets extra variables, which may be named like a built-in but not like what the request sets', () => {
    expect(
      render('{{ range }}{{ namespace }}{{ enable_thinking }}', undefined, { kwargs: { range: 'r', namespace: 'n', enable_thinking: false } }),
    ).toBe('rnFalse');
    expect(() => render(plain, undefined, { kwargs: { messages: [] } })).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }));
  });

  test('tells the time as Python does', () => {
    expect(render("{{ strftime_now('%d %b %Y %B %A %a %-d %H:%M:%S %I%p %j %y %%') }}")).toBe(
      '05 Jan 2026 January Monday Mon 5 15:04:09 03PM 005 26 %',
    );
  });

  test('refuses messages by raise_exception, and the caller reads why', () => {
    expect(() => render("{{ raise_exception('Roles must alternate.') }}")).toThrow(failed('refuses these messages: Roles must alternate\\.'));
  });

  test('is chosen by name: tool_use for requests with tools, default for others', () => {
    const source = new Map([
      ['default', 'plain'],
      ['tool_use', 'tools'],
    ]);
    expect(render(source)).toBe('plain');
    expect(render(source, undefined, { tools: [{ type: 'function' }] })).toBe('tools');
  });

  test('that cannot be parsed is refused when it is compiled', () => {
    for (const source of ['{% if %}', '{{ a', '{% for x in %}', `{{ ${'('.repeat(50_000)}1`, 'x'.repeat((1 << 20) + 1)])
      expect(() => compile(source)).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG_INVALID' }));
  });
});

describe('content', () => {
  test('of a message that only calls tools is null, or the empty text for templates that take it for text', () => {
    const messages: ChatMessage[] = [{ role: 'assistant', content: null, tool_calls: [{ function: { name: 'f', arguments: '{}' } }] }];
    const tells = ChatTemplate.compile('{% for m in messages %}{{ m.content is none }}{% endfor %}', {});
    const joins = ChatTemplate.compile('{% for m in messages %}[{{ m.content + "" }}]{% endfor %}', {});
    expect(tells.render(messages)).toBe('True');
    expect(joins.render(messages)).toBe('[]');
    expect(() => joins.render([{ role: 'user', content: null }])).toThrowError(expect.objectContaining({ code: 'CHAT_TEMPLATE_FAILED' }));
  });

  test('of several text parts becomes one text', () => {
    const content = [
      { type: 'text', text: 'one' },
      { type: 'text', text: 'two' },
    ];
    expect(render(plain, [{ role: 'user', content }])).toBe('<s><user>one\ntwo<assistant>');
  });

  test('is given as parts to a template that knows nothing else', () => {
    const source =
      '{% for m in messages %}{% for part in m.content %}{% if part.type == "text" %}[{{ part.text }}]{% endif %}{% endfor %}{% endfor %}';
    expect(render(source)).toBe('[Hi]');
  });

  test('other than text is refused, malformed parts as well', () => {
    const image = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }];
    expect(() => render(plain, image)).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }));
    for (const content of [[{ type: 'text' }], 7] as unknown as string[])
      expect(() => render(plain, [{ role: 'user', content }])).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }));
  });

  test('may be missing beside tool calls, whose arguments become an object', () => {
    const source =
      '{% for m in messages %}{{ m.content is none }}{% for c in m.tool_calls %}{{ c.function.name }}:{{ c.function.arguments.city }}{% endfor %}{% endfor %}';
    const call = (args: string): ChatMessage => ({
      role: 'assistant',
      content: null,
      tool_calls: [{ type: 'function', function: { name: 'get', arguments: args } }],
    });
    expect(render(source, [call('{"city":"Paris"}')])).toBe('Trueget:Paris');
    expect(render(source.replace('.city', ''), [call('not json')])).toBe('Trueget:not json');
  });
});

describe('continuing the final message', () => {
  const source = `${plain}</end>`;
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hel lo' },
  ];

  test('leaves it open: nothing follows its text', () => {
    expect(render(source, messages, { continueFinalMessage: true })).toBe('<s><user>Hi<assistant>Hel lo');
    expect(render(source.replace(' | trim', ''), [messages[0], { role: 'assistant', content: 'Hello ' }], { continueFinalMessage: true })).toBe(
      '<s><user>Hi<assistant>Hello ',
    );
    expect(render(source, [messages[0], { role: 'assistant', content: 'Hello ' }], { continueFinalMessage: true })).toBe(
      '<s><user>Hi<assistant>Hello',
    );
  });

  test('is refused together with a new turn, without content, or when the template hides it', () => {
    const invalid = expect.objectContaining({ code: 'REQUEST_INVALID' });
    expect(() => render(source, messages, { continueFinalMessage: true, addGenerationPrompt: true })).toThrow(invalid);
    expect(() => render(source, [{ role: 'assistant', content: null }], { continueFinalMessage: true })).toThrow(invalid);
    expect(() => render('{{ messages[0].content }}', messages, { continueFinalMessage: true })).toThrow(failed('does not show the final message'));
  });
});

describe('bounds', () => {
  test.each([
    [
      'a loop in loops',
      '{% for a in range(9000) %}{% for b in range(9000) %}{% set c = b %}{% endfor %}{% endfor %}',
      'it (needs more|takes longer) than',
    ],
    ['a huge range', '{% for a in range(1000000000) %}{% endfor %}', 'range'],
    ['an endless range', '{% for a in range(0, 10, 0) %}{% endfor %}', 'range'],
    [
      'a string that doubles',
      "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
      'characters',
    ],
    ['an unknown filter', '{{ messages | nonsense }}', 'nonsense'],
    ['a call of nothing', '{{ nothing() }}', "'nothing' is undefined"],
  ])('stop %s with a clear error', (_, source, reason) => {
    expect(() => render(source)).toThrow(failed(reason));
  });

  test('hold for the conversation: none, too many, or too deep messages', () => {
    const invalid = expect.objectContaining({ code: 'REQUEST_INVALID' });
    expect(() => render(plain, [])).toThrow(invalid);
    expect(() => render(plain, new Array(16_385).fill({ role: 'user', content: 'x' }))).toThrow(invalid);
    let deep: unknown = 'x';
    for (let i = 0; i < 100; i++) deep = [deep];
    expect(() => render(plain, undefined, { tools: [deep] })).toThrow(invalid);
  });

  test('let a long conversation pass', () => {
    const messages = Array.from({ length: 2000 }, (_, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content: 'some words '.repeat(20) }));
    expect(render(plain, messages).length).toBeGreaterThan(400_000);
  });
});

test('a key named __proto__ in tool arguments is shown to the template like any other', () => {
  const shown = ChatTemplate.compile('{{ messages[0].tool_calls[0].function.arguments | tojson }}', { bos_token: '<s>', eos_token: '</s>' });
  const given = JSON.parse('{"list": [{"__proto__": 0}], "__proto__": {"a": 1}}');
  const message = { role: 'assistant', content: '', tool_calls: [{ type: 'function', function: { name: 'f', arguments: given } }] };
  expect(shown.render([message], {})).toBe('{"list": [{"__proto__": 0}], "__proto__": {"a": 1}}');
});
