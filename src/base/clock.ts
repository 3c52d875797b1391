/** Source of time. Everything that must be replayable takes one as a parameter. */
export interface Clock {
  /** Milliseconds from an arbitrary origin, monotonic. */
  nowMs(): number;
}

export const realClock: Clock = { nowMs: () => performance.now() };

/** A clock that moves only when told to: for the simulator and for tests. */
export class VirtualClock implements Clock {
  #nowMs = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}
