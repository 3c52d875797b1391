/** Flags of `millrace serve` and what they mean to the server. */
import pino, { type DestinationStream } from 'pino';
import { MillraceError } from '../base/errors.ts';
import type { ServerOptions } from '../server/options.ts';
import type { FlagDeclaration } from './flags.ts';

type DurationOption = 'drainMs' | 'stallMs' | 'pingIntervalMs' | 'writeTimeoutMs' | 'requestTimeoutMs' | 'resumeWindowMs' | 'responseTtlMs';

interface DurationFlag {
  readonly flag: string;
  readonly option: DurationOption;
  /** Default. */
  readonly seconds: number;
  readonly least: number;
  readonly meaning: string;
}

/** Flags in seconds, as people think; options in milliseconds, as timers do. */
const durations: readonly DurationFlag[] = [
  { flag: 'shutdown-timeout', option: 'drainMs', seconds: 30, least: 0, meaning: 'how long running requests may finish after SIGTERM' },
  {
    flag: 'stall-timeout',
    option: 'stallMs',
    seconds: 120,
    least: 0.001,
    meaning: 'when requests wait and no step finishes for this long, `/health` answers 503',
  },
  {
    flag: 'ping-interval',
    option: 'pingIntervalMs',
    seconds: 15,
    least: 0.001,
    meaning: 'a silent stream gets a comment this often, so that proxies keep it open',
  },
  {
    flag: 'write-timeout',
    option: 'writeTimeoutMs',
    seconds: 120,
    least: 0.001,
    meaning: 'a client that reads nothing for this long is dropped',
  },
  {
    flag: 'request-timeout',
    option: 'requestTimeoutMs',
    seconds: 300,
    least: 0.001,
    meaning: 'longest time in which a whole request body must arrive',
  },
  {
    flag: 'resume-window',
    option: 'resumeWindowMs',
    seconds: 30,
    least: 0.001,
    meaning: 'how long a stream with `x-stream-resume: 1` waits for its client to come back, and is kept behind its end',
  },
  { flag: 'response-ttl', option: 'responseTtlMs', seconds: 3600, least: 0.001, meaning: 'how long a stored response is kept behind its end' },
];
/** Timers take no more milliseconds than a 31-bit number holds. */
const MOST_SECONDS = 2_147_483;
/** Longer bodies do not fit a JavaScript string. */
const MOST_BODY_BYTES = 2 ** 28;

export const serverFlags: readonly FlagDeclaration[] = [
  {
    name: 'host',
    flag: 'host',
    kind: 'string',
    default: '127.0.0.1',
    placeholder: 'ADDRESS',
    meaning: 'address to listen on; 0.0.0.0 is every interface',
  },
  { name: 'port', flag: 'port', kind: 'integer', default: 8000, meaning: 'port to listen on; 0 takes any free one' },
  { name: 'apiKeys', flag: 'api-key', kind: 'strings', placeholder: 'KEY', meaning: 'key that clients must send; may be repeated' },
  {
    name: 'adminKeys',
    flag: 'admin-key',
    kind: 'strings',
    placeholder: 'KEY',
    meaning: 'key for `/v1/requests` and `/v1/scheduling-policy`; may be repeated',
  },
  {
    name: 'allowedOrigins',
    flag: 'allowed-origin',
    kind: 'strings',
    placeholder: 'ORIGIN',
    meaning: 'web page origin that may call from a browser (CORS); may be repeated',
  },
  {
    name: 'allowedHosts',
    flag: 'allowed-host',
    kind: 'strings',
    placeholder: 'NAME',
    meaning: 'Host header accepted besides the loopback names; may be repeated',
  },
  {
    name: 'maxBodyBytes',
    flag: 'max-body-bytes',
    kind: 'integer',
    default: 33_554_432,
    placeholder: 'BYTES',
    meaning: 'largest request body; a larger one is answered with 413',
  },
  { name: 'maxResponses', flag: 'max-responses', kind: 'integer', default: 1024, meaning: 'stored responses; the oldest go first' },
  {
    name: 'maxResponseBytes',
    flag: 'max-response-bytes',
    kind: 'integer',
    default: 67_108_864,
    placeholder: 'BYTES',
    meaning: 'JSON of all stored responses; the oldest go first',
  },
  ...durations.map(
    ({ flag, seconds, meaning }): FlagDeclaration => ({ name: flag, flag, kind: 'number', default: seconds, placeholder: 'SECONDS', meaning }),
  ),
  {
    name: 'logLevel',
    flag: 'log-level',
    kind: 'string',
    default: 'warn',
    choices: ['debug', 'info', 'warn', 'error', 'silent'],
    meaning: 'what the log on stderr shows',
  },
];

/**
 * @param values of `serverFlags`, as given
 * @throws CONFIG_INVALID for a value out of range
 */
export function serverOptions(values: Readonly<Record<string, unknown>>, logTo: DestinationStream): ServerOptions {
  const { host, port, apiKeys, adminKeys, allowedOrigins, allowedHosts } = values as ServerOptions;
  const { logLevel } = values as { logLevel?: string };
  const { maxBodyBytes, maxResponses, maxResponseBytes } = values as Readonly<Record<string, number | undefined>>;
  checkRange('port', port, 0, 65_535);
  checkTexts('api-key', apiKeys, (key) => key !== '', 'a key that is not empty');
  checkTexts('admin-key', adminKeys, (key) => key !== '', 'a key that is not empty');
  checkTexts('allowed-origin', allowedOrigins, isOrigin, 'an origin as browsers send it, such as https://example.com, or *');
  checkTexts('allowed-host', allowedHosts, (name) => /^[^\s/]+$/.test(name), 'a host name, or *');
  checkRange('max-body-bytes', maxBodyBytes, 1, MOST_BODY_BYTES);
  checkRange('max-responses', maxResponses, 1, 2 ** 24);
  checkRange('max-response-bytes', maxResponseBytes, 1, 2 ** 40);
  const times: Partial<Record<DurationOption, number>> = {};
  for (const { flag, option, least } of durations) {
    const seconds = values[flag] as number | undefined;
    checkRange(flag, seconds, least, MOST_SECONDS);
    if (seconds !== undefined) times[option] = seconds * 1000;
  }
  return {
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port }),
    ...(apiKeys === undefined ? {} : { apiKeys }),
    ...(adminKeys === undefined ? {} : { adminKeys }),
    ...(allowedOrigins === undefined ? {} : { allowedOrigins }),
    ...(allowedHosts === undefined ? {} : { allowedHosts }),
    limits: {
      ...(maxBodyBytes === undefined ? {} : { bodyBytes: maxBodyBytes }),
      ...(maxResponses === undefined ? {} : { responses: maxResponses }),
      ...(maxResponseBytes === undefined ? {} : { responseBytes: maxResponseBytes }),
    },
    ...times,
    log: pino({ level: logLevel ?? 'warn' }, logTo),
  };
}

function checkTexts(flag: string, values: readonly string[] | undefined, fits: (value: string) => boolean, expected: string): void {
  const wrong = values?.find((value) => !fits(value));
  if (wrong === undefined) return;
  throw new MillraceError('CONFIG_INVALID', {
    message: `--${flag} has a value that it cannot take.`,
    expected,
    received: JSON.stringify(wrong.slice(0, 100)),
  });
}

/** Scheme, host and port, with nothing behind them. Apps send origins of schemes of their own. */
function isOrigin(value: string): boolean {
  return value === '*' || value === 'null' || /^[a-z][a-z0-9+.-]*:\/\/[^\s/]+\/?$/i.test(value);
}

function checkRange(flag: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (value >= least && value <= most)) return;
  throw new MillraceError('CONFIG_INVALID', { message: `--${flag} is out of range.`, expected: `${least} to ${most}`, received: String(value) });
}
