/** What a person who starts `millrace chat` on the model of the package may expect of it, through the real process. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

const repository = path.join(import.meta.dirname, '..', '..');

interface Talk {
  readonly code: number | null;
  readonly stdout: readonly string[];
  readonly stderr: string;
}

/** `millrace chat` on the default model, greedy, with these lines typed. */
async function chat(flags: readonly string[], lines: readonly string[]): Promise<Talk> {
  const args = ['--import', 'tsx', 'src/cli/main.ts', 'chat', '--temperature', '0', '--max-tokens', '200', ...flags];
  const child = spawn(process.execPath, args, { cwd: repository, env: { ...process.env, NO_COLOR: '1' } });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (bytes) => {
    said.stdout += bytes;
  });
  child.stderr.on('data', (bytes) => {
    said.stderr += bytes;
  });
  child.stdin.end(`${lines.join('\n')}\n`);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, stdout: said.stdout.trim().split('\n'), stderr: said.stderr };
}

test('millrace chat holds a small talk, calls the weather tool, and extracts JSON', async () => {
  const { code, stdout, stderr } = await chat(
    ['--demo-tools'],
    ['Hello!', 'How are you?', 'What is the weather in Oslo?', 'Extract name, age as JSON: My name is Priya. I am 34 years old.'],
  );
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/demonstration model of [\d.]+ million parameters/);
  expect(stderr).toContain('the weather is made up');
  expect(stderr).toMatch(/^call: get_weather \{"city": "Oslo"\}$/m);
  const [greeting, wellbeing, weather, json] = stdout;
  expect(greeting).toMatch(/hello|hi/i);
  expect(wellbeing).toMatch(/fine|well/);
  expect(weather).toMatch(/Oslo.*\d+ degrees/);
  expect(JSON.parse(json)).toEqual({ name: 'Priya', age: 34 });
});

test('millrace chat --thinking shows the thought beside the answer, not in it', async () => {
  const { stdout, stderr } = await chat(['--thinking'], ['Rimu lives in Zetebu. Where does Rimu live?']);
  expect(stdout).toEqual(['Rimu lives in Zetebu.']);
  expect(stderr).toMatch(/I look for/);
});
