/**
 * Size report: a file should stay under 400 lines and a function under 60. Over a budget is reported, over 125 % of it fails, unless the
 * place is listed below with its reason.
 */
import fs from 'node:fs';
import path from 'node:path';
import { isMain, listFiles, repository } from './prepare.mjs';
import { parseFile, sourceFiles, visit } from './sources.mjs';

export const budgets = { fileLines: 400, functionLines: 60 };
const near = 0.8;
const limit = 1.25;

/** `file` or `file#function` -> why it may be larger. */
export const exceptions = {};

const functionTypes = new Set(['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression']);

/** Functions of a file: `{ name, line, lines }`. */
export function functionsOf(text, parsed) {
  const lineOf = lineIndex(text);
  const found = [];
  visit(parsed.program, (node, parent) => {
    if (!functionTypes.has(node.type) || !node.body) return;
    found.push({ name: functionName(node, parent), line: lineOf(node.start), lines: lineOf(node.end) - lineOf(node.start) + 1 });
  });
  return found;
}

function functionName(node, parent) {
  const named = node.id ?? parent?.key ?? (parent?.type === 'VariableDeclarator' ? parent.id : null);
  return named?.name ?? '(anonymous)';
}

function lineIndex(text) {
  const starts = [0];
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) starts.push(i + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= offset) low = middle;
      else high = middle;
    }
    return low + 1;
  };
}

const lineCount = (text) => text.split('\n').length - (text.endsWith('\n') ? 1 : 0);

/** Sorts a size into `fine`, `near`, `over` (reported) or `fail`. */
export function verdict(size, budget, excepted) {
  if (size > budget * limit) return excepted ? 'over' : 'fail';
  if (size > budget) return 'over';
  return size > budget * near ? 'near' : 'fine';
}

export function main() {
  const counts = { fine: 0, near: 0, over: 0, fail: 0 };
  const report = (place, size, budget, what) => {
    const result = verdict(size, budget, exceptions[place] !== undefined);
    counts[result]++;
    if (result === 'fine' || result === 'near') return;
    console.log(
      `${result === 'fail' ? 'FAIL' : 'over'}  ${place}: ${size} ${what} (budget ${budget})${exceptions[place] ? `: ${exceptions[place]}` : ''}`,
    );
  };
  let files = 0;
  for (const file of sourceFiles()) {
    const { text, parsed } = parseFile(file);
    files++;
    report(file, lineCount(text), budgets.fileLines, 'lines');
    if (file.endsWith('.test.ts')) continue;
    for (const { name, line, lines } of functionsOf(text, parsed)) report(`${file}#${name}`, lines, budgets.functionLines, `lines, at line ${line}`);
  }
  for (const file of listFiles(repository, ['native', 'scripts', 'test'], (name) => /\.(cc|h|cu|mjs|cjs|ts)$/.test(name))) {
    files++;
    report(file, lineCount(fs.readFileSync(path.join(repository, file), 'utf8')), budgets.fileLines, 'lines');
  }
  console.log(`sizes: ${files} files; ${counts.near} things near their budget, ${counts.over} over it, ${counts.fail} far over it`);
  if (counts.fail > 0) process.exitCode = 1;
}

if (isMain(import.meta.url)) main();
