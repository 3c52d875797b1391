/** Opens HTTP requests: straight to the host, or through the proxy that the environment names. */
import http from 'node:http';
import https from 'node:https';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { HubSettings } from './settings.ts';

export type Proxies = HubSettings['proxies'];

/** The proxy for an address, or null. `no_proxy` entries name a host and all below it; `*` is every host. */
export function proxyFor(url: URL, proxies: Proxies): URL | null {
  const host = url.hostname.toLowerCase().replace(/^\[|\]$/g, '');
  const spared = proxies.except.some((entry) => {
    const [name, port] = entry.replace(/^\*?\./, '').split(':');
    const portFits = port === undefined || port === (url.port || (url.protocol === 'https:' ? '443' : '80'));
    return entry === '*' || (portFits && (host === name || host.endsWith(`.${name}`)));
  });
  if (spared) return null;
  return url.protocol === 'https:' ? proxies.https : proxies.http;
}

/** A request that is ready to be ended. Rejects when the proxy cannot be passed. */
export async function openRequest(url: URL, options: http.RequestOptions, proxies: Proxies, timeoutMs: number): Promise<http.ClientRequest> {
  const proxy = proxyFor(url, proxies);
  const open = url.protocol === 'https:' ? https.request : http.request;
  if (proxy === null) return open(url, options);
  const authorization = proxy.username === '' ? {} : { 'proxy-authorization': basic(proxy) };
  if (url.protocol === 'http:') {
    const headers = { ...(options.headers as http.OutgoingHttpHeaders), host: url.host, ...authorization };
    return openerOf(proxy)({ ...placeOf(proxy), ...options, headers, path: url.href });
  }
  const socket = await tunnel(url, proxy, { headers: authorization, signal: options.signal ?? null, timeoutMs });
  return https.request(url, { ...options, agent: false, createConnection: () => socket });
}

interface TunnelOptions {
  readonly headers: http.OutgoingHttpHeaders;
  readonly signal: AbortSignal | null;
  readonly timeoutMs: number;
}

function tunnel(url: URL, proxy: URL, { headers, signal, timeoutMs }: TunnelOptions): Promise<TLSSocket> {
  const target = `${url.hostname}:${url.port || 443}`;
  return new Promise((resolve, reject) => {
    const request = openerOf(proxy)({
      ...placeOf(proxy),
      method: 'CONNECT',
      path: target,
      headers: { host: target, ...headers },
      agent: false,
      ...(signal === null ? {} : { signal }),
    });
    request.setTimeout(timeoutMs, () => request.destroy(new Error(`the proxy ${proxy.host} says nothing`)));
    request.once('connect', ({ statusCode }, socket) => {
      if (statusCode === 200) resolve(connectTls({ socket, servername: url.hostname }));
      else {
        socket.destroy();
        reject(new Error(`the proxy ${proxy.host} answers ${statusCode}`));
      }
    });
    request.once('response', ({ statusCode }) => reject(new Error(`the proxy ${proxy.host} answers ${statusCode}`)));
    request.once('error', (error) => reject(new Error(`the proxy ${proxy.host}: ${error.message}`)));
    request.end();
  });
}

function openerOf(proxy: URL): typeof http.request {
  return proxy.protocol === 'https:' ? https.request : http.request;
}

function placeOf(proxy: URL): http.RequestOptions {
  return { host: proxy.hostname, port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80) };
}

function basic({ username, password }: URL): string {
  return `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64')}`;
}
