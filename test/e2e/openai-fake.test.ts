import { FakeEngine } from './fake-engine.ts';
import { describeOpenAiClient } from './openai-suite.ts';

describeOpenAiClient('a fake engine', async () => new FakeEngine({ names: ['fake', 'org/fake-1'] }), {
  prompt: 'Once upon a time',
  hasChatTemplate: true,
});
