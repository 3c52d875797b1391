/** `millrace/langchain`: a chat model for LangChain.js that runs in this process. */
export { ChatMillrace, type ChatMillraceCallOptions, type ChatMillraceFields } from './chat-model.ts';
