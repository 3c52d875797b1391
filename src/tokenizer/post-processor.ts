/** What stands around a text, as the `post_processor` of tokenizer.json says. */
import { type Component, tokenizerInvalid } from './definition.ts';
import { isComponent } from './pre-tokenizer.ts';

export interface Surroundings {
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
}

const maxAround = 64;
const nothing: Surroundings = { prefixIds: [], suffixIds: [] };

/**
 * @param ids of the vocabulary by spelling
 * @throws TOKENIZER_INVALID when the post-processor is of an unknown kind, drops or doubles the text, or adds what is not in the vocabulary
 */
export function readPostProcessor(component: Component | null, ids: ReadonlyMap<string, number>): Surroundings {
  const around = component === null ? nothing : surroundingsOf(component, ids, 0);
  if (around.prefixIds.length + around.suffixIds.length > maxAround) throw invalid('adds too many tokens');
  return around;
}

function surroundingsOf(part: Component, ids: ReadonlyMap<string, number>, depth: number): Surroundings {
  switch (part.type) {
    case 'ByteLevel':
      return nothing;
    case 'Sequence': {
      if (!Array.isArray(part.processors) || part.processors.length > maxAround || depth > 4) throw invalid('is malformed');
      return part.processors.reduce<Surroundings>((inner, next: unknown) => {
        if (!isComponent(next)) throw invalid('is malformed');
        const outer = surroundingsOf(next, ids, depth + 1);
        return { prefixIds: [...outer.prefixIds, ...inner.prefixIds], suffixIds: [...inner.suffixIds, ...outer.suffixIds] };
      }, nothing);
    }
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { prefixIds: [namedToken(part.cls, ids)], suffixIds: [namedToken(part.sep, ids)] };
    case 'TemplateProcessing':
      return templateOf(part, ids);
    default:
      throw tokenizerInvalid(`The tokenizer uses the post-processor '${part.type.slice(0, 64)}', which is not known.`);
  }
}

/** `["[CLS]", 101]`. */
function namedToken(pair: unknown, ids: ReadonlyMap<string, number>): number {
  if (!Array.isArray(pair) || typeof pair[0] !== 'string') throw invalid('is malformed');
  return idOf(pair[0], ids);
}

function templateOf(part: Component, ids: ReadonlyMap<string, number>): Surroundings {
  if (!Array.isArray(part.single)) throw invalid('is malformed');
  const parts: unknown[] = part.single.slice(0, maxAround + 2);
  const text = parts.findIndex((piece) => isRecord(piece) && isRecord(piece.Sequence));
  if (text < 0 || parts.filter((piece) => isRecord(piece) && isRecord(piece.Sequence)).length > 1) throw invalid('does not keep the text');
  const specials = isRecord(part.special_tokens) ? part.special_tokens : {};
  const toIds = (piece: unknown): number[] => {
    const name = isRecord(piece) && isRecord(piece.SpecialToken) ? piece.SpecialToken.id : undefined;
    if (typeof name !== 'string') throw invalid('is malformed');
    const special = Object.hasOwn(specials, name) ? specials[name] : undefined;
    const spellings = isRecord(special) && Array.isArray(special.tokens) ? special.tokens.slice(0, maxAround) : [name];
    return spellings.map((spelling: unknown) => idOf(String(spelling), ids));
  };
  return { prefixIds: parts.slice(0, text).flatMap(toIds), suffixIds: parts.slice(text + 1).flatMap(toIds) };
}

function idOf(spelling: string, ids: ReadonlyMap<string, number>): number {
  const id = ids.get(spelling);
  if (id === undefined) throw invalid(`adds '${spelling.slice(0, 64)}', which is not in the vocabulary`);
  return id;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(what: string): Error {
  return tokenizerInvalid(`The tokenizer's post-processor ${what}.`);
}
