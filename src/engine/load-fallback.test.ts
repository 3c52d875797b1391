import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { MillraceError } from '../base/errors.ts';
import { LLM } from './llm.ts';

vi.mock('../backends/native/native-backend.ts', () => ({
  createNativeBackend: async () => {
    throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', 'No C++ compiler was found. Install g++ or clang.\nTried: c++, g++, clang++');
  },
}));

const config = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 260,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
};

test('without a compiler the reference backend serves, and one line says why', async () => {
  const model = mkdtempSync(join(tmpdir(), 'millrace-fallback-'));
  writeFileSync(join(model, 'config.json'), JSON.stringify(config));
  const notices: string[] = [];
  try {
    await using llm = await LLM.load({ model, loadFormat: 'dummy' }, { onNotice: (line) => notices.push(line) });
    expect((await llm.generate('Hi', { maxTokens: 3 })).choices[0].tokenIds).toHaveLength(3);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain('Install g++ or clang.');
    expect(notices[0]).not.toContain('\n');
    expect(llm.engine.config.values.backend).toBe('reference');
    expect(llm.engine.config.reasons.join('\n')).toContain('backend = reference: No C++ compiler');
    await expect(LLM.load({ model, loadFormat: 'dummy', backend: 'cpu' })).rejects.toMatchObject({ code: 'NATIVE_ADDON_UNAVAILABLE' });
  } finally {
    rmSync(model, { recursive: true });
  }
});
