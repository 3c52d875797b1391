import { createHash } from 'node:crypto';
import { MillraceError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import type { Engine } from '../engine/engine.ts';

/** One engine behind the server, with every name that it answers to; the first is canonical. */
export interface ServedModel {
  readonly names: readonly string[];
  readonly engine: Engine;
  /** Same release, model and number formats, same fingerprint: what the reproducibility contract asks to hold equal. */
  readonly systemFingerprint: string;
  /** Unix seconds at which the model was first served. */
  readonly createdAt: number;
}

/** The table model name -> engine. */
export class ModelTable {
  readonly #byName = new Map<string, ServedModel>();
  readonly served: readonly ServedModel[];

  /** @param engines names (aliases may repeat an engine); the engine's own served names are added */
  constructor(engines: ReadonlyMap<string, Engine>) {
    const namesOf = new Map<Engine, Set<string>>();
    for (const [name, engine] of engines) {
      const names = namesOf.get(engine) ?? new Set(engine.model.servedNames);
      namesOf.set(engine, names.add(name));
    }
    const createdAt = Math.floor(Date.now() / 1000);
    this.served = [...namesOf].map(([engine, names]) => ({
      names: [...names],
      engine,
      systemFingerprint: fingerprint(engine),
      createdAt,
    }));
    for (const model of this.served) for (const name of model.names) this.#claim(name, model);
  }

  /**
   * The model of that name; without a name, the only one.
   * @throws MODEL_UNKNOWN; REQUEST_INVALID when no name is given and several models are served
   */
  find(name: string | null | undefined): ServedModel {
    if (name === undefined || name === null || name === '') return this.#only();
    const model = this.#byName.get(name);
    if (model !== undefined) return model;
    throw new MillraceError('MODEL_UNKNOWN', {
      message: `The model ${quote(name)} is not served here.`,
      expected: `one of ${this.#list()}`,
      param: 'model',
    });
  }

  #only(): ServedModel {
    const [model, second] = this.served;
    if (model !== undefined && second === undefined) return model;
    throw new MillraceError('REQUEST_INVALID', {
      message: 'Several models are served: the request must name one.',
      expected: `one of ${this.#list()}`,
      param: 'model',
    });
  }

  #claim(name: string, model: ServedModel): void {
    const other = this.#byName.get(name);
    if (other !== undefined && other !== model) {
      throw new MillraceError('CONFIG_INVALID', { message: `Two models want the name ${quote(name)}.`, hint: 'Use --served-model-name.' });
    }
    this.#byName.set(name, model);
  }

  #list(): string {
    const names = [...this.#byName.keys()];
    return names.slice(0, 8).map(quote).join(', ') + (names.length > 8 ? ', ...' : '');
  }
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}

/** What a row's logits depend on besides its tokens; capacity (blocks, rows, threads) is not among it. */
const identityKeys = ['backend', 'isa', 'dtype', 'activation', 'weightFormat', 'loadFormat', 'kvDtype', 'blockSize'] as const;

function fingerprint({ model, config }: Engine): string {
  const identity = identityKeys.map((key) => String(config.values[key]));
  const hash = createHash('sha256').update(JSON.stringify([version, model.architecture, model.path, ...identity]));
  return `millrace-${version}-${hash.digest('hex').slice(0, 10)}`;
}
