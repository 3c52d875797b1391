import { openAi } from '../dialect.ts';
import { sendKept } from '../generation.ts';
import { get } from './route.ts';

export const resumeStream = get(
  ['/v1/streams/:id'],
  'Takes up a stream that was asked to be kept, behind the event that `Last-Event-ID` names; without one, from its beginning.',
  async (call) => {
    const { request, exchange, context } = call;
    const { id } = request.params as { id: string };
    const lastEventId = request.headers['last-event-id'];
    const isGiven = typeof lastEventId === 'string' && lastEventId !== '';
    const { stream, after } = isGiven
      ? context.kept.findEvent(lastEventId, exchange.tenant)
      : { stream: context.kept.find(id, exchange.tenant), after: -1 };
    if (stream.id !== id) context.kept.find('', exchange.tenant);
    await sendKept(stream, after, openAi, call);
    return undefined;
  },
);
