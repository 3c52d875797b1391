/** Methods of `str` about upper and lower case. */
import { positional } from './arguments.ts';
import type { Runtime } from './runtime.ts';
import type { StringMethod } from './string-methods.ts';
import type { Value } from './values.ts';

const cased = /\p{Uppercase}|\p{Lowercase}|\p{Lt}/u;

export function upper(rt: Runtime, text: string): string {
  rt.room(text.length);
  const changed = text.toUpperCase();
  rt.room(changed.length);
  return changed;
}

export function lower(rt: Runtime, text: string): string {
  rt.room(text.length);
  return text.toLowerCase();
}

/** One character as it starts a word. */
function titleCase(character: string): string {
  const short = titleForms.get(character);
  if (short !== undefined) return short;
  const changed = character.toUpperCase();
  // A letter such as the German sharp s becomes two, of which only the first stays a capital.
  const [first = '', ...rest] = changed;
  return rest.length === 0 ? changed : first + rest.join('').toLowerCase();
}

/** Digraphs with a form of their own for the start of a word. */
const titleForms: ReadonlyMap<string, string> = new Map(
  ['\u01c4\u01c5\u01c6', '\u01c7\u01c8\u01c9', '\u01ca\u01cb\u01cc', '\u01f1\u01f2\u01f3'].flatMap((forms) =>
    [...forms].map((form): [string, string] => [form, forms[1]]),
  ),
);

/** `str.capitalize` */
export function capitalize(rt: Runtime, text: string): string {
  rt.room(text.length);
  const [first = ''] = text;
  return titleCase(first) + text.slice(first.length).toLowerCase();
}

/** `str.title`: a letter that follows none is a capital. */
export function title(rt: Runtime, text: string): string {
  rt.room(text.length * 2);
  let inWord = false;
  let changed = '';
  for (const character of text) {
    changed += inWord ? character.toLowerCase() : titleCase(character);
    inWord = cased.test(character);
  }
  return changed;
}

function swapCase(rt: Runtime, text: string): string {
  rt.room(text.length * 2);
  let changed = '';
  for (const character of text) changed += character === character.toLowerCase() ? character.toUpperCase() : character.toLowerCase();
  return changed;
}

/** `islower`, `isupper`: there is a cased character and all of them are of the case. */
export function isLower(rt: Runtime, text: string): boolean {
  rt.scan(text.length * 2);
  return cased.test(text) && !/\p{Uppercase}|\p{Lt}/u.test(text);
}

export function isUpper(rt: Runtime, text: string): boolean {
  rt.scan(text.length * 2);
  return cased.test(text) && !/\p{Lowercase}|\p{Lt}/u.test(text);
}

function isTitle(rt: Runtime, text: string): boolean {
  return cased.test(text) && title(rt, text) === text;
}

function caseMethod(name: string, run: (rt: Runtime, self: string) => Value): [string, StringMethod] {
  return [
    name,
    (rt, self, args, kwargs) => {
      positional(`str.${name}`, args, kwargs, 0, 0);
      return run(rt, self);
    },
  ];
}

export const caseMethods: readonly [string, StringMethod][] = [
  caseMethod('upper', upper),
  caseMethod('lower', lower),
  caseMethod('casefold', (rt, self) => lower(rt, self).replaceAll('\u00df', 'ss')),
  caseMethod('capitalize', capitalize),
  caseMethod('title', title),
  caseMethod('swapcase', swapCase),
  caseMethod('islower', isLower),
  caseMethod('isupper', isUpper),
  caseMethod('istitle', isTitle),
];
