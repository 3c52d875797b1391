/** `format` as patterns: everything that they match is of the format; for addresses and names, not everything of the format is matched. */
const year = '\\d{4}';
const leapYear = '(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)';
const date = `(${year}-(0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|${year}-(0[469]|11)-(0[1-9]|[12]\\d|30)|${year}-02-(0[1-9]|1\\d|2[0-8])|${leapYear}-02-29)`;
const time = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)';
const byte = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const ipv4 = `(${byte}\\.){3}${byte}`;
const group = '[0-9a-fA-F]{1,4}';
const label = '[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';
const hostname = `${label}(\\.${label}){0,2}`;
const pathCharacter = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";

/** RFC 4291 with at most one `::`. */
function ipv6(): string {
  const forms = [`(${group}:){7}${group}`, '::'];
  for (let before = 1; before <= 6; before++) forms.push(`(${group}:){${before}}(:${group}){1,${7 - before}}`);
  forms.push(`(${group}:){1,7}:`, `:(:${group}){1,7}`);
  return forms.join('|');
}

const email = `[a-zA-Z0-9_+-]+(\\.[a-zA-Z0-9_+-]+){0,3}@${label}(\\.${label}){1,2}`;
/** RFC 3986 does not bound the labels of a name. */
const host = '[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*';
const uri = `[a-zA-Z][a-zA-Z0-9+.-]*://${host}(:\\d{1,4})?(/${pathCharacter}*)*(\\?(${pathCharacter}|[/?])*)?(#(${pathCharacter}|[/?])*)?`;
const pointer = '(/([^/~]|~[01])*)*';
const path = `(/${pathCharacter}*)*(\\?(${pathCharacter}|[/?])*)?(#(${pathCharacter}|[/?])*)?`;

/** The formats of JSON Schema; any other name asserts nothing. */
export const assertedFormats: ReadonlySet<string> = new Set([
  ...['date', 'time', 'date-time', 'duration', 'email', 'idn-email', 'hostname', 'idn-hostname', 'ipv4', 'ipv6', 'uuid', 'uri', 'uri-reference'],
  ...['iri', 'iri-reference', 'uri-template', 'json-pointer', 'relative-json-pointer', 'regex'],
]);

/** Patterns without anchors, to match from end to end. */
export const formatPatterns: Readonly<Record<string, string>> = {
  date,
  time,
  'date-time': `${date}T${time}`,
  duration:
    'P(\\d{1,6}W|(\\d{1,6}Y)?(\\d{1,6}M)?\\d{1,6}D(T\\d{1,6}H(\\d{1,6}M)?(\\d{1,6}S)?)?|\\d{1,6}Y(\\d{1,6}M)?|\\d{1,6}M|T(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S))',
  uuid: '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}',
  email,
  hostname,
  ipv4,
  ipv6: ipv6(),
  'idn-email': email,
  'idn-hostname': hostname,
  iri: uri,
  'uri-reference': `(${uri}|${pathCharacter.replace(':', '')}*${path})`,
  'iri-reference': `(${uri}|${pathCharacter.replace(':', '')}*${path})`,
  'uri-template': `${uri}`,
  'json-pointer': pointer,
  'relative-json-pointer': `(0|[1-9]\\d{0,3})(#|${pointer})`,
  // plain characters and the simplest constructs
  regex: '\\^?([A-Za-z0-9 _/,:;@#%&=<>~!"-]|\\\\[dwsDWS.]|\\.|\\[([a-zA-Z0-9_]|a-z|A-Z|0-9)+\\][*+?]?)*\\$?',
  uri,
};

/** Texts of at most so many characters have no label that is longer: their patterns need not count. */
export const MAX_LABEL = 63;
const anyLabel = '[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?';
const shortEmail = `[a-zA-Z0-9_+-]+(\\.[a-zA-Z0-9_+-]+)*@${anyLabel}(\\.${anyLabel})+`;
const shortHostname = `${anyLabel}(\\.${anyLabel})*`;

/** The formats with labels, for texts of at most `MAX_LABEL` characters. */
export const shortFormatPatterns: Readonly<Record<string, string>> = {
  email: shortEmail,
  'idn-email': shortEmail,
  hostname: shortHostname,
  'idn-hostname': shortHostname,
};
