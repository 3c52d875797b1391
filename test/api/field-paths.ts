/** Names of all fields of a request body: `stop`, `messages[].role`, `stream_options.include_usage`. */
interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly anyOf?: readonly Shape[];
  readonly items?: Shape;
}

/** Fields of the schema and, below them, those of their objects and lists; in the order of the schema. */
export function fieldPaths(schema: object, prefix = ''): string[] {
  const paths: string[] = [];
  for (const [name, field] of Object.entries((schema as Shape).properties ?? {})) {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    paths.push(path, ...below(field, path));
  }
  return [...new Set(paths)];
}

function below(schema: Shape, path: string): string[] {
  if (schema.anyOf !== undefined) return schema.anyOf.flatMap((branch) => below(branch, path));
  if (schema.items !== undefined) return below(schema.items, `${path}[]`);
  return fieldPaths(schema, path);
}
