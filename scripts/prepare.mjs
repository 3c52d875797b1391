/**
 * What has to be true before Millrace can run from a clone: packages installed, TypeScript compiled, the native addon built.
 * Each step is skipped when its inputs are unchanged. Only Node's own modules are used here: nothing is installed yet.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The folder of this clone. */
export const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** True when the module with this `import.meta.url` is the script that Node was started with. */
export function isMain(url) {
  return process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === fileURLToPath(url);
}

/** An error whose message is all that a person needs; run without a stack. */
export class PlainError extends Error {
  plain = true;
}

/** Prints one progress line, on stderr so that stdout stays the task's own. */
export function say(text) {
  process.stderr.write(`millrace: ${text}\n`);
}

/** Runs a program and resolves with its exit code; output goes where `stdio` says. */
export function run(program, args, { cwd = repository, env = process.env, stdio = 'inherit' } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio, shell: program.endsWith('.cmd') });
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? 128 + (os.constants.signals[signal] ?? 0)));
  });
}

/** Runs npm itself, the one that started us where there is one. */
export function npm(args, options) {
  const script = process.env.npm_execpath;
  if (script && /npm-cli\.[cm]?js$/.test(script)) return run(process.execPath, [script, ...args], options);
  return run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, options);
}

/** Folder for our caches of this user; the addon's binaries use the same. */
export function userCacheDir(env = process.env, home = os.homedir()) {
  return path.join(env.XDG_CACHE_HOME || path.join(home, '.cache'), 'millrace');
}

/** True when files can be created in `dir`. */
export function isWritable(dir) {
  const probe = path.join(dir, `.write-probe-${process.pid}`);
  try {
    fs.writeFileSync(probe, '');
    fs.rmSync(probe);
    return true;
  } catch {
    return false;
  }
}

/** All files under the given paths of `root`, relative, sorted, POSIX separators. */
export function listFiles(root, entries, keep = () => true) {
  const found = [];
  const visit = (relative) => {
    const stat = fs.statSync(path.join(root, relative), { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.isDirectory()) for (const name of fs.readdirSync(path.join(root, relative))) visit(`${relative}/${name}`);
    else if (keep(relative)) found.push(relative);
  };
  for (const entry of entries) visit(entry);
  return found.sort();
}

/** One hash of names and contents. */
export function hashFiles(root, files, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const file of files) {
    hash.update(`\0${file}\0`);
    if (fs.existsSync(path.join(root, file))) hash.update(fs.readFileSync(path.join(root, file)));
  }
  return hash.digest('hex');
}

function readText(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

/** Identifies what `npm ci` would install: the lockfile and what native packages are chosen by. */
export function installStamp(root) {
  return hashFiles(root, ['package-lock.json'], `${process.platform} ${process.arch} ${process.versions.modules}`);
}

/**
 * Whether `npm ci` must run, and why. A tree that somebody installed by hand counts when npm's own record of it (`node_modules/.package-lock.json`)
 * holds every required package of the lockfile in its version.
 */
export function installReason(root) {
  const stamp = readText(path.join(root, 'node_modules', '.millrace-install'));
  if (stamp === installStamp(root)) return null;
  const record = readText(path.join(root, 'node_modules', '.package-lock.json'));
  if (record === null) return 'packages are not installed yet';
  if (stamp !== null) return 'package-lock.json or the platform changed';
  const installed = JSON.parse(record).packages ?? {};
  const wanted = JSON.parse(readText(path.join(root, 'package-lock.json')) ?? '{}').packages ?? {};
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === '' || entry.optional || entry.devOptional) continue;
    if (installed[name]?.version !== entry.version) return `${name.replace(/^node_modules\//, '')} ${entry.version} is not installed`;
  }
  return null;
}

/** Installs packages when the lockfile asks for it. */
export async function install(root) {
  const reason = installReason(root);
  if (reason !== null) {
    say(`installing packages (${reason}) ...`);
    const started = Date.now();
    const code = await npm(['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: ['ignore', 2, 2] });
    if (code !== 0) {
      throw new PlainError(
        `Installing packages failed (npm ci exited with ${code}). Is the npm registry reachable? "npm ping" tells; then try again.`,
      );
    }
    say(`packages installed in ${seconds(started)}`);
  }
  try {
    fs.writeFileSync(path.join(root, 'node_modules', '.millrace-install'), installStamp(root));
  } catch {
    // A read-only tree that is installed already: the check above is repeated each time.
  }
}

const buildInputs = ['src', 'tsconfig.json', 'tsconfig.build.json', 'package.json', 'package-lock.json'];
const isTest = (file) => /\.test\.ts$/.test(file);

/** Compiles `src` to `dist` when a source changed; files that are not TypeScript are copied along. Returns false when nothing was to do. */
export async function compile(root) {
  const files = listFiles(root, buildInputs, (file) => !isTest(file));
  const wanted = hashFiles(root, files, process.version);
  const stampFile = path.join(root, 'dist', '.stamp');
  if (readText(stampFile) === wanted) return false;
  say('compiling TypeScript ...');
  const started = Date.now();
  fs.rmSync(stampFile, { force: true });
  const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const code = await run(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: ['ignore', 2, 2] });
  if (code !== 0) throw new PlainError('Compiling TypeScript failed; the messages above name the files.');
  for (const file of files) {
    if (!file.startsWith('src/') || /\.[cm]?ts$/.test(file)) continue;
    const target = path.join(root, 'dist', file.slice('src/'.length));
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.copyFileSync(path.join(root, file), target);
  }
  removeStale(root);
  fs.writeFileSync(stampFile, wanted);
  say(`compiled in ${seconds(started)}`);
  return true;
}

/** Deletes compiled files whose source is gone, so that a renamed module cannot be imported by its old name. */
function removeStale(root) {
  for (const file of listFiles(root, ['dist'], (name) => /\.js$/.test(name))) {
    const source = path.join(root, 'src', file.slice('dist/'.length).replace(/\.js$/, ''));
    if (fs.existsSync(`${source}.ts`) || fs.existsSync(`${source}.js`)) continue;
    const base = path.join(root, file.replace(/\.js$/, ''));
    for (const suffix of ['.js', '.js.map', '.d.ts', '.d.ts.map']) fs.rmSync(base + suffix, { force: true });
  }
}

/** `12 of 40 sources` on one line of a terminal; nothing elsewhere. */
function showCount(done, total) {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[Kmillrace: ${done} of ${total} sources${done < total ? '' : '\r\u001b[K'}`);
}

/**
 * Builds the native addon for this machine. A machine without a C++ compiler is no error.
 * @returns null when the addon is there, else why it is not and what to install
 */
export async function buildNative(root) {
  const file = path.join(root, 'dist', 'backends', 'native', 'build-addon.js');
  const { buildAddon } = await import(pathToFileURL(file).href);
  try {
    await buildAddon({ log: say, onProgress: showCount });
    return null;
  } catch (error) {
    return String(error?.message ?? error);
  }
}

function firstWritable(folders) {
  for (const folder of folders) {
    try {
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
      if (isWritable(folder)) return folder;
    } catch {
      // The next one, then.
    }
  }
  throw new PlainError(`None of these folders can be written: ${folders.join(', ')}. Set XDG_CACHE_HOME to one that can.`);
}

/** What a read-only clone is copied as, into the user's cache. */
const treeEntries = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'src',
  'native',
  'models',
  'scripts',
  'LICENSE',
  'README.md',
];

/**
 * The folder to work in: the clone itself, or, where nothing can be written, a copy in the user's cache, brought up to date.
 * A model inside the clone stays there: the copy links to it.
 */
export function workingTree(root, { writable = isWritable(root), cacheDir = userCacheDir() } = {}) {
  if (writable) return root;
  const key = createHash('sha256').update(root).digest('hex').slice(0, 12);
  const copy = firstWritable([path.join(cacheDir, 'trees', key), path.join(os.tmpdir(), `millrace-${os.userInfo().uid}`, key)]);
  say(`${root} is read-only; building in ${copy}`);
  const files = listFiles(root, treeEntries);
  const present = new Set(files);
  for (const file of listFiles(copy, treeEntries)) if (!present.has(file)) fs.rmSync(path.join(copy, file));
  for (const file of files) {
    const from = path.join(root, file);
    const to = path.join(copy, file);
    const bytes = fs.readFileSync(from);
    if (fs.existsSync(to) && fs.readFileSync(to).equals(bytes)) continue;
    fs.mkdirSync(path.dirname(to), { recursive: true });
    fs.writeFileSync(to, bytes);
  }
  const models = path.join(copy, 'pocket');
  if (fs.existsSync(path.join(root, 'pocket')) && !fs.existsSync(models)) fs.symlinkSync(path.join(root, 'pocket'), models, 'junction');
  return copy;
}

export function seconds(started) {
  return `${((Date.now() - started) / 1000).toFixed(1)} s`;
}

/** All steps; returns the folder that holds `dist` and `node_modules`. */
export async function prepare(root = repository, options = {}) {
  const tree = workingTree(root, options);
  await install(tree);
  await compile(tree);
  return { tree, nativeProblem: await buildNative(tree) };
}
