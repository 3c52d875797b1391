/*
 * First file that `npm start`, `npm test` and `npm run build` execute: `node scripts/run.cjs <task> [arguments]`.
 * It is written in the JavaScript of 2009 on purpose, so that an old Node prints a sentence instead of a syntax error.
 */
var needed = 20;
var version = process.versions && process.versions.node ? process.versions.node : '0';
if (parseInt(version.split('.')[0], 10) < needed) {
  console.error('Millrace needs Node.js ' + needed + ' or newer; this is Node.js ' + version + '.');
  console.error('Install a current one from https://nodejs.org, or with a version manager: nvm install 22');
  process.exit(1);
} else {
  require('./load.cjs')('./' + process.argv[2] + '.mjs', process.argv.slice(3));
}
