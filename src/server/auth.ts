import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { MillraceError } from '../base/errors.ts';
import type { ResolvedServerOptions } from './options.ts';

/** Checks `Authorization: Bearer KEY` in time that depends on neither the keys nor the guess. */
export class ApiKeyCheck {
  // Digests under a key drawn at start have one length and tell nothing about the secret.
  readonly #salt = randomBytes(32);
  readonly #digests: readonly Buffer[];

  constructor(apiKeys: readonly string[]) {
    if (apiKeys.some((key) => key.length === 0)) throw new MillraceError('CONFIG_INVALID', 'An API key is empty.');
    this.#digests = apiKeys.map((key) => this.#digest(key));
  }

  get required(): boolean {
    return this.#digests.length > 0;
  }

  /**
   * @returns a name for who holds the key, the same until the process ends and telling nothing of the key; '' when no key is wanted
   * @throws AUTH_INVALID
   */
  check(authorization: string | undefined): string {
    if (!this.required) return '';
    const [, given] = /^bearer +(\S+) *$/i.exec(authorization ?? '') ?? [];
    const digest = this.#digest(given ?? '');
    let matches = false;
    for (const known of this.#digests) matches = timingSafeEqual(known, digest) || matches;
    if (given !== undefined && matches) return `key-${digest.toString('hex').slice(0, 16)}`;
    throw new MillraceError('AUTH_INVALID', {
      message: given === undefined ? 'The request carries no API key.' : 'The API key is wrong.',
      hint: 'Send the header "Authorization: Bearer <key>".',
    });
  }

  #digest(key: string): Buffer {
    return createHmac('sha256', this.#salt).update(key).digest();
  }
}

/**
 * Who may use the endpoints of administrators: whoever holds an administrator's key. Without such keys, whoever reaches a server that listens on
 * loopback only and wants no API key, for then that is somebody on this machine.
 */
export function adminCheck({
  adminKeys,
  apiKeys,
  host,
}: Pick<ResolvedServerOptions, 'adminKeys' | 'apiKeys' | 'host'>): (authorization: string | undefined) => void {
  if (adminKeys.length > 0) {
    const keys = new ApiKeyCheck(adminKeys);
    return (authorization) => void keys.check(authorization);
  }
  const isAlone = apiKeys.length === 0 && (host === 'localhost' || host === '::1' || host.startsWith('127.'));
  return () => {
    if (isAlone) return;
    throw new MillraceError('ADMIN_ONLY', { message: 'This endpoint is for administrators.', hint: 'Start the server with --admin-key.' });
  };
}
