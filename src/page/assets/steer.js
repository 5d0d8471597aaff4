// What steers the service: only where the page has a key, and for whoever shows it. The key stays in this tab.

import { byId, el, plural, sentence, set } from './dom.js';

const KEPT = 'oxen-sync key';
const ASK_EVERY_MS = 1000;
const PAUSE_S = 3600;

let key = null;
const listeners = new Set();

function keep(value) {
  key = value;
  try {
    if (value === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, value);
  } catch {
    // A browser that keeps nothing asks again after a reload.
  }
  set(byId('lock'), value === null ? 'Steer' : 'Lock');
  listeners.forEach((listen) => listen());
}

/** Sends a request with the key. Returns the answer, or throws what the service says against it. */
async function ask(path, body, value = key) {
  const headers = { Authorization: `Bearer ${value}` };
  if (body) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(`/api/steer/${path}`, { method: body ? 'POST' : 'GET', headers, body: body ? JSON.stringify(body) : undefined });
  } catch {
    throw new Error('the service does not answer');
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 && value === key) keep(null);
  if (!answer.ok) throw new Error(said.error ?? `the service answers ${answer.status}`);
  return said;
}

const told = (text) => sentence(text[0].toUpperCase() + text.slice(1));
const wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Waits until all that is in the folder now is on the branch. */
async function flush(folders, tell) {
  const { ticket } = await ask('flush', { folders });
  for (;;) {
    const { done, folders: [folder] } = await ask(`flush/${ticket}`);
    if (done) {
      if (folder.failure) throw new Error(folder.failure);
      const left = [folder.failed > 0 ? `${plural(folder.failed, 'file')} failed` : null, folder.held > 0 ? `${plural(folder.held, 'removal')} held` : null].filter(Boolean);
      const commit = folder.commit ? `, commit ${folder.commit.slice(0, 16)}` : '';
      return left.length > 0 ? `All but this is on the branch: ${left.join(', ')}` : `Everything that was there is on the branch${commit}`;
    }
    tell('Waiting until all of it is on the branch');
    await wait(ASK_EVERY_MS);
  }
}

/** Asked again until none are held, as it takes a while for very many. */
async function release(folders) {
  let all = 0;
  for (;;) {
    const { folders: [{ files }] } = await ask('release', { folders });
    all += files;
    if (files === 0) return `${plural(all, 'removal')} let go`;
  }
}

const DEEDS = [
  { name: 'Push now', for: () => true, does: flush },
  { name: 'Pause 1 h', for: (folder) => !folder.paused, does: async (folders) => { await ask('pause', { folders, for_s: PAUSE_S }); return 'Paused for an hour'; } },
  { name: 'Resume', for: (folder) => folder.paused, does: async (folders) => { await ask('resume', { folders }); return 'It goes on'; } },
  { name: 'Look through it', for: () => true, does: async (folders) => { await ask('rescan', { folders }); return 'The folder is looked through'; } },
  { name: 'Try failed files again', for: (folder) => folder.failed > 0, does: async (folders) => { const { folders: [{ files }] } = await ask('retry', { paths: folders }); return `${plural(files, 'file')} tried again`; } },
  { name: 'Let removals go', for: (folder) => folder.held > 0, does: release, asks: (folder) => `Remove ${plural(folder.held, 'file')} from the branch ${folder.branch} of ${folder.repo}?` },
];

/** What can be done with a folder, for its card. */
export function newActions() {
  const parts = { folder: null, said: el('p', 'said small') };
  parts.said.setAttribute('role', 'status');
  parts.buttons = DEEDS.map((deed) => {
    const button = el('button', '', deed.name);
    button.type = 'button';
    button.addEventListener('click', async () => {
      if (deed.asks && !confirm(deed.asks(parts.folder))) return;
      button.disabled = true;
      set(parts.said, '');
      try {
        set(parts.said, sentence(await deed.does([parts.folder.path], (text) => set(parts.said, sentence(text)))));
      } catch (error) {
        set(parts.said, told(error.message));
      }
      button.disabled = false;
    });
    return button;
  });
  parts.box = el('div', 'actions', el('div', 'buttons', ...parts.buttons), parts.said);
  listeners.add(() => showActions(parts));
  return parts;
}

function showActions(parts) {
  parts.box.hidden = key === null || parts.folder === null;
  if (parts.box.hidden) return;
  DEEDS.forEach((deed, at) => { parts.buttons[at].hidden = !deed.for(parts.folder); });
}

export function updateActions(parts, folder) {
  parts.folder = folder;
  showActions(parts);
}

async function unlock() {
  const value = byId('key').value.trim();
  set(byId('key-said'), '');
  try {
    await ask('key', null, value);
    keep(value);
    byId('key').value = '';
    byId('key-dialog').close();
  } catch (error) {
    set(byId('key-said'), told(error.message));
  }
}

/** Shows the way in where the page has a key. */
export async function begin() {
  byId('lock').addEventListener('click', () => {
    if (key !== null) keep(null);
    else byId('key-dialog').showModal();
  });
  byId('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    unlock();
  });
  byId('key-cancel').addEventListener('click', () => byId('key-dialog').close());
  try {
    const { key: hasKey } = await (await fetch('/api/steer')).json();
    byId('lock').hidden = !hasKey;
    const kept = hasKey ? sessionStorage.getItem(KEPT) : null;
    if (kept === null) return;
    await ask('key', null, kept);
    keep(kept);
  } catch {
    // It stays as it is: a page that shows.
  }
}
