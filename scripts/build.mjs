/** `npm run build`: installs if needed, compiles TypeScript and the native addon. */
import { prepare, say } from './prepare.mjs';

export async function main() {
  const { tree, nativeProblem } = await prepare();
  if (nativeProblem !== null) say(nativeProblem);
  say(`built in ${tree}${nativeProblem === null ? '' : ' (without the native addon)'}`);
}
