/**
 * Tools that `millrace chat --demo-tools` offers, so that calling tools can be seen without writing any. None reaches the network.
 */
import type { RunnableTool } from '../engine/tool-loop.ts';

const SKIES = ['sunny', 'cloudy', 'rainy', 'windy', 'snowy', 'foggy'];
/** `setTimeout` goes no further. */
const MAX_TIMER_MINUTES = 35_000;

export interface DemonstrationTools {
  readonly tools: Readonly<Record<string, RunnableTool>>;
  /** Stops the timers that still run. */
  close(): void;
}

/** Weather (made up, the same for the same city), arithmetic, timers that ring while the chat lasts, and a calendar that lasts as long. */
export function demonstrationTools(ring: (line: string) => void): DemonstrationTools {
  const timers = new Set<NodeJS.Timeout>();
  const events: string[] = [];
  const tools: Record<string, RunnableTool> = {
    get_weather: {
      description: 'The weather of a city',
      parameters: object({ city: 'string' }),
      execute: (args) => weather(text(args, 'city')),
    },
    calculator: {
      description: 'Calculates an expression of numbers, + - * / and brackets',
      parameters: object({ expression: 'string' }),
      execute: (args) => told({ result: calculate(text(args, 'expression')) }),
    },
    set_timer: {
      description: 'Starts a timer',
      parameters: object({ minutes: 'integer' }),
      execute: (args) => {
        const minutes = Number(args.minutes);
        if (!(minutes > 0 && minutes <= MAX_TIMER_MINUTES)) throw new Error(`minutes must be a number from 0 to ${MAX_TIMER_MINUTES}`);
        const timer = setTimeout(() => {
          timers.delete(timer);
          ring(`timer: ${minutes} minutes are over`);
        }, minutes * 60_000).unref();
        timers.add(timer);
        return told({ status: 'ok' });
      },
    },
    add_event: {
      description: 'Adds to the calendar',
      parameters: object({ title: 'string', day: 'string', time: 'string' }),
      execute: (args) => {
        events.push(`${text(args, 'title')}, ${text(args, 'day')} ${text(args, 'time')}`);
        return told({ status: 'ok' });
      },
    },
  };
  return {
    tools,
    close: () => {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Drawn from the letters of the city, so that it is the same each time. */
function weather(city: string): string {
  let sum = 0;
  for (const character of city.toLowerCase()) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 9973;
  return told({ temperature: (sum % 30) - 2, condition: SKIES[sum % SKIES.length] ?? 'sunny' });
}

/** Numbers, `+ - * /` and brackets; nothing else is understood, nothing is evaluated. @throws Error that tells the model what is wrong */
export function calculate(expression: string): number {
  const parts = expression.match(/\d+(?:\.\d+)?|[-+*/()]|\S/g) ?? [];
  let at = 0;
  let depth = 0;
  const factor = (): number => {
    if (++depth > 64) throw new Error('the expression is nested too deeply');
    const part = parts[at++] ?? 'the end';
    let value: number;
    if (part === '-') value = -factor();
    else if (part === '(') {
      value = sum();
      if (parts[at++] !== ')') throw new Error('a closing bracket is missing');
    } else value = Number.parseFloat(part);
    if (Number.isNaN(value)) throw new Error(`${part} is not a number`);
    depth--;
    return value;
  };
  const product = (): number => {
    let value = factor();
    while (parts[at] === '*' || parts[at] === '/') value = parts[at++] === '*' ? value * factor() : value / factor();
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (parts[at] === '+' || parts[at] === '-') value = parts[at++] === '+' ? value + product() : value - product();
    return value;
  };
  const value = sum();
  if (at < parts.length) throw new Error(`${parts[at]} is not expected there`);
  if (!Number.isFinite(value)) throw new Error('the result is not a finite number');
  return Number(value.toPrecision(12));
}

function object(properties: Readonly<Record<string, 'string' | 'integer'>>): Record<string, unknown> {
  return {
    type: 'object',
    properties: Object.fromEntries(Object.entries(properties).map(([name, type]) => [name, { type }])),
    required: Object.keys(properties),
  };
}

function text(args: Readonly<Record<string, unknown>>, name: string): string {
  const value = args[name];
  if (typeof value !== 'string' || value === '') throw new Error(`${name} must be a text`);
  return value;
}

/** JSON with spaces, as Python writes it: small models have seen that. */
function told(result: Readonly<Record<string, string | number>>): string {
  return `{${Object.entries(result)
    .map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`)
    .join(', ')}}`;
}
