/**
 * Script of the chat page. It runs in the browser as it stands here: no build, no library, no outside request. Text of the model only ever
 * becomes text nodes. (No backticks inside: this is a template literal.)
 */
export const pageScript = String.raw`
'use strict';
const byId = (id) => document.getElementById(id);
const view = {
  log: byId('log'), scroller: byId('scroller'), empty: byId('empty'), notice: byId('notice'), model: byId('model-name'),
  models: byId('models'), modelField: byId('model-field'), settings: byId('settings'), system: byId('system'), systemField: byId('system-field'),
  temperature: byId('temperature'), temperatureValue: byId('temperature-value'), maxTokens: byId('max-tokens'), key: byId('key'),
  prompt: byId('prompt'), send: byId('send'), composer: byId('composer'),
};
const state = { models: [], messages: [], running: null };

// --- theme ---

const prefersDark = matchMedia('(prefers-color-scheme: dark)');
function stored(area, key) { try { return area.getItem(key); } catch { return null; } }
function store(area, key, value) { try { area.setItem(key, value); } catch { /* private window */ } }
function applyTheme() {
  document.documentElement.dataset.theme = stored(localStorage, 'millrace-theme') || (prefersDark.matches ? 'dark' : 'light');
}
prefersDark.addEventListener('change', applyTheme);
byId('theme').addEventListener('click', () => {
  store(localStorage, 'millrace-theme', document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
  applyTheme();
});

// --- model ---

function headers() {
  const all = { 'content-type': 'application/json' };
  if (view.key.value) all.authorization = 'Bearer ' + view.key.value;
  return all;
}

function currentModel() {
  return state.models.find((model) => model.id === view.models.value) || state.models[0];
}

async function loadModels() {
  let response;
  try { response = await fetch('/v1/models', { headers: headers() }); } catch { return say('The server does not answer.'); }
  if (response.status === 401) {
    view.settings.hidden = false;
    view.key.focus();
    return say(view.key.value ? 'The API key is wrong.' : 'This server wants an API key: enter it in the settings.');
  }
  if (!response.ok) return say('The server answered ' + response.status + '.');
  state.models = (await response.json()).data;
  view.models.replaceChildren(...state.models.map((model) => new Option(model.id, model.id)));
  view.modelField.hidden = state.models.length < 2;
  showModel();
}

function say(text) {
  view.notice.textContent = text || '';
  view.notice.hidden = !text;
}

function showModel() {
  const model = currentModel();
  if (!model) return;
  const chats = model.has_chat_template;
  view.model.textContent = model.id + ' · ' + size(model.num_parameters) + ' parameters · context ' + model.max_model_len.toLocaleString('en');
  document.title = model.id + ' · Millrace';
  view.prompt.placeholder = chats ? 'Message' : 'Begin a text, and the model goes on';
  view.systemField.hidden = !chats;
  byId('empty-title').textContent = chats ? 'Ask something' : 'Begin a text';
  byId('empty-hint').textContent = chats
    ? 'The answer is computed on this machine.'
    : 'This model has no chat template: it continues what you write. The text is computed on this machine.';
  say(model.notice);
}

function size(count) {
  if (count >= 1e9) return (count / 1e9).toFixed(1) + 'B';
  return count >= 1e6 ? (count / 1e6).toFixed(1) + 'M' : Math.round(count / 1e3) + 'K';
}

// --- turns ---

function addTurn(kind) {
  view.empty.hidden = true;
  const turn = document.createElement('div');
  turn.className = 'turn ' + kind;
  const text = document.createElement('div');
  text.className = 'text';
  const facts = document.createElement('div');
  facts.className = 'facts';
  turn.append(text);
  if (kind !== 'user') turn.append(facts);
  view.log.append(turn);
  return { turn, text, facts };
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function inline(text) {
  return text.split(/(\*\*[^*\n]+\*\*|\x60[^\x60\n]+\x60)/).map((piece) => {
    if (/^\*\*.+\*\*$/.test(piece)) return element('strong', piece.slice(2, -2));
    return /^\x60.+\x60$/.test(piece) ? element('code', piece.slice(1, -1)) : document.createTextNode(piece);
  });
}

// Fenced code becomes a block, **bold** and inline code are set as such; all else stays as written.
function render(parent, given, text) {
  const parts = text.split(/\n*\x60\x60\x60[^\n]*\n?/);
  const nodes = parts.flatMap((part, at) => (at % 2 === 0 ? inline(at === 0 ? part : part.replace(/^\n+/, '')) : [element('pre', part)]));
  if (given) {
    const start = element('span', given);
    start.className = 'given';
    nodes.unshift(start);
  }
  parent.replaceChildren(...nodes);
}

function follow(force) {
  const { scroller } = view;
  if (force || scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 90) scroller.scrollTop = scroller.scrollHeight;
}

// --- one request ---

function requestFor(model, text) {
  const maxTokens = Number.parseInt(view.maxTokens.value, 10);
  const common = { model: model.id, stream: true, stream_options: { include_usage: true }, temperature: Number(view.temperature.value) };
  if (maxTokens > 0) common.max_tokens = maxTokens;
  if (!model.has_chat_template) return ['/v1/completions', { max_tokens: 256, ...common, prompt: text }];
  const system = view.system.value.trim();
  const messages = (system ? [{ role: 'system', content: system }] : []).concat(state.messages);
  return ['/v1/chat/completions', { ...common, messages }];
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split('\n\n');
    rest = frames.pop();
    for (const frame of frames) {
      if (!frame.startsWith('data: ') || frame === 'data: [DONE]') continue;
      const event = JSON.parse(frame.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

async function run(text) {
  const model = currentModel();
  const { messages } = state; // "New chat" replaces the list: a late answer then ends in the old one
  const chats = model.has_chat_template;
  if (chats) {
    messages.push({ role: 'user', content: text });
    addTurn('user').text.textContent = text;
  }
  const { turn, text: body, facts } = addTurn('assistant running');
  const controller = new AbortController();
  setRunning(controller);
  const given = chats ? '' : text;
  let answer = '', thoughts = '', firstAt = 0, usage = null, reason = null;
  const startedAt = performance.now();
  let isDrawing = false;
  const draw = () => { isDrawing = false; render(body, thoughts ? thoughts + '\n\n' : given, answer); follow(); };
  render(body, given, '');
  follow(true);
  try {
    const [path, request] = requestFor(model, text);
    const response = await fetch(path, { method: 'POST', headers: headers(), body: JSON.stringify(request), signal: controller.signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response)) {
      if (event.usage) usage = event.usage;
      const [choice] = event.choices;
      if (!choice) continue;
      const piece = choice.delta ? choice.delta.content : choice.text;
      const thought = choice.delta && choice.delta.reasoning || '';
      if ((piece || thought) && !firstAt) firstAt = performance.now();
      thoughts += thought;
      answer += piece || '';
      reason = choice.finish_reason || reason;
      if (!isDrawing) { isDrawing = true; requestAnimationFrame(draw); }
    }
  } catch (error) {
    if (error.name === 'AbortError') reason = 'stopped';
    else { turn.classList.add('failed'); answer += (answer ? '\n\n' : '') + error.message; }
  }
  turn.classList.remove('running');
  draw();
  facts.textContent = describe({ usage, firstAt, startedAt, reason });
  if (chats && !turn.classList.contains('failed')) messages.push({ role: 'assistant', content: answer });
  else if (chats) messages.pop();
  if (state.running === controller) setRunning(null);
}

function describe({ usage, firstAt, startedAt, reason }) {
  const parts = [];
  if (usage) {
    const seconds = (performance.now() - firstAt) / 1000;
    parts.push(usage.completion_tokens + ' tokens');
    if (usage.completion_tokens > 1 && seconds > 0) parts.push(((usage.completion_tokens - 1) / seconds).toFixed(1) + ' tokens/s');
  }
  if (firstAt) parts.push('first after ' + Math.round(firstAt - startedAt) + ' ms');
  if (reason === 'length') parts.push('cut at the token limit');
  if (reason === 'stopped') parts.push('stopped');
  return parts.join(' · ');
}

function setRunning(controller) {
  state.running = controller;
  view.send.textContent = controller ? 'Stop' : 'Send';
  view.send.classList.toggle('stop', controller !== null);
  view.send.disabled = !controller && view.prompt.value.trim() === '';
  if (!controller) view.prompt.focus();
}

// --- controls ---

function grow() {
  view.prompt.style.height = 'auto';
  view.prompt.style.height = view.prompt.scrollHeight + 2 + 'px';
  if (!state.running) view.send.disabled = view.prompt.value.trim() === '';
}
view.prompt.addEventListener('input', grow);
view.prompt.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!state.running) view.composer.requestSubmit();
});
view.composer.addEventListener('submit', (event) => {
  event.preventDefault();
  if (state.running) return state.running.abort();
  const text = view.prompt.value;
  if (text.trim() === '') return;
  if (!currentModel()) return loadModels();
  view.prompt.value = '';
  grow();
  run(text);
});
byId('again').addEventListener('click', () => {
  if (state.running) state.running.abort();
  setRunning(null);
  state.messages = [];
  view.log.replaceChildren(view.empty);
  view.empty.hidden = false;
  view.prompt.focus();
});
byId('settings-button').addEventListener('click', (event) => {
  view.settings.hidden = !view.settings.hidden;
  event.currentTarget.setAttribute('aria-expanded', String(!view.settings.hidden));
});
view.settings.addEventListener('submit', (event) => event.preventDefault());
view.temperature.addEventListener('input', () => { view.temperatureValue.textContent = Number(view.temperature.value).toFixed(2); });
view.models.addEventListener('change', showModel);
view.key.addEventListener('change', () => { store(sessionStorage, 'millrace-key', view.key.value); loadModels(); });
view.key.value = stored(sessionStorage, 'millrace-key') || '';
applyTheme();
setRunning(null);
loadModels();
`;
