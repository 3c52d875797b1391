import { Presets, SingleBar } from 'cli-progress';
import type { OutputStream } from './context.ts';

/** Downloads take long: how much, of how much, and how long still. */
const DOWNLOAD = '{stage} {bar} {percentage} % | {value} of {total} MB | {eta_formatted}';

/** Shows how far long work has come: a bar on a terminal, one line a stage elsewhere. Goes to stderr; stdout is for results. */
export class Progress {
  readonly #stream: OutputStream;
  readonly #quiet: boolean;
  #bar: SingleBar | null = null;
  #stage = '';

  constructor(stream: OutputStream, { quiet = false }: { quiet?: boolean } = {}) {
    this.#stream = stream;
    this.#quiet = quiet;
  }

  /** `total` 0: how long it takes is unknown. */
  update(stage: string, done: number, total: number): void {
    if (this.#quiet) return;
    if (stage !== this.#stage) this.#begin(stage, total);
    if (this.#bar === null) return;
    this.#bar.setTotal(Math.max(total, 1));
    this.#bar.update(Math.min(done, Math.max(total, 1)));
  }

  /** A line that stays, above whatever is drawn next. */
  line(text: string): void {
    this.stop();
    if (!this.#quiet) this.#stream.write(`millrace: ${text}\n`);
  }

  /** Removes the bar. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#stage = '';
  }

  #begin(stage: string, total: number): void {
    this.stop();
    this.#stage = stage;
    if (!this.#stream.isTTY) {
      this.#stream.write(`millrace: ${stage} ...\n`);
      return;
    }
    this.#bar = new SingleBar(
      {
        format: stage === 'download' ? DOWNLOAD : '{stage} {bar} {percentage} %',
        formatValue: megabytes,
        stream: this.#stream,
        clearOnComplete: true,
        hideCursor: true,
        barsize: 30,
      },
      Presets.shades_classic,
    );
    this.#bar.start(Math.max(total, 1), 0, { stage });
  }
}

function megabytes(value: number, _options: unknown, type: 'percentage' | 'total' | 'value' | string): string {
  return type === 'total' || type === 'value' ? (value / 1e6).toFixed(value < 1e8 ? 1 : 0) : String(value);
}
