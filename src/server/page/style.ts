/** Style of the chat page: one column, system fonts, colours for light and dark. */
export const pageStyle = `
:root {
  color-scheme: light;
  --paper: #f7f5f0; --card: #ffffff; --ink: #22252a; --soft: #6b6f76; --line: #e2ded5;
  --accent: #0f6b5c; --accent-ink: #ffffff; --mine: #e4efe9; --warn: #8a5a00; --warn-paper: #fff3d6; --bad: #a3262a; --code: #f1eee7;
}
:root[data-theme=dark] {
  color-scheme: dark;
  --paper: #15181b; --card: #1d2125; --ink: #e6e4de; --soft: #989da4; --line: #30353b;
  --accent: #4fc3a8; --accent-ink: #0c1f1a; --mine: #1f332d; --warn: #f0c874; --warn-paper: #33290f; --bad: #ff8a85; --code: #101315;
}
* { box-sizing: border-box; }
html, body { height: 100%; margin: 0; }
body { display: flex; flex-direction: column; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
button, input, textarea, select { font: inherit; color: inherit; }
header { display: flex; align-items: center; gap: .75rem; padding: .7rem 1rem; border-bottom: 1px solid var(--line); background: var(--card); }
header svg { width: 26px; height: 26px; color: var(--accent); flex: none; }
header .title { min-width: 0; flex: 1; line-height: 1.25; }
header h1 { margin: 0; font-size: 1rem; font-weight: 650; letter-spacing: .01em; }
header .model { display: block; color: var(--soft); font-size: .82rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.quiet { border: 1px solid var(--line); background: transparent; border-radius: 9px; padding: .35rem .7rem; cursor: pointer; font-size: .88rem; }
.quiet:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
#notice { padding: .5rem 1rem; background: var(--warn-paper); color: var(--warn); font-size: .88rem; text-align: center; }
#settings { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: .9rem 1.2rem; padding: 1rem; border-bottom: 1px solid var(--line); background: var(--card); }
#settings label { display: flex; flex-direction: column; gap: .3rem; font-size: .82rem; color: var(--soft); }
#settings .wide { grid-column: 1 / -1; }
#settings input:not([type=range]), #settings textarea, #settings select { border: 1px solid var(--line); border-radius: 9px; background: var(--paper); color: var(--ink); padding: .45rem .6rem; font-size: .92rem; }
#settings textarea { resize: vertical; min-height: 3.2rem; }
input[type=range] { accent-color: var(--accent); margin: .45rem 0; }
[hidden] { display: none !important; }
main { flex: 1; overflow-y: auto; overscroll-behavior: contain; }
#log { max-width: 46rem; margin: 0 auto; padding: 1.4rem 1rem 2rem; display: flex; flex-direction: column; gap: 1.1rem; min-height: 100%; }
#empty { margin: auto; text-align: center; color: var(--soft); max-width: 26rem; }
#empty strong { display: block; color: var(--ink); font-size: 1.35rem; font-weight: 600; margin-bottom: .3rem; }
.turn { max-width: 100%; overflow-wrap: anywhere; }
.turn .text { white-space: pre-wrap; }
.turn.user { align-self: flex-end; max-width: 85%; background: var(--mine); border-radius: 16px 16px 4px 16px; padding: .6rem .95rem; }
.turn .facts { color: var(--soft); font-size: .76rem; margin-top: .35rem; min-height: 1.1em; }
.turn.failed .text { color: var(--bad); }
.turn pre { white-space: pre; overflow-x: auto; background: var(--code); border: 1px solid var(--line); border-radius: 9px; padding: .7rem .85rem; margin: .5rem 0; font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.turn .text > code { background: var(--code); border-radius: 5px; padding: .05em .3em; font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.turn .given { color: var(--soft); }
.turn.running .text::after { content: ""; display: inline-block; width: .5em; height: 1.05em; margin-left: .12em; vertical-align: -.18em; background: var(--accent); border-radius: 2px; animation: blink 1s steps(2) infinite; }
@keyframes blink { 50% { opacity: 0; } }
@media (prefers-reduced-motion: reduce) { .turn.running .text::after { animation: none; } }
#composer { border-top: 1px solid var(--line); background: var(--card); padding: .8rem 1rem calc(.8rem + env(safe-area-inset-bottom)); }
#composer .row { max-width: 46rem; margin: 0 auto; display: flex; gap: .6rem; align-items: flex-end; }
#prompt { flex: 1; resize: none; max-height: 40vh; border: 1px solid var(--line); border-radius: 14px; background: var(--paper); padding: .65rem .9rem; line-height: 1.45; }
#prompt::placeholder { color: var(--soft); }
#send { border: 0; border-radius: 14px; background: var(--accent); color: var(--accent-ink); font-weight: 600; padding: .68rem 1.15rem; min-width: 5.2rem; cursor: pointer; }
#send:disabled { opacity: .45; cursor: default; }
#send.stop { background: transparent; color: var(--bad); box-shadow: inset 0 0 0 1.5px var(--bad); }
@media (max-width: 34rem) { #again .long { display: none; } }
`;
