/** What the environment says about the hub, in the variables that Hugging Face's own tools read. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { MillraceError } from '../base/errors.ts';

export interface HubSettings {
  /** Address without a slash at its end. */
  readonly endpoint: URL;
  /** Sent to the endpoint's origin only. */
  readonly token: string | null;
  /** Folder of `models--org--name` folders. */
  readonly cacheFolder: string;
  /** Never touch the network. */
  readonly offline: boolean;
  /** Longest wait for the head of an answer that says what there is, with a cached copy or without. */
  readonly metadataTimeoutMs: number;
  /** Longest silence in a download. */
  readonly stallTimeoutMs: number;
  /** Proxies by the protocol of the request, and hosts that go without. */
  readonly proxies: { readonly http: URL | null; readonly https: URL | null; readonly except: readonly string[] };
}

export type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const MOST_TOKEN_BYTES = 4096;

/** @throws CONFIG_INVALID naming the variable */
export function readHubSettings(env: Environment = process.env, home: string = homedir()): HubSettings {
  const expand = (path: string) => path.replace(/^~(?=$|\/)/, home);
  const cacheHome = env.XDG_CACHE_HOME || join(home, '.cache');
  const hfHome = expand(env.HF_HOME || join(cacheHome, 'huggingface'));
  return {
    endpoint: urlOf('HF_ENDPOINT', env.HF_ENDPOINT || DEFAULT_ENDPOINT),
    token: isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN) ? null : readToken(env, expand(env.HF_TOKEN_PATH || join(hfHome, 'token'))),
    cacheFolder: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(hfHome, 'hub')),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    metadataTimeoutMs: secondsOf('HF_HUB_ETAG_TIMEOUT', env.HF_HUB_ETAG_TIMEOUT) ?? 10_000,
    stallTimeoutMs: secondsOf('HF_HUB_DOWNLOAD_TIMEOUT', env.HF_HUB_DOWNLOAD_TIMEOUT) ?? 30_000,
    proxies: {
      http: proxyOf('http_proxy', env) ?? proxyOf('all_proxy', env),
      https: proxyOf('https_proxy', env) ?? proxyOf('all_proxy', env),
      except: (env.no_proxy ?? env.NO_PROXY ?? '').split(',').flatMap((host) => host.trim().toLowerCase() || []),
    },
  };
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && /^(1|on|yes|true)$/i.test(value);
}

function secondsOf(name: string, value: string | undefined): number | null {
  if (value === undefined || value === '') return null;
  const seconds = Number(value);
  if (seconds > 0 && seconds <= 86_400) return seconds * 1000;
  throw new MillraceError('CONFIG_INVALID', { message: `${name} cannot be that.`, expected: 'seconds, up to 86400', received: value.slice(0, 40) });
}

function urlOf(name: string, value: string): URL {
  if (URL.canParse(value)) {
    const url = new URL(value);
    if (url.protocol === 'https:' || url.protocol === 'http:') return url;
  }
  // the value may hold a password
  throw new MillraceError('CONFIG_INVALID', { message: `${name} cannot be that.`, expected: 'an address that starts with https:// or http://' });
}

function proxyOf(name: string, env: Environment): URL | null {
  const value = env[name] ?? env[name.toUpperCase()];
  if (value === undefined || value === '') return null;
  return urlOf(name, value.includes('://') ? value : `http://${value}`);
}

/** @throws CONFIG_INVALID for a token that cannot be part of a header */
function readToken(env: Environment, path: string): string | null {
  const token = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? tokenFile(path)).trim();
  if (token === '') return null;
  if (token.length <= MOST_TOKEN_BYTES && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'HF_TOKEN, or the token file, does not hold a token.',
    expected: 'one word of plain letters',
  });
}

function tokenFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').slice(0, MOST_TOKEN_BYTES + 2);
  } catch {
    return '';
  }
}
