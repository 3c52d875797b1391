import { expect, expectTypeOf, test } from 'vitest';
import { checkOptions, engineOptions, environmentName, type LoadOptions } from './config.ts';

test('defaults fill in what is not said, and the result is frozen', () => {
  const options = checkOptions({ model: 'm' });
  expect(options).toMatchObject({ model: 'm', dtype: 'auto', enablePrefixCaching: true, maxQueue: 1024, seed: null });
  expect(Object.isFrozen(options)).toBe(true);
});

test.each([
  [{ maxModelLen: 1 }, 'max-model-len', 'integer from 2'],
  [{ maxModelLen: 2.5 }, 'max-model-len', 'or auto'],
  [{ threads: 0 }, 'threads', 'from 1'],
  [{ dtype: 'int4' }, 'dtype', 'bfloat16, float16, float32'],
  [{ servedModelName: [] }, 'served-model-name', 'one or more names'],
  [{ enablePrefixCaching: 'yes' }, 'enable-prefix-caching', 'true or false'],
  [{ maxQueue: 'auto' }, 'max-queue', 'integer'],
  [{ maxModelLength: 5 }, 'maxModelLength', 'There is no such option'],
])('a wrong option is refused by its name with what it takes: %j', (given, name, expected) => {
  expect(() => checkOptions(given as LoadOptions)).toThrow(name);
  expect(() => checkOptions(given as LoadOptions)).toThrow(expected);
  expect(() => checkOptions(given as LoadOptions)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test('flags, names and environment names are unique and say what they mean', () => {
  const unique = (values: readonly string[]) => expect(new Set(values).size).toBe(values.length);
  unique(engineOptions.map((option) => option.flag));
  unique(engineOptions.map((option) => environmentName(option.flag)));
  expect(environmentName('max-model-len')).toBe('MILLRACE_MAX_MODEL_LEN');
  for (const { name, flag, meaning } of engineOptions) {
    expect(flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())).toBe(name);
    expect(meaning.endsWith('.')).toBe(true);
  }
});

test('the option type comes from the declarations', () => {
  expectTypeOf<LoadOptions['maxModelLen']>().toEqualTypeOf<number | 'auto' | undefined>();
  expectTypeOf<LoadOptions['dtype']>().toEqualTypeOf<'auto' | 'bfloat16' | 'float16' | 'float32' | undefined>();
  expectTypeOf<LoadOptions['servedModelName']>().toEqualTypeOf<readonly string[] | undefined>();
  expectTypeOf<LoadOptions['maxQueue']>().toEqualTypeOf<number | undefined>();
});
