import { MillraceError } from '../base/errors.ts';
import type { ResolvedServerOptions } from './options.ts';

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]']);

/**
 * Guards a keyless loopback server against DNS rebinding: a page of a hostile site whose name was pointed at 127.0.0.1 sends that name
 * in `Host`. Returns the check, or null where it is not needed (reachable from outside anyway, or guarded by keys).
 */
export function hostCheck(options: ResolvedServerOptions): ((host: string | undefined) => void) | null {
  const isLoopback = options.host === 'localhost' || options.host === '::1' || options.host.startsWith('127.');
  if (!isLoopback || options.apiKeys.length > 0 || options.allowedHosts.includes('*')) return null;
  const allowed = new Set([...loopbackNames, options.host.toLowerCase(), ...options.allowedHosts.map((name) => name.toLowerCase())]);
  return (host) => {
    if (host === undefined) return; // HTTP/1.0 tools; every browser sends it.
    const name = host.toLowerCase().replace(/:\d*$/, '');
    if (allowed.has(name)) return;
    throw new MillraceError('HOST_NOT_ALLOWED', {
      message: `The Host header names ${JSON.stringify(host.slice(0, 200))}, which this loopback server does not serve.`,
      hint: 'Behind a proxy, start with --allowed-host NAME or set an API key.',
    });
  };
}
