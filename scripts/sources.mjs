/** The code of this repository as the checks see it: files, syntax trees, imports. */
import fs from 'node:fs';
import path from 'node:path';
import { parseSync } from 'vite';
import { listFiles, repository } from './prepare.mjs';

/** TypeScript files of `src`, relative to the repository. */
export function sourceFiles(root = repository) {
  return listFiles(root, ['src'], (file) => file.endsWith('.ts') && !file.endsWith('.d.ts'));
}

export function parseFile(file, root = repository) {
  const text = fs.readFileSync(path.join(root, file), 'utf8');
  const parsed = parseSync(file, text, { lang: 'ts' });
  if (parsed.errors.length > 0) throw new Error(`${file}: ${parsed.errors[0].message}`);
  return { text, parsed };
}

/**
 * What a file imports: `{ specifier, typeOnly, line }`, from import, export-from and import() alike. An import whose names are all types is a
 * type import; a bare `import './x.ts'` and every `import()` are values.
 */
export function importsOf(text, parsed) {
  const found = [];
  const add = (specifier, typeOnly, offset) => found.push({ specifier, typeOnly, line: text.slice(0, offset).split('\n').length });
  for (const node of parsed.program.body) {
    if (node.type === 'ImportDeclaration') add(node.source.value, allTypes(node.importKind, node.specifiers, 'importKind'), node.start);
    if (node.type === 'ExportNamedDeclaration' && node.source)
      add(node.source.value, allTypes(node.exportKind, node.specifiers, 'exportKind'), node.start);
    if (node.type === 'ExportAllDeclaration') add(node.source.value, node.exportKind === 'type', node.start);
  }
  visit(parsed.program, (node) => {
    if (node.type === 'ImportExpression' && typeof node.source.value === 'string') add(node.source.value, false, node.start);
    if (node.type === 'TSImportType') add((node.source ?? node.argument?.literal ?? node.argument).value, true, node.start);
  });
  return found;
}

function allTypes(kind, specifiers, field) {
  return kind === 'type' || (specifiers.length > 0 && specifiers.every((specifier) => specifier[field] === 'type'));
}

/** Calls `enter(node, parent)` for each node of a syntax tree. */
export function visit(node, enter, parent = null) {
  enter(node, parent);
  for (const key in node) {
    const child = node[key];
    if (Array.isArray(child)) {
      for (const item of child) if (item && typeof item.type === 'string') visit(item, enter, node);
    } else if (child && typeof child.type === 'string') visit(child, enter, node);
  }
}
