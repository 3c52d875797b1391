/** The chat page in a real browser, headless, where one is installed: a person asks, reads and stops. Driven over the pipe of the DevTools protocol. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { isQuiet, type Serving, serve, until } from './serving.ts';

const candidates = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const browser = candidates.find((file) => file !== undefined && fs.existsSync(file));
const pocket = fileURLToPath(new URL('../../pocket/model', import.meta.url));

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly entry?: { readonly level: string; readonly text: string } };
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly message: string };
}

/** One page of a browser. Messages on the pipe are JSON between zero bytes (Chrome DevTools Protocol, --remote-debugging-pipe). */
class Page implements AsyncDisposable {
  /** What the page complained of. */
  readonly errors: string[] = [];
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #session = '';
  #id = 0;

  static async open(url: string): Promise<Page> {
    const page = new Page();
    const { targetId } = await page.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await page.#send('Target.attachToTarget', { targetId, flatten: true });
    page.#session = String(sessionId);
    for (const domain of ['Runtime', 'Log', 'Page']) await page.#send(`${domain}.enable`);
    await page.#send('Page.navigate', { url });
    return page;
  }

  private constructor() {
    this.#profile = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-page-'));
    const flags = [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--remote-debugging-pipe',
      `--user-data-dir=${this.#profile}`,
    ];
    this.#process = spawn(browser as string, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    let text = '';
    (this.#process.stdio[4] as Readable).on('data', (bytes: Buffer) => {
      const parts = (text + bytes.toString('utf8')).split('\0');
      text = parts.pop() ?? '';
      for (const part of parts) this.#take(JSON.parse(part) as Message);
    });
  }

  #take(message: Message): void {
    if (message.method === 'Runtime.exceptionThrown') this.errors.push(JSON.stringify(message.params));
    if (message.params?.entry?.level === 'error') this.errors.push(message.params.entry.text);
    if (message.id !== undefined) this.#waiting.get(message.id)?.(message);
  }

  async #send(method: string, params: object = {}): Promise<Readonly<Record<string, unknown>>> {
    const id = ++this.#id;
    const session = this.#session === '' ? {} : { sessionId: this.#session };
    const answered = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    (this.#process.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    const { result, error } = await answered;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result ?? {};
  }

  async evaluate(expression: string): Promise<unknown> {
    const { result } = await this.#send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    return (result as { value?: unknown }).value;
  }

  /** Types a text as a person does, and presses Enter. */
  async say(text: string): Promise<void> {
    await this.evaluate(`document.getElementById('prompt').focus()`);
    await this.#send('Input.insertText', { text });
    const key = { key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 13, text: '\r' };
    await this.#send('Input.dispatchKeyEvent', { type: 'keyDown', ...key });
    await this.#send('Input.dispatchKeyEvent', { type: 'keyUp', ...key });
  }

  /** As a person closes a tab. */
  async close(): Promise<void> {
    await this.#send('Page.close');
  }

  async shows(expression: string, what: string): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!(await this.evaluate(expression))) {
      if (performance.now() > deadline)
        throw new Error(`never shown: ${what}; the page has ${String(await this.evaluate('document.body.innerText'))}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
    fs.rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

describe.skipIf(browser === undefined)('the chat page in a browser (skipped: no chromium is installed)', () => {
  let serving: Serving;
  let page: Page;
  beforeAll(async () => {
    serving = await serve(await loadEngine({ model: pocket, servedModelName: ['pocket'] }));
    page = await Page.open(`${serving.url}/`);
  });
  afterAll(async () => {
    await page?.[Symbol.asyncDispose]();
    await serving?.[Symbol.asyncDispose]();
  });
  const lastAnswer = `[...document.querySelectorAll('.turn:not(.user) .text')].at(-1)?.textContent`;

  test('shows the model, answers what is typed, and goes on in the same conversation', async () => {
    await page.shows(`document.getElementById('model-name').textContent.includes('pocket')`, 'the name of the model');
    await page.evaluate(`const t = document.getElementById('temperature'); t.value = '0'; t.dispatchEvent(new Event('input', { bubbles: true }))`);
    await page.say('Rimu lives in Zetebu. Where does Rimu live?');
    await page.shows(`/Zetebu/.test(${lastAnswer} ?? '')`, 'the answer');
    await page.shows(`/tokens\\/s/.test(document.querySelector('.facts').textContent)`, 'how fast it was, at its end');
    await page.say('Thank you!');
    await page.shows(`document.querySelectorAll('.turn:not(.user)').length === 2 && ${lastAnswer}.length > 3`, 'the second answer');
    await until(() => isQuiet(serving), 'the end of the second answer');
  });

  test('is made without complaints of the browser', () => {
    expect(page.errors).toEqual([]);
  });

  test('closing the page ends what is being generated', async () => {
    const ask = `fetch('/v1/completions', { method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'Once', max_tokens: 100000, ignore_eos: true, stream: true }) }).then((response) => response.body.getReader().read()).then(() => true)`;
    expect(await page.evaluate(ask)).toBe(true);
    expect(serving.engine.stats().numRunning).toBe(1);
    await page.close();
    await until(() => isQuiet(serving), 'the generation to end');
  });
});
