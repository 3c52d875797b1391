#!/usr/bin/env node
import { processContext } from './context.ts';
import { runCli } from './program.ts';

const context = processContext();
// A reader that has seen enough (`millrace run ... | head`) is no failure.
context.stdout.on('error', (error: NodeJS.ErrnoException) => context.forceExit(error.code === 'EPIPE' ? 0 : 1));
const code = await runCli(process.argv.slice(2), context);
// Written output must be out before the process ends; a handle that some library left open must not keep it alive.
context.stdout.write('', () => context.forceExit(code));
