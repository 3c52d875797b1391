/** Whether two tokenizers read texts alike, by trying: for one that was written in another form. */
import type { Tokenizer } from './tokenizer.ts';

/** Where the known ways of cutting text differ: contractions, runs of digits, spaces and line ends, scripts, marks, symbols, code. In NFC. */
const probes: readonly string[] = [
  "Hello world, I'm sure you'LL say it isn't HE'S or WE'RE; they'd've 'quoted' 'tis.",
  '1 12 123 1234 12345678 3.14159 1,000,000 ½ ² ٣٤٥ 2024-01-31 v1.2.3 0x1F a1b22c333',
  ' leading  two   three    four\ttab\t\ttabs \n line\n\n two lines\r\nwindows\r\n\r\n   indented\n\t\tcode  \n  ',
  'def f(x):\n    return {"a": [1, 2], \'b\': x**2 != 3 && y || !z} // comment /* more */ <tag attr="v">&amp;</tag>',
  'Ünïcödé naïve café ÉCOLE straße ǅ ΑΒΓ αβγ Привет, МИР! Ђуро',
  '你好，世界！今天天气很好。 日本語のテキスト、カタカナ。 한국어 문장입니다. ภาษาไทย ខ្មែរ ລາວ မြန်မာ',
  'العربية نص مع أرقام ١٢٣ עברית हिन्दी में लिखा தமிழ் বাংলা',
  '🙂🙃 👩‍👩‍👧‍👦 🇩🇪 ✓ → ≠ ∑ ™ © € $5 £6 ¥7 %^&*()_+-=[]{}|;:\'",.<>/?`~ ... --- !!! ??? ',
  'CamelCaseWords snake_case_words SCREAMING_CASE XMLHttpRequest iPhone McDonald ABCdef abcDEF',
  'https://example.org/path?q=1&r=2#frag user@example.org #hashtag @name C:\\path\\file.txt ~/home',
  `${'a'.repeat(70)} ${'ab '.repeat(20)}${' '.repeat(33)}x${'\n'.repeat(5)}y${'9'.repeat(31)} ${'='.repeat(40)}`,
  '',
  ' ',
  '\n',
  'a',
];

/** Added tokens that are tried. */
const MOST_ADDED = 300;

/**
 * A text that two tokenizers read otherwise, or what else of them differs; null when no difference was found. Ids of `a` that end a generation must be of `b`, which
 * may have more.
 */
export function differenceOfTokenizers(a: Tokenizer, b: Tokenizer): string | null {
  if (a.bosTokenId !== b.bosTokenId) return 'the id that starts a text';
  if (!a.eosTokenIds.every((id) => b.eosTokenIds.includes(id))) return 'the ids that end a text';
  const added = [...a.specialTokenIds].slice(0, MOST_ADDED).map((id) => `x${a.tokenText(id)}y`);
  for (const text of [...probes, ...added]) {
    for (const addSpecialTokens of [true, false]) {
      const options = { addSpecialTokens, parseSpecial: true };
      const [ids, others] = [a.encode(text, options), b.encode(text, options)];
      if (ids.length !== others.length || ids.some((id, i) => others[i] !== id)) return JSON.stringify(text.slice(0, 60));
      if (a.decode(ids) !== b.decode(ids)) return `the text of ${JSON.stringify(text.slice(0, 60))}`;
    }
  }
  return null;
}

/** Pieces of all probes, for comparing ways of cutting. */
export function cutProbes({ split }: { split(text: string, sectionIndex: number): readonly string[] }): string {
  return JSON.stringify(probes.map((text) => split(text, 0)));
}
