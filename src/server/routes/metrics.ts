import { get } from './route.ts';

export const metrics = get(
  ['/metrics'],
  'Prometheus text; `docs/metrics.md` names the series.',
  ({ context, reply }) => {
    reply.type(context.metrics.contentType);
    return context.metrics.render();
  },
  { isOpen: true },
);
