/** Every test of the engine once more, with two steps in flight: the fixture reads the number from the environment. */
process.env.MILLRACE_TEST_IN_FLIGHT = '2';
await import('./loaded-engine.test.ts');
await import('./llm.test.ts');
