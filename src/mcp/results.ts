/** What an MCP tool returns, as the text that a model is told. */

interface Part {
  readonly type: string;
  readonly text?: unknown;
  readonly data?: unknown;
  readonly mimeType?: unknown;
  readonly name?: unknown;
  readonly uri?: unknown;
  readonly resource?: unknown;
}

/** Texts and embedded texts as they are; pictures, sounds and other bytes are named only, since the model reads text. */
export function textOfResult(result: Readonly<Record<string, unknown>>): string {
  const parts = Array.isArray(result.content) ? (result.content as readonly Part[]) : [];
  const text = parts.map(textOfPart).join('\n');
  if (text !== '' || result.structuredContent === undefined) return text;
  return JSON.stringify(result.structuredContent);
}

function textOfPart(part: Part): string {
  if (part.type === 'text') return String(part.text ?? '');
  if (part.type === 'resource_link') return `${String(part.name ?? 'resource')}: ${String(part.uri ?? '')}`;
  if (part.type !== 'resource') return leftOut(part.type, part.mimeType, part.data);
  const { text, blob, uri, mimeType } = (part.resource ?? {}) as Readonly<Record<string, unknown>>;
  return typeof text === 'string' ? text : `${leftOut('resource', mimeType, blob)} ${String(uri ?? '')}`.trimEnd();
}

function leftOut(kind: string, mimeType: unknown, data: unknown): string {
  const bytes = typeof data === 'string' ? `, ${Math.floor((data.length * 3) / 4)} bytes` : '';
  return `[${kind}${typeof mimeType === 'string' ? ` of type ${mimeType}` : ''}${bytes}: not shown, since only text can be read here]`;
}
