/** Text for a screen: what a model says must not be able to drive the terminal (colours, titles, clipboard). Pipes get the exact text. */
export function forScreen(text: string, isTerminal: boolean | undefined): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for; line feed and tab stay
  return isTerminal ? text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd') : text;
}
