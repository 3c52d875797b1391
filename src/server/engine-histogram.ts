import { Histogram, type MetricObjectWithValues, type MetricType, type MetricValueWithName, type Registry } from 'prom-client';
import type { SizeCounts } from '../engine/engine.ts';

type Labels = Readonly<Record<string, string>>;

export interface EngineHistogramOptions {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly registers: Registry[];
  /** One reading a series, at every scrape. */
  read(): readonly { readonly labels: Labels; readonly sizes: SizeCounts }[];
}

/** A histogram whose counts the engine keeps, so that its steps need not tell anybody. */
export class EngineHistogram extends Histogram {
  readonly #options: EngineHistogramOptions;

  constructor(options: EngineHistogramOptions) {
    const { name, help, labelNames, registers } = options;
    super({ name, help, labelNames: [...labelNames], registers });
    this.#options = options;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    const { name, help, read } = this.#options;
    const values = read().flatMap(({ labels, sizes }) => this.#series(labels, sizes));
    // what the declarations call an enum is a plain word at run time
    return { name, help, type: 'histogram' as unknown as MetricType, aggregator: 'sum', collect: () => undefined, values };
  }

  /** What the registry asks for when it renders text. */
  getForPromString(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    return this.get();
  }

  #series(labels: Labels, { bounds, counts, sum }: SizeCounts): MetricValueWithName<string>[] {
    const { name } = this.#options;
    let total = 0;
    const buckets = Array.from(counts, (count, i) => {
      total += count;
      return { metricName: `${name}_bucket`, labels: { le: String(bounds[i] ?? '+Inf'), ...labels }, value: total };
    });
    return [...buckets, { metricName: `${name}_sum`, labels, value: sum }, { metricName: `${name}_count`, labels, value: total }];
  }
}
