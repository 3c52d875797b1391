/** `millrace/ai-sdk`: a provider for the Vercel AI SDK whose model runs in this process. */
export { createMillrace, type MillraceProvider } from './provider.ts';
