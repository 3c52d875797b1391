import { chatCompletions } from './chat-completions.ts';
import { completions } from './completions.ts';
import { countTokens } from './count-tokens.ts';
import { detokenize } from './detokenize.ts';
import { health } from './health.ts';
import { messages } from './messages.ts';
import { metrics } from './metrics.ts';
import { listModels, retrieveModel } from './models.ts';
import { ollamaChat } from './ollama-chat.ts';
import { ollamaGenerate } from './ollama-generate.ts';
import { ollamaPs, ollamaShow, ollamaTags, ollamaVersion } from './ollama-models.ts';
import { openApi } from './openapi.ts';
import { page } from './page.ts';
import { listRequests, switchPolicy } from './requests.ts';
import { cancelResponse, countInputTokens, deleteResponse, listInputItems, responses, retrieveResponse } from './responses.ts';
import type { Route } from './route.ts';
import { resumeStream } from './streams.ts';
import { tokenize } from './tokenize.ts';
import { version } from './version.ts';

const described = [
  chatCompletions,
  completions,
  responses,
  retrieveResponse,
  deleteResponse,
  cancelResponse,
  listInputItems,
  countInputTokens,
  resumeStream,
  messages,
  countTokens,
  ollamaChat,
  ollamaGenerate,
  ollamaTags,
  ollamaShow,
  ollamaPs,
  ollamaVersion,
  listModels,
  retrieveModel,
  tokenize,
  detokenize,
  health,
  version,
  listRequests,
  switchPolicy,
  metrics,
  page,
] as const satisfies readonly Route[];

/** Every endpoint of the server. */
export const routes = [...described, openApi(described)] as const satisfies readonly Route[];
