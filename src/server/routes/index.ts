import { chatCompletions } from './chat-completions.ts';
import { completions } from './completions.ts';
import { detokenize } from './detokenize.ts';
import { health } from './health.ts';
import { metrics } from './metrics.ts';
import { listModels, retrieveModel } from './models.ts';
import { page } from './page.ts';
import type { Route } from './route.ts';
import { tokenize } from './tokenize.ts';
import { listRequests, switchPolicy } from './requests.ts';
import { version } from './version.ts';

/** Every endpoint of the server. */
export const routes = [
  chatCompletions,
  completions,
  listModels,
  retrieveModel,
  tokenize,
  detokenize,
  health,
  version,
  metrics,
  page,
] as const satisfies readonly Route[];
  listRequests,
  switchPolicy,
