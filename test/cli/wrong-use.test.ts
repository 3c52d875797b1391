/** A walk through the commands by someone who gets everything wrong: each time one plain message of what is wrong and what to do, and no stack. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { processContext } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'millrace-wrong-'));
const at = (name: string) => path.join(folder, name);
let taken: Server;
let port = 0;
beforeAll(async () => {
  writeFileSync(at('empty.gguf'), '');
  writeFileSync(at('junk.gguf'), 'GGUF but no more than that, and more');
  mkdirSync(at('nothing'));
  mkdirSync(at('broken'));
  writeFileSync(at('broken/config.json'), '{not json');
  mkdirSync(at('unknown'));
  writeFileSync(at('unknown/config.json'), '{"architectures":["FooForCausalLM"],"model_type":"foo"}');
  writeFileSync(at('broken.jinja'), '{% if %}');
  writeFileSync(at('short.txt'), '');
  taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', () => resolve()));
  port = (taken.address() as { port: number }).port;
});
afterAll(() => {
  taken.close();
  rmSync(folder, { recursive: true });
});

class Collector extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const pocket = 'pocket/model';
/** Enough to load in no time. */
const tiny = ['--model', 'models/random-tiny', '--load-format', 'dummy', '--backend', 'reference'];

test.each<readonly [args: string, code: number, says: RegExp]>([
  // what is not there
  ['run', 2, /There is no prompt[\s\S]*hint: /],
  ['run x --file y', 2, /not both/],
  ['run --file /no/such', 2, /\/no\/such cannot be read/],
  ['run --file @nothing', 2, /cannot be read/],
  ['run x --model /no/such', 1, /MODEL_NOT_FOUND: \/no\/such does not exist[\s\S]*hint: /],
  ['chat --model /no/such', 1, /MODEL_NOT_FOUND/],
  ['serve /no/such --port 0', 1, /MODEL_NOT_FOUND/],
  ['inspect /no/such', 1, /MODEL_NOT_FOUND/],
  ['convert /no/such @out', 1, /MODEL_NOT_FOUND/],
  ['bench offline /no/such', 1, /MODEL_NOT_FOUND/],
  ['bench load /no/such', 1, /MODEL_NOT_FOUND/],
  [`eval ppl ${pocket} --file /no/such`, 2, /The text cannot be read/],
  ['convert', 2, /missing required argument 'model'/],
  ['convert x', 2, /missing required argument 'target'/],
  ['bench compare', 2, /missing required argument/],
  // models that are none
  ['run x --model @nothing', 1, /has no config\.json[\s\S]*hint: /],
  ['run x --model @broken', 1, /MODEL_CONFIG_INVALID: .*config\.json is not JSON/],
  ['run x --model @unknown --load-format dummy', 1, /MODEL_ARCHITECTURE_UNKNOWN: /],
  ['run x --model @empty.gguf', 1, /WEIGHTS_FILE_INVALID: .*Expected at least 24 bytes but received 0/],
  ['inspect @junk.gguf', 1, /WEIGHTS_FILE_INVALID: .*version/],
  ['run x --model README.md', 1, /MODEL_NOT_FOUND: README\.md is a file.*Expected a folder/],
  // values out of range, said before a model is loaded
  ['run x --model /no/such --temperature -1', 2, /temperature.*Expected a number from 0 to 100 but received -1/],
  ['run x --model /no/such --max-tokens 0', 2, /max_tokens.*Expected an integer from 1/],
  ['run x --model /no/such --top-p 2', 2, /top_p/],
  ['run x --model /no/such --mirostat 1', 2, /mirostat_mode.*Expected 0 or 2/],
  ['run x --temperature hot', 2, /--temperature.*Expected a number but received "hot"/],
  ['run x --stop-token-ids a,b', 2, /--stop-token-ids.*Expected an integer/],
  ['run x --threads 0', 2, /threads.*Expected an integer from 1 to 1024/],
  ['run x --isa mmx', 2, /--isa.*Expected one of/],
  ['run x --temperature', 2, /argument missing/],
  ['run x --nope', 2, /unknown option '--nope'/],
  ['serve --port abc', 2, /--port.*Expected an integer/],
  ['serve --scheduling-policy x', 2, /--scheduling-policy.*Expected one of fcfs/],
  [`serve ${pocket} --api-key=`, 2, /--api-key.*not empty/],
  [`serve ${pocket} --allowed-origin no/origin`, 2, /--allowed-origin.*https:\/\/example\.com/],
  [`serve ${pocket} --allowed-host a/b`, 2, /--allowed-host/],
  ['convert x y --quantize q9', 2, /'q9' is invalid/],
  [`convert ${pocket} ${pocket}`, 2, /exists already[\s\S]*hint: /],
  ['bench serve --model m --base-url nonsense', 2, /--base-url.*Expected an address/],
  ['bench offline --input-len 0', 2, /--input-len.*at least 1/],
  ['bench step --rows x', 2, /--rows.*Expected an integer/],
  ['bench nope', 2, /unknown command 'nope'/],
  ['eval nope', 2, /unknown command 'nope'/],
  ['serv', 2, /unknown command 'serv'[\s\S]*serve/],
  // what a model that loads cannot do
  ['run x TINY --chat-template /no/such', 1, /does not exist[\s\S]*hint: check --chat-template/],
  ['run x TINY --chat-template @broken.jinja', 1, /cannot be parsed.*line 1/],
  ['run x TINY --max-model-len 99999999', 2, /max-model-len.*Expected at most/],
  ['run x TINY --kv-cache-memory-bytes 1', 1, /MEMORY_INSUFFICIENT: .*at least [\d,]+ bytes.*[\s\S]*hint: /],
  ['run x TINY --system s --no-chat', 1, /CHAT_TEMPLATE_MISSING/],
  ['run x TINY --stop-token-ids 99999999', 2, /stop_token_ids.*Expected an integer from 0 to/],
  ['eval ppl --file @short.txt TINY', 2, /too few tokens.*Expected at least 2/],
  ['serve TINY --port PORT', 1, /PORT_IN_USE: Port \d+ on 127\.0\.0\.1 is taken[\s\S]*hint: .*--port/],
])('millrace %s', { timeout: 30_000 }, async (line, code, says) => {
  const args = line.split(' ').flatMap((word) => (word === 'TINY' ? tiny : [word.replace(/^@/, `${folder}/`).replace('PORT', String(port))]));
  const [stdout, stderr] = [new Collector(), new Collector()];
  const forceExit = (exit: number): never => {
    throw new Error(`forced exit ${exit}`);
  };
  expect(await runCli(args, { ...processContext(), stdin: Readable.from([]), stdout, stderr, forceExit }), stderr.text).toBe(code);
  expect(stderr.text).toMatch(says);
  expect(stderr.text).not.toMatch(/^\s+at .*:\d+:\d+/m);
  expect(stderr.text).not.toMatch(/INTERNAL/);
  expect(stderr.text.split('\n').filter((each) => /^millrace: (?!weights|build)/.test(each))).toHaveLength(1);
  expect(stdout.text.trim()).toBe('');
});
