import { deepseek } from './deepseek.ts';
import type { ToolCallFormat } from './format.ts';
import { functionGemma, gemma4 } from './gemma.ts';
import { glm } from './glm.ts';
import { harmony } from './harmony.ts';
import { hermes } from './hermes.ts';
import { apriel, nemotron } from './json-list.ts';
import { kimi } from './kimi.ts';
import { llama3Json } from './llama3-json.ts';
import { mistral } from './mistral.ts';
import { pythonic } from './pythonic.ts';
import { qwenXml, seedXml } from './qwen-xml.ts';
import { toolCode } from './tool-code.ts';

/** Every format of tool calls. The first that a template teaches is taken, so the more telling ones come first. */
export const toolCallFormats = [
  harmony,
  functionGemma,
  gemma4,
  mistral,
  deepseek,
  kimi,
  glm,
  pythonic,
  toolCode,
  seedXml,
  qwenXml,
  apriel,
  nemotron,
  hermes,
  llama3Json,
] as const satisfies readonly ToolCallFormat[];

/** The format that a chat template teaches, by its text; null when none is recognised. */
export function toolCallFormatOf(template: string): ToolCallFormat | null {
  return toolCallFormats.find((format) => format.isTaughtBy(template)) ?? null;
}

export function toolCallFormatNamed(name: string | null): ToolCallFormat | null {
  return toolCallFormats.find((format) => format.name === name) ?? null;
}
