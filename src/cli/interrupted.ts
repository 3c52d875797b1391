/** Thrown by a command that its user stopped: exit code 130, nothing printed. */
export class Interrupted extends Error {}
