/** Entry of the worker that builds the trees of a vocabulary, off the thread that serves. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ByteTree, buildTables, type VocabularyTokens } from '../sampling/grammar/vocabulary-tables.ts';

const tables = buildTables(workerData as VocabularyTokens);

const ofTree = ({ byte, depth, next, tokenStart, tokens }: ByteTree) => [byte, depth, next, tokenStart, tokens];
const { plain, controls, rest, plainBelow, kindsBelow, plainMasks } = tables;
const arrays = [...[plain, controls, rest].flatMap(ofTree), plainBelow, kindsBelow, ...plainMasks];
parentPort?.postMessage(tables, Array.from(new Set(arrays.map(({ buffer }) => buffer as ArrayBuffer))));
