/** `multipleOf` as an automaton over the digits of a decimal: it counts the remainder. */
import { codePoints } from './code-points.ts';
import { grammarUnsupported, tooLarge } from './limits.ts';
import type { TextAutomaton } from './text-language.ts';

/** States that the remainders of a number may take. */
const MAX_REMAINDERS = 1000;

/**
 * Decimals without exponent that are multiples of `step`, by the rules of decimal arithmetic.
 * @throws GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE
 */
export function multipleAutomaton(step: number, path: string): TextAutomaton {
  const written = /^(\d+)(?:\.(\d+))?$/.exec(String(step));
  const exponent = /^(\d)e-(\d+)$/.exec(String(step));
  if (written === null && exponent === null) throw grammarUnsupported(`a "multipleOf" of ${step} at ${path}`);
  const decimals = exponent === null ? (written?.[2] ?? '').length : Number(exponent[2]);
  if (decimals > 12) throw grammarUnsupported(`a "multipleOf" of ${step} at ${path}`);
  const divisor = exponent === null ? Number(`${written?.[1]}${written?.[2] ?? ''}`) : Number(exponent[1]);
  if (divisor > MAX_REMAINDERS) throw tooLarge(`the "multipleOf" at ${path}`, `at most ${MAX_REMAINDERS} times its last digit`, String(step));
  return digitsAutomaton(divisor, decimals);
}

/** Nodes: 0 begins, 1 ends, then for each count of digits behind the point (none, 0 for the point itself, 1...) one for each remainder. */
function digitsAutomaton(divisor: number, decimals: number): TextAutomaton {
  const node = (places: number, remainder: number) => 2 + (places + 1) * divisor + remainder;
  const size = 2 + (decimals + 2) * divisor;
  const empty: number[][] = Array.from({ length: size }, () => []);
  const edges: { set: ReturnType<typeof codePoints>; target: number }[][] = Array.from({ length: size }, () => []);
  const character = (code: number) => codePoints([[code, code]]);
  edges[0].push({ set: character(0x2d), target: node(-1, 0) });
  empty[0].push(node(-1, 0));
  for (let places = -1; places <= decimals; places++) {
    const missing = decimals - Math.max(0, places);
    for (let remainder = 0; remainder < divisor; remainder++) {
      const at = node(places, remainder);
      if (places !== 0 && (BigInt(remainder) * 10n ** BigInt(missing)) % BigInt(divisor) === 0n) empty[at].push(1);
      if (places === -1 && decimals > 0) edges[at].push({ set: character(0x2e), target: node(0, remainder) });
      if (places === decimals && decimals > 0) {
        // zeros change nothing
        edges[at].push({ set: character(0x30), target: at });
        continue;
      }
      const next = places === -1 ? -1 : places + 1;
      for (let digit = 0; digit < 10; digit++)
        edges[at].push({ set: character(0x30 + digit), target: node(next, (remainder * 10 + digit) % divisor) });
    }
  }
  const none = edges.map(() => []);
  return { empty, edges, atStart: none, atEnd: none, universal: -1 };
}
