import { harmonyCalls, harmonyTags, parseHarmony, teachesHarmony } from '../harmony.ts';
import type { ToolCallFormat } from './format.ts';

/** `<|channel|>commentary to=functions.name <|constrain|>json<|message|>{...}<|call|>`: gpt-oss. Its channels are read with the calls. */
export const harmony: ToolCallFormat = {
  name: 'harmony',
  isTaughtBy: teachesHarmony,
  openTags: [],
  tokenTags: harmonyTags,
  callSyntax: (write, tools) => harmonyCalls(write, tools),
  *parse() {
    // there is no opening tag: the whole output is read by `parseOutput`
  },
  parseOutput: parseHarmony,
};
