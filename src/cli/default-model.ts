/** Which model is served when nobody names one. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface DefaultModel {
  readonly path: string;
  /** `dummy`: the weights are random. */
  readonly loadFormat: 'auto' | 'dummy';
  readonly servedName: string;
  /** A line for people, or null when the model is a trained one. */
  readonly notice: string | null;
}

/** Folder of this package: two above both `src/cli` and `dist/cli`. */
const packageRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The trained model that comes with the package where it is there, else random weights of a tiny shape. */
export function defaultModel(root: string = packageRoot): DefaultModel {
  const trained = path.join(root, 'pocket', 'model');
  if (existsSync(path.join(trained, 'config.json'))) return { path: trained, loadFormat: 'auto', servedName: 'pocket', notice: null };
  return {
    path: path.join(root, 'models', 'random-tiny'),
    loadFormat: 'dummy',
    servedName: 'random-tiny',
    notice: 'The model has random weights: it shows that everything works and speaks gibberish. Name a real one with --model PATH.',
  };
}
