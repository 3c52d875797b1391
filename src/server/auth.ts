import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { MillraceError } from '../base/errors.ts';

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

  /** @throws AUTH_INVALID */
  check(authorization: string | undefined): void {
    if (!this.required) return;
    const [, given] = /^bearer +(\S+) *$/i.exec(authorization ?? '') ?? [];
    const digest = this.#digest(given ?? '');
    let matches = false;
    for (const known of this.#digests) matches = timingSafeEqual(known, digest) || matches;
    if (given !== undefined && matches) return;
    throw new MillraceError('AUTH_INVALID', {
      message: given === undefined ? 'The request carries no API key.' : 'The API key is wrong.',
      hint: 'Send the header "Authorization: Bearer <key>".',
    });
  }

  #digest(key: string): Buffer {
    return createHmac('sha256', this.#salt).update(key).digest();
  }
}
