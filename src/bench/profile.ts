/** Where the time of steps goes: nodes of the plan that differ in the number of their layer alone in one line, then sampling and what lies between steps. */
import type { NodeTime } from '../backends/backend.ts';
import { textTable } from './report.ts';

/** What ran since the last reading. */
export interface ProfileReading {
  readonly nodes: readonly NodeTime[];
  readonly steps: number;
  /** On the device, sampling included. */
  readonly deviceMs: number;
  readonly sampleMs: number;
  /** JavaScript: schedule, fill, output. */
  readonly hostMs: number;
  readonly elapsedMs: number;
}

export interface ProfileLine {
  readonly what: string;
  readonly callsPerStep: number;
  readonly microsecondsPerStep: number;
  /** Part of it in which the first thread waited for the others. */
  readonly waitMicroseconds: number;
  /** Of weights; 0 where there are none. */
  readonly gbPerSecond: number;
}

/** @param weightBytes of a node, all that it reads in a call */
export function profileLines(readings: readonly ProfileReading[], weightBytes: (node: string) => number): ProfileLine[] {
  const sum = (of: (reading: ProfileReading) => number): number => readings.reduce((total, reading) => total + of(reading), 0);
  const steps = sum((reading) => reading.steps);
  if (steps === 0) return [];
  const groups = new Map<string, { calls: number; microseconds: number; wait: number; bytes: number }>();
  for (const { node, op, calls, microseconds, waitMicroseconds } of readings.flatMap((reading) => reading.nodes)) {
    if (calls === 0) continue;
    const what = `${node.replace(/\d+/g, '*')} (${op})`;
    const group = groups.get(what) ?? { calls: 0, microseconds: 0, wait: 0, bytes: 0 };
    groups.set(what, {
      calls: group.calls + calls,
      microseconds: group.microseconds + microseconds,
      wait: group.wait + waitMicroseconds,
      bytes: group.bytes + calls * weightBytes(node),
    });
  }
  const lines = Array.from(groups, ([what, { calls, microseconds, wait, bytes }]) => ({
    what,
    callsPerStep: calls / steps,
    microsecondsPerStep: microseconds / steps,
    waitMicroseconds: wait / steps,
    gbPerSecond: bytes / microseconds / 1000,
  }));
  const inNodes = lines.reduce((total, line) => total + line.microsecondsPerStep, 0);
  const plain = (what: string, microsecondsPerStep: number): ProfileLine => ({
    what,
    callsPerStep: 1,
    microsecondsPerStep,
    waitMicroseconds: 0,
    gbPerSecond: 0,
  });
  const perStep = (ms: number): number => (ms * 1000) / steps;
  const [device, sample, host, elapsed] = [sum((r) => r.deviceMs), sum((r) => r.sampleMs), sum((r) => r.hostMs), sum((r) => r.elapsedMs)].map(
    perStep,
  );
  return [
    ...lines,
    plain('between nodes', device - sample - inNodes),
    plain('sampling', sample),
    plain('JavaScript: schedule, fill, output', host),
    plain('handing over, promises, readers', elapsed - device - host),
    plain('whole step', elapsed),
  ];
}

export function profileText(lines: readonly ProfileLine[]): string {
  if (lines.length === 0) return 'no steps were counted';
  const whole = lines[lines.length - 1].microsecondsPerStep;
  const rows = lines.map((line) => [
    line.what,
    line.callsPerStep.toFixed(line.callsPerStep % 1 === 0 ? 0 : 2),
    line.microsecondsPerStep.toFixed(1),
    `${((100 * line.microsecondsPerStep) / whole).toFixed(1)} %`,
    line.waitMicroseconds === 0 ? '' : line.waitMicroseconds.toFixed(1),
    line.gbPerSecond === 0 ? '' : line.gbPerSecond.toFixed(1),
  ]);
  return textTable([['node', 'calls', 'us a step', 'share', 'waited', 'GB/s'], ...rows]);
}
