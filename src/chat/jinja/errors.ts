/** What goes wrong in a template: errors as Python names them, and the bounds of our own. */

/** An error of Python or of Jinja, such as `TypeError` or `UndefinedError`; messages are worded as Python words them. */
export class JinjaError extends Error {
  /** Name of the Python class. */
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.name = 'JinjaError';
    this.kind = kind;
  }
}

/** What a template raises by `raise_exception`: a message for the caller. */
export class TemplateRaised extends JinjaError {
  constructor(message: string) {
    super('TemplateError', message);
  }
}

/** A bound was reached. */
export class TemplateTooLarge extends Error {}

export function typeError(message: string): JinjaError {
  return new JinjaError('TypeError', message);
}

export function valueError(message: string): JinjaError {
  return new JinjaError('ValueError', message);
}

export function filterArgumentError(message: string): JinjaError {
  return new JinjaError('FilterArgumentError', message);
}

export function syntaxError(message: string, line: number): JinjaError {
  return new JinjaError('TemplateSyntaxError', `${message} (line ${line})`);
}
