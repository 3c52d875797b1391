import type { BeamGroup } from './beam-group.ts';
import { compareRanks } from './policies/policy.ts';
import type { Request } from './request.ts';

/** Who runs, in order of rank: the last is preempted first. Beams of one search stand together. */
export class RunningLine {
  readonly requests: Request[] = [];

  get size(): number {
    return this.requests.length;
  }

  /** Rows that are taken, those kept for beams to come among them. */
  get numRows(): number {
    let count = this.requests.length;
    for (const request of this.requests) if (request.beams?.leader === request) count += request.beams.numRowsToCome;
    return count;
  }

  insert(request: Request): void {
    let at = this.requests.length;
    while (at > 0 && compareRanks(request, this.requests[at - 1]) < 0) at--;
    this.requests.splice(at, 0, request);
  }

  remove(request: Request): void {
    this.requests.splice(this.requests.indexOf(request), 1);
  }

  sort(): void {
    this.requests.sort(compareRanks);
  }

  /** Takes out the last in rank, all beams of its search with it. */
  popLast(): readonly Request[] {
    const last = this.requests.pop();
    if (last === undefined) return [];
    const popped = [last];
    while (last.beams !== null && this.requests[this.requests.length - 1]?.beams === last.beams) popped.push(...this.requests.splice(-1));
    return popped;
  }

  /** Searches of whose beams some do not run. */
  folded(): BeamGroup[] {
    const found: BeamGroup[] = [];
    for (const { beams } of this.requests) {
      if (beams !== null && !found.includes(beams) && beams.beams.some(({ status }) => status === 'waiting')) found.push(beams);
    }
    return found;
  }
}
