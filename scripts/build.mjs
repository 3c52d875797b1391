/** `npm run build`: installs if needed, compiles TypeScript and the native addon. */
import { prepare, say } from './prepare.mjs';

export async function main() {
  const { tree, hasNative } = await prepare();
  say(`built in ${tree}${hasNative ? '' : ' (without the native addon)'}`);
}
