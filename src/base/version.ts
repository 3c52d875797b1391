import { readFileSync } from 'node:fs';

/** Version of this package, from package.json (two folders up, both from `src/base` and from `dist/base`). */
export const version: string = readVersion();

function readVersion(): string {
  try {
    const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    if (typeof manifest === 'object' && manifest !== null && 'version' in manifest) return String(manifest.version);
  } catch {
    // A bundled copy has no manifest beside it.
  }
  return 'unknown';
}
