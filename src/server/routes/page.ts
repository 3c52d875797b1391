import { chatPage, chatPagePolicy } from '../page/chat-page.ts';
import { get } from './route.ts';

export const page = get(
  ['/'],
  'A chat page for the browser, without outside assets.',
  ({ reply }) => {
    reply.type('text/html; charset=utf-8').headers({
      'content-security-policy': chatPagePolicy,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-cache',
    });
    return chatPage;
  },
  { isOpen: true },
);
