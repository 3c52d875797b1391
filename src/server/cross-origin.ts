import type { FastifyReply, FastifyRequest } from 'fastify';

/**
 * CORS for the listed origins (`*`: every one), or null when none is listed. The function sets the headers and returns true when the request is
 * a preflight, which is answered without a body. Spec: WHATWG Fetch, "CORS protocol".
 */
export function crossOrigin(allowedOrigins: readonly string[]): ((request: FastifyRequest, reply: FastifyReply) => boolean) | null {
  if (allowedOrigins.length === 0) return null;
  const allowed = new Set(allowedOrigins.map((origin) => origin.replace(/\/$/, '').toLowerCase()));
  return ({ method, headers }, reply) => {
    const { origin } = headers;
    reply.header('vary', 'Origin');
    if (origin === undefined || !(allowed.has('*') || allowed.has(origin.toLowerCase()))) return false;
    reply.header('access-control-allow-origin', origin).header('access-control-expose-headers', 'x-request-id, x-stream-id, retry-after');
    if (method !== 'OPTIONS' || headers['access-control-request-method'] === undefined) return false;
    reply
      .header('access-control-allow-methods', 'GET, POST, DELETE')
      .header('access-control-allow-headers', headers['access-control-request-headers'] ?? 'authorization, content-type')
      .header('access-control-max-age', '600');
    return true;
  };
}
