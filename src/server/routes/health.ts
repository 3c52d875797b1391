import { get } from './route.ts';

export const health = get(
  ['/health'],
  '200 while every model makes progress; 503 when one has work and is stuck or closed, and while the server drains.',
  ({ context, reply }) => {
    const reading = context.health();
    if (reading.status !== 'ok') reply.code(503);
    return reading;
  },
  { isOpen: true },
);
