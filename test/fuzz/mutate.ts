/** Damage to files, the same for the same seed: bytes, JSON values, words of a text. */

export type RandomBelow = (below: number) => number;

/** Numbers in [0, below), the same in every run. */
export function randomNumbers(seed: number): RandomBelow {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const tellingIntegers = [0n, 1n, 7n, 255n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

/** One to four changes, most of them in the first `headerBytes`. */
export function mutateBytes(original: Uint8Array, headerBytes: number, random: RandomBelow): Buffer {
  let bytes = Buffer.from(original);
  for (let changes = 1 + random(4); changes > 0 && bytes.length > 0; changes--) {
    const at = random(random(8) === 0 ? bytes.length : Math.min(headerBytes, bytes.length));
    switch (random(6)) {
      case 0:
        bytes[at] ^= 1 << random(8);
        break;
      case 1:
        bytes[at] = random(256);
        break;
      case 2:
        if (at + 8 <= bytes.length) bytes.writeBigUInt64LE(tellingIntegers[random(tellingIntegers.length)], at);
        break;
      case 3:
        if (at + 4 <= bytes.length) bytes.writeUInt32LE(Number(tellingIntegers[random(tellingIntegers.length)] & 0xffffffffn), at);
        break;
      case 4:
        bytes = bytes.subarray(0, Math.max(1, at));
        break;
      default: {
        const from = random(bytes.length);
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + random(40)), bytes.subarray(at)]);
      }
    }
  }
  return bytes;
}

const tellingValues: readonly unknown[] = [
  null,
  true,
  false,
  0,
  1,
  -1,
  2,
  7,
  0.5,
  255,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  4e9,
  1e12,
  2 ** 53,
  -(2 ** 31),
  1e300,
  -0.0,
  '',
  'x',
  '../x',
  '/etc/passwd',
  'model.safetensors.index.json',
  '\u0000',
  '\ud800',
  '(a+)+$',
  '(?<x>\\p{L}{1,9999})',
  '[',
  '\\',
  '{{ x',
  '</s>',
  'x'.repeat(10_000),
  [],
  {},
  [[]],
  [null],
  { type: 'x' },
  [1e9],
  { factor: 0 },
];
const tellingKeys = ['__proto__', 'constructor', 'length', '', 'type', '../x', '0', '4294967295', 'x'.repeat(5000)];

interface Place {
  readonly holder: Record<string, unknown> | unknown[];
  readonly key: string | number;
}

/** Places of values in a tree, some of each long list only. */
function placesOf(root: unknown, random: RandomBelow): Place[] {
  const places: Place[] = [];
  const open: unknown[] = [root];
  while (open.length > 0 && places.length < 4000) {
    const holder = open.pop();
    if (typeof holder !== 'object' || holder === null) continue;
    const keys = Array.isArray(holder) ? holder.map((_, i) => i) : Object.keys(holder);
    const start = keys.length > 40 ? random(keys.length - 40) : 0;
    for (const key of keys.slice(start, start + 40)) {
      places.push({ holder: holder as Place['holder'], key });
      open.push((holder as Record<string | number, unknown>)[key]);
    }
  }
  return places;
}

/** One to three changes of values and keys; now and then of the text instead. */
export function mutateJson(original: Uint8Array, random: RandomBelow): Buffer {
  if (random(8) === 0) return mutateBytes(original, original.length, random);
  if (random(200) === 0) return Buffer.from('['.repeat(100_000));
  const root = JSON.parse(Buffer.from(original).toString('utf8')) as unknown;
  let text: string | null = null;
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const places = placesOf(root, random);
    if (places.length === 0) break;
    const { holder, key } = places[random(places.length)];
    const values = holder as Record<string | number, unknown>;
    const other = places[random(places.length)];
    switch (random(8)) {
      case 0:
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else delete values[key];
        break;
      case 1:
        values[key] = structuredClone((other.holder as Record<string | number, unknown>)[other.key]);
        break;
      case 2:
        if (Array.isArray(holder)) holder.push(...structuredClone(holder.slice(0, 100)));
        else
          Object.defineProperty(values, tellingKeys[random(tellingKeys.length)], {
            value: values[key],
            enumerable: true,
            configurable: true,
            writable: true,
          });
        break;
      case 3:
        if (typeof values[key] === 'number') values[key] = (values[key] as number) * [-1, 0.5, 2, 1000, 2 ** 32][random(5)];
        else values[key] = [values[key]];
        break;
      case 4:
        values[key] = { value: 'DEEP' };
        text = '['.repeat(random(50_000)) + ']'.repeat(random(50_000));
        break;
      default:
        values[key] = structuredClone(tellingValues[random(tellingValues.length)]);
    }
  }
  const written = JSON.stringify(root) ?? 'null';
  return Buffer.from(text === null ? written : written.replace('{"value":"DEEP"}', text));
}

/** Cuts, doubles, moves and swaps pieces of a text, and puts words of others in. */
export function mutateText(original: string, words: readonly string[], random: RandomBelow): string {
  let text = original;
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(text.length + 1);
    const from = random(text.length + 1);
    const piece = text.slice(from, from + random(60));
    switch (random(5)) {
      case 0:
        text = text.slice(0, at) + text.slice(at + random(30));
        break;
      case 1:
        text = text.slice(0, at) + piece + text.slice(at);
        break;
      case 2:
        text = text.slice(0, at) + piece.repeat(1 + random(200)) + text.slice(at);
        break;
      default:
        text = text.slice(0, at) + words[random(words.length)] + text.slice(at);
    }
  }
  return text;
}
