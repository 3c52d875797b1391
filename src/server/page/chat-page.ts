import { createHash } from 'node:crypto';
import { pageScript } from './script.ts';
import { pageStyle } from './style.ts';

/** The chat page: one document, complete in itself. */
export const chatPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Millrace</title>
<link rel="icon" href="data:,">
<style>${pageStyle}</style>
</head>
<body>
<header>
  <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" aria-hidden="true">
    <circle cx="12" cy="10.5" r="7"/><circle cx="12" cy="10.5" r="1.6"/>
    <path d="M12 3.5v5.4M12 12.1v5.4M5 10.5h5.4M13.6 10.5H19M2 21c2-1.6 3.4-1.6 5 0s3.4 1.6 5 0 3.4-1.6 5 0 3.4 1.6 5 0"/>
  </svg>
  <div class="title"><h1>Millrace</h1><span class="model" id="model-name">&nbsp;</span></div>
  <button class="quiet" id="again" type="button">New<span class="long"> chat</span></button>
  <button class="quiet" id="settings-button" type="button" aria-expanded="false" aria-controls="settings">Settings</button>
  <button class="quiet" id="theme" type="button" aria-label="Light or dark">&#9680;</button>
</header>
<div id="notice" role="status" hidden></div>
<form id="settings" autocomplete="off" hidden>
  <label id="model-field" hidden>Model<select id="models"></select></label>
  <label><span>Temperature <output id="temperature-value">0.80</output></span>
    <input id="temperature" type="range" min="0" max="2" step="0.05" value="0.8"></label>
  <label>Most tokens per answer<input id="max-tokens" type="number" min="1" step="1" placeholder="as many as fit"></label>
  <label>API key<input id="key" type="password" autocomplete="new-password" placeholder="only if the server wants one"></label>
  <label class="wide" id="system-field">System prompt<textarea id="system" rows="2" placeholder="How the model should behave"></textarea></label>
</form>
<main id="scroller"><div id="log" role="log" aria-live="polite">
  <div id="empty"><strong id="empty-title">&nbsp;</strong><span id="empty-hint"></span></div>
</div></main>
<form id="composer"><div class="row">
  <textarea id="prompt" rows="1" aria-label="Your text"></textarea>
  <button id="send" type="submit">Send</button>
</div></form>
<noscript>This page needs JavaScript; the API does not.</noscript>
<script>${pageScript}</script>
</body>
</html>
`;

/** Only this page's own script and style run, and they may talk to this server alone. Spec: W3C Content Security Policy Level 3. */
export const chatPagePolicy = [
  "default-src 'none'",
  `script-src ${hashOf(pageScript)}`,
  `style-src ${hashOf(pageStyle)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;
}
