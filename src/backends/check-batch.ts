/**
 * What a forward batch must obey whatever its author meant: every id, slot, block and count in range. Typed arrays answer a wrong index with
 * silence, so backends ask here first.
 */
import { MillraceError } from '../base/errors.ts';
import type { Plan } from '../plan/plan.ts';
import type { CacheSpec, CompileOptions, ForwardBatch } from './backend.ts';

export interface BatchRules {
  readonly plan: Plan;
  readonly limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>;
  readonly cache: CacheSpec | null;
  /** Rows sampled by the previous step, which negative token ids may name (S2). */
  readonly numSampled: number;
}

/** @throws BACKEND_STEP_FAILED naming the first rule that is broken */
export function checkBatch(batch: ForwardBatch, rules: BatchRules): void {
  checkCounts(batch, rules);
  checkTokenIds(batch, rules);
  checkRows(batch);
  if (rules.plan.nodes.some(({ op }) => op === 'kv-compress')) checkKept(batch);
  if (rules.plan.nodes[0]?.op === 'kv-rotate') checkRotated(batch);
  if (rules.cache !== null) checkCache(batch, rules.cache);
  else if (rules.plan.cacheGroups.length > 0) fail('the plan reads a cache and the entry names none');
}

function checkCounts({ numTokens, numRows, numLogitRows, positions, logitTokens }: ForwardBatch, { limits, plan }: BatchRules): void {
  if (numTokens < 0 || numTokens > limits.maxTokens) fail(`${numTokens} tokens, at most ${limits.maxTokens} were compiled for`);
  if (numLogitRows < 0 || numLogitRows > limits.maxLogitRows) fail(`${numLogitRows} logit rows, at most ${limits.maxLogitRows} were compiled for`);
  if (numRows < 0 || numRows > numTokens) fail(`${numRows} rows cannot share ${numTokens} tokens`);
  if (positions.length < plan.numPositionAxes * numTokens) fail(`positions has ${positions.length} entries for ${numTokens} tokens`);
  for (let i = 0; i < numLogitRows; i++) {
    if (!(logitTokens[i] >= 0 && logitTokens[i] < numTokens)) fail(`logit row ${i} follows token ${logitTokens[i]} of ${numTokens}`);
  }
}

function checkTokenIds({ numTokens, tokenIds }: ForwardBatch, { plan, numSampled }: BatchRules): void {
  if (plan.input.kind !== 'tokenIds') return;
  const vocabSize = vocabularyOf(plan);
  for (let token = 0; token < numTokens; token++) {
    const id = tokenIds[token];
    if (!(id < vocabSize)) fail(`token ${token} has id ${id}, the vocabulary has ${vocabSize}`);
    if (id < 0 && -1 - id >= numSampled) fail(`token ${token} stands for sampled row ${-1 - id}, the previous step sampled ${numSampled}`);
  }
}

/** Rows of the smallest table that the plan looks ids up in. */
function vocabularyOf(plan: Plan): number {
  let size = Infinity;
  for (const { op, weights } of plan.nodes) {
    if (op === 'embedding' && weights[0] !== null) size = Math.min(size, plan.weights[weights[0]].shape[0]);
  }
  return size;
}

function checkRows({ numRows, numTokens, rowStart, cacheIndex, visibleEnd }: ForwardBatch): void {
  if (numRows > 0 && (rowStart[0] !== 0 || rowStart[numRows] !== numTokens))
    fail(`rows cover [${rowStart[0]}, ${rowStart[numRows]}) of ${numTokens} tokens`);
  for (let row = 0; row < numRows; row++) if (rowStart[row] > rowStart[row + 1]) fail(`row ${row} ends before it starts`);
  for (let token = 0; token < numTokens; token++) {
    if (!(cacheIndex[token] >= 0 && visibleEnd[token] >= 0)) {
      fail(`token ${token} has cache index ${cacheIndex[token]} and visible end ${visibleEnd[token]}`);
    }
  }
}

function checkKept({ kept, numRows, rowStart, cacheIndex, visibleEnd }: ForwardBatch): void {
  if (kept === undefined || kept.length < 2 * numRows) fail('the plan compresses keys and the batch does not say how many stay');
  for (let row = 0; row < numRows; row++) {
    const numTokens = rowStart[row + 1] - rowStart[row];
    if (!(kept[2 * row] >= numTokens)) fail(`row ${row} keeps ${kept[2 * row]} keys and has ${numTokens} tokens`);
    if (!(kept[2 * row + 1] > 0 && kept[2 * row + 1] % 2 === 1)) fail(`row ${row} pools ${kept[2 * row + 1]} keys, which is not odd`);
    for (let token = rowStart[row]; token < rowStart[row + 1]; token++) {
      const isNext = token === rowStart[row] || cacheIndex[token] === cacheIndex[token - 1] + 1;
      if (!isNext || visibleEnd[token] !== cacheIndex[token] + 1) fail(`token ${token} of a row that is compressed is not one behind the other`);
    }
  }
}

/** Keys that a rotation reads are looked up at the cache index itself. */
function checkRotated({ numTokens, cacheIndex, visibleEnd }: ForwardBatch): void {
  for (let token = 0; token < numTokens; token++)
    if (visibleEnd[token] !== cacheIndex[token] + 1) fail(`token ${token} does not see the key that is turned`);
}

function checkCache(batch: ForwardBatch, { groups, blockSize }: CacheSpec): void {
  const { numTokens, numCopies, copies, ancestors } = batch;
  for (let copy = 0; copy < numCopies; copy++) {
    const [group, source, destination, tokens] = copies.subarray(4 * copy, 4 * copy + 4);
    const numBlocks = groups[group]?.numBlocks ?? 0;
    const fits = source >= 0 && source < numBlocks && destination >= 0 && destination < numBlocks && tokens >= 0 && tokens <= blockSize;
    if (!fits) fail(`copy ${copy} of ${tokens} tokens goes from block ${source} to ${destination} of ${numBlocks} in group ${group}`);
  }
  groups.forEach(({ numBlocks, name, kind }, group) => {
    const numSlots = kind === 'state' ? numBlocks : numBlocks * blockSize;
    for (let token = 0; token < numTokens; token++) {
      const slot = batch.slotMapping[group * numTokens + token];
      if (!(slot >= 0 && slot < numSlots)) fail(`token ${token} goes to slot ${slot} of ${numSlots} in group ${name}`);
    }
    if (kind === 'state') {
      checkStates(batch, group);
      return;
    }
    checkBlockTable(batch, group, numBlocks, groups[group].kind === 'window' ? (groups[group].window ?? 0) : 0, blockSize);
    if (ancestors === undefined) return;
    const total = ancestors.start[numTokens];
    for (let i = 0; i < total; i++) {
      const slot = ancestors.slots[group * total + i];
      if (!(slot >= 0 && slot < numSlots)) fail(`ancestor ${i} lies in slot ${slot} of ${numSlots} in group ${name}`);
    }
  });
}

/** The tokens of a row go to its state, which the table names. */
function checkStates({ numRows, numTokens, rowStart, blockTables, slotMapping, maxBlocks }: ForwardBatch, group: number): void {
  for (let row = 0; row < numRows; row++) {
    for (let token = rowStart[row]; token < rowStart[row + 1]; token++) {
      if (slotMapping[group * numTokens + token] !== blockTables[(group * numRows + row) * maxBlocks])
        fail(`token ${token} goes to a state that is not its row's`);
    }
  }
}

/** Every block that some token sees exists. Blocks behind the window may be -1. */
function checkBlockTable(batch: ForwardBatch, group: number, numBlocks: number, window: number, blockSize: number): void {
  const { numRows, rowStart, cacheIndex, visibleEnd, blockTables, maxBlocks } = batch;
  for (let row = 0; row < numRows; row++) {
    let first = Infinity;
    let end = 0;
    for (let token = rowStart[row]; token < rowStart[row + 1]; token++) {
      first = Math.min(first, window > 0 ? Math.max(0, cacheIndex[token] + 1 - window) : 0);
      end = Math.max(end, visibleEnd[token]);
    }
    if (end > maxBlocks * blockSize) fail(`row ${row} sees ${end} keys, its block table holds ${maxBlocks * blockSize}`);
    for (let place = Math.floor(first / blockSize); place * blockSize < end; place++) {
      const block = blockTables[(group * numRows + row) * maxBlocks + place];
      if (!(block >= 0 && block < numBlocks)) fail(`row ${row} sees block ${block} of ${numBlocks} at place ${place} in group ${group}`);
    }
  }
}

/** For schedulers under test: no two tokens of a step may write one slot. @throws BACKEND_STEP_FAILED */
export function checkSlotsDistinct(batch: ForwardBatch, { groups }: CacheSpec): void {
  groups.forEach(({ name, kind }, group) => {
    if (kind === 'state') return;
    const seen = new Set<number>();
    for (let token = 0; token < batch.numTokens; token++) {
      const slot = batch.slotMapping[group * batch.numTokens + token];
      if (seen.has(slot)) fail(`two tokens write slot ${slot} in group ${name}`);
      seen.add(slot);
    }
  });
}

function fail(complaint: string): never {
  throw new MillraceError('BACKEND_STEP_FAILED', `The batch breaks a rule: ${complaint}.`);
}
