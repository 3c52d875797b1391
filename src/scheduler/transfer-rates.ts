/** What computing a token costs and what moving its blocks to a tier and back does: measured, and asked before anything is moved. */

/** Tokens after which an observation has lost half of its weight. */
const HALF_LIFE_TOKENS = 8192;

/** Milliseconds a token: a mean weighted by tokens, older ones counting less. */
class Rate {
  #ms = 0;
  #tokens = 0;

  note(tokens: number, ms: number): void {
    const kept = 0.5 ** (tokens / HALF_LIFE_TOKENS);
    this.#ms = this.#ms * kept + ms;
    this.#tokens = this.#tokens * kept + tokens;
  }

  /** Nothing is measured while the answer is no: it counts for less and less, and then is asked anew. */
  fade(tokens: number): void {
    const kept = 0.5 ** (tokens / HALF_LIFE_TOKENS);
    this.#ms *= kept;
    this.#tokens *= kept;
    if (this.#tokens < 1) this.#tokens = 0;
  }

  /** Null while nothing has been measured. */
  get msPerToken(): number | null {
    return this.#tokens === 0 ? null : this.#ms / this.#tokens;
  }
}

/**
 * The scheduler's cost model. Whoever runs its steps notes what they took; a replay that notes the same decides the same. While one side has not been
 * measured, moving is tried: that is how it gets measured, and a tier is asked for only because someone gave it room.
 */
export class TransferRates {
  readonly #compute = new Rate();
  readonly #load = new Rate();
  readonly #store = new Rate();

  /** A step computed so many tokens. Decode steps cost far more a token than a prompt does; the weights let prompts dominate where there are any. */
  noteStep(tokens: number, ms: number): void {
    if (tokens > 0) this.#compute.note(tokens, ms);
  }

  /** So many tokens came from a tier: from asking to having them in the memory of the host. */
  noteLoad(tokens: number, ms: number): void {
    if (tokens > 0) this.#load.note(tokens, ms);
  }

  /** So many tokens lay in a tier and were computed instead. */
  noteRefusedLoad(tokens: number): void {
    this.#load.fade(tokens);
  }

  /** So many tokens were read out of the device. */
  noteStore(tokens: number, ms: number): void {
    if (tokens > 0) this.#store.note(tokens, ms);
  }

  /** Whether blocks that a tier holds come sooner than they could be computed. */
  get isLoadCheaper(): boolean {
    return isCheaper(this.#moveMs(1), this.#compute.msPerToken);
  }

  /** Whether blocks that leave the device are worth keeping: out and in again costs less than computing them again. */
  get isSwapCheaper(): boolean {
    return isCheaper(this.#moveMs(2), this.#compute.msPerToken);
  }

  /** Fetching a token, and crossing to or from the device so often: writing there takes what reading does. Null where nothing has been measured. */
  #moveMs(crossings: number): number | null {
    const { msPerToken: load } = this.#load;
    const { msPerToken: store } = this.#store;
    return load === null && store === null ? null : (load ?? 0) + crossings * (store ?? 0);
  }

  /** Milliseconds a token, null where nothing has been measured. */
  report(): { readonly compute: number | null; readonly load: number | null; readonly store: number | null } {
    return { compute: this.#compute.msPerToken, load: this.#load.msPerToken, store: this.#store.msPerToken };
  }
}

function isCheaper(cost: number | null, than: number | null): boolean {
  return cost === null || than === null || cost < than;
}
