/** `millrace/fetch`: the HTTP API without a port, to be mounted in another server. */
export { createFetchHandler, type FetchHandler, type FetchOptions } from './fetch-handler.ts';
