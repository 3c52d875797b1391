import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { describeOpenAiClient } from './openai-suite.ts';

const pocket = fileURLToPath(new URL('../../pocket/model', import.meta.url));

describeOpenAiClient('the pocket model on the best backend here', () => loadEngine({ model: pocket }), {
  prompt: 'Once upon a time',
  hasChatTemplate: true,
});

// Random weights in the shape of a committed checkpoint: says nothing sensible, but everything between the socket and the kernels is real.
describe('with random weights and a chat template', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-e2e-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  copyFileSync(fileURLToPath(new URL('../golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
  writeFileSync(
    join(folder, 'chat_template.jinja'),
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
  );
  const load = () => loadEngine({ model: folder, servedModelName: ['random', 'org/random'], loadFormat: 'dummy', backend: 'reference' });
  describeOpenAiClient('random weights on the reference backend', load, { prompt: 'Once upon a time', hasChatTemplate: true });
});
