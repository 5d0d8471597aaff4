// The folders: a card for each, kept for as long as the folder is in the report.

import { newActions, updateActions } from './steer.js';
import { ago, byId, bytes, duration, el, fill, link, mark, moment, number, plural, sentence, set } from './dom.js';

const STATES = {
  not_running: ['Not running', 'calm'],
  starting: ['Starting', 'calm'],
  scanning: ['Looking through the folder', 'busy'],
  watching: ['Watching', 'good'],
  pushing: ['Pushing', 'busy'],
  paused: ['Paused', 'warn'],
  outside_window: ['Waiting for its upload window', 'calm'],
  waiting: ['Waiting for the next try', 'warn'],
  stopped: ['Stopped', 'bad'],
  broken: ['Folder cannot be used', 'bad'],
};
const STEPS = {
  connecting: 'Connecting',
  recovering: 'Settling what was under way',
  listing: 'Listing the branch',
  staging: 'Sending',
  committing: 'Committing',
  proving: 'Comparing with the branch',
};
/** A change that has waited for so long is told. */
const LONG_S = 900;

const cards = new Map();
export const keyOf = (folder) => JSON.stringify([folder.path, folder.server, folder.repo, folder.branch, folder.remote_dir]);

function fact(label) {
  const value = el('dd');
  const note = el('dd', 'small');
  const row = el('div', '', el('dt', '', label), value, note);
  return { row, value, note };
}

function newCard(folder) {
  const title = el('h3', '', folder.path);
  title.id = `folder-${cards.size}`;
  const chip = el('span', 'chip');
  const parts = {
    chip,
    target: el('p', 'target'),
    callouts: el('div', 'callouts'),
    moving: el('div', 'moving'),
    facts: {
      files: fact('On the branch'), waiting: fact('Waiting'), failed: fact('Failed'), watched: fact('Watched'), last: fact('Last commit'),
    },
    written: el('p', 'written'),
    rate: null,
    actions: newActions(),
  };
  parts.facts.list = el('dl', 'facts', ...Object.values(parts.facts).map((fact) => fact.row));
  parts.card = el(
    'article', 'folder card', el('header', '', title, chip, parts.target), parts.callouts, parts.moving, parts.facts.list, parts.written, parts.actions.box,
  );
  parts.card.setAttribute('aria-labelledby', title.id);
  return parts;
}

export function callout(tone, title, text, command) {
  const box = el('div', 'callout', el('p', '', el('strong', '', title), text ? ` ${text}` : ''));
  box.dataset.tone = tone;
  if (command) {
    const copy = el('button', '', 'Copy');
    copy.type = 'button';
    copy.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(command);
        set(copy, 'Copied');
      } catch {
        getSelection().selectAllChildren(copy.previousElementSibling);
        set(copy, 'Marked');
      }
      setTimeout(() => set(copy, 'Copy'), 2000);
    });
    box.append(el('div', 'command', el('code', '', command), copy));
  }
  return box;
}

function calloutsOf(folder) {
  const boxes = [];
  const [word, tone] = STATES[folder.state];
  const next = folder.retry && folder.state !== 'watching'
    ? ` Next try ${moment.format(new Date(folder.retry.next_at))}, after ${plural(folder.retry.attempts, 'try').replace('trys', 'tries')} that failed.`
    : '';
  const why = folder.why ?? (folder.state === 'waiting' ? folder.retry?.reason : null);
  if (why) boxes.push(callout(tone === 'busy' ? 'warn' : tone, tone === 'busy' ? 'Trying again:' : `${word}:`, `${sentence(why)}${next}`));
  if (folder.paused) {
    const until = folder.paused_until ? `until ${moment.format(new Date(folder.paused_until))}` : 'until someone resumes it';
    boxes.push(callout('warn', 'Paused', `${until}. What happens meanwhile is seen and comes afterwards. To go on now:`, 'oxen-sync resume'));
  }
  if (folder.state === 'outside_window' && folder.window_opens_at) {
    boxes.push(callout('calm', 'Outside its upload window:', `it opens ${moment.format(new Date(folder.window_opens_at))}. What happens meanwhile is seen and comes then.`));
  }
  if (folder.held > 0) {
    const since = folder.held_since ? ` since ${moment.format(new Date(folder.held_since))}` : '';
    const text = folder.held_for_now
      ? 'The folder seems to lose too many files. The branch keeps them until all of the folder was seen, which then decides. If they are to go now:'
      : 'The folder lost too many files at once, so the branch keeps them. Put them back if it was a mistake. If they are to go from the branch too:';
    boxes.push(callout('warn', `${plural(folder.held, 'removal')} held${since}.`, text, folder.release_command));
  }
  if (folder.coverage) boxes.push(callout('calm', 'Not all is watched:', sentence(folder.coverage)));
  if (folder.crowded) {
    const dir = folder.crowded.dir || 'the root';
    boxes.push(callout('warn', 'Crowded directory:', sentence(
      `${plural(folder.crowded.files, 'file')} in ${dir} of the branch make the server slow for every new one there; ${folder.crowded.help}`,
    )));
  }
  return boxes;
}

/** Bytes a second, from what two reports say, smoothed. */
function rateOf(parts, batch) {
  const now = performance.now();
  const before = parts.rate;
  if (!batch) {
    parts.rate = null;
    return 0;
  }
  if (!before || batch.bytes_sent < before.sent) {
    parts.rate = { at: now, sent: batch.bytes_sent, value: 0 };
    return 0;
  }
  const seconds = (now - before.at) / 1000;
  if (seconds > 0.5) {
    const value = (batch.bytes_sent - before.sent) / seconds;
    parts.rate = { at: now, sent: batch.bytes_sent, value: before.value ? before.value * 0.6 + value * 0.4 : value };
  }
  return parts.rate.value;
}

function updateMoving(parts, folder) {
  const { batch } = folder;
  const rate = rateOf(parts, batch);
  parts.moving.hidden = !batch;
  if (!batch) {
    parts.moving.replaceChildren();
    return 0;
  }
  if (!parts.bar?.isConnected) {
    parts.bar = el('progress');
    parts.bar.setAttribute('aria-label', `The batch under way from ${folder.path}`);
    parts.words = [el('span'), el('span')];
    parts.moving.replaceChildren(el('div', 'words', ...parts.words), parts.bar);
  }
  const isMeasured = batch.files > 0;
  set(parts.words[0], folder.behind ? 'Waiting for folders of a higher priority' : STEPS[batch.step] ?? batch.step);
  set(parts.words[1], isMeasured
    ? `${number(batch.files_sent)} of ${plural(batch.files, 'file')} · ${bytes(batch.bytes_sent)} of ${bytes(batch.bytes)}${rate > 0 ? ` · ${bytes(rate)}/s` : ''}`
    : '');
  const share = batch.bytes > 0 ? batch.bytes_sent / batch.bytes : batch.files > 0 ? batch.files_sent / batch.files : 0;
  if (isMeasured) parts.bar.value = batch.step === 'committing' || batch.step === 'proving' ? 1 : share;
  else parts.bar.removeAttribute('value');
  return rate;
}

function updateCard(parts, folder) {
  const [word, tone] = STATES[folder.state] ?? [folder.state, 'calm'];
  set(parts.chip, word);
  parts.chip.dataset.tone = tone;
  parts.card.dataset.tone = folder.held > 0 && tone === 'good' ? 'warn' : tone;
  fill(parts.target, [folder.repo, folder.branch, folder.layout, folder.remote_dir, folder.server, folder.repo_url], () => {
    const place = folder.layout ? ` as ${folder.layout}` : folder.remote_dir ? ` in ${folder.remote_dir}` : '';
    return ['→ ', link(folder.repo_url, folder.repo), ` branch ${folder.branch}${place} at ${folder.server}`];
  });
  fill(parts.callouts, [folder.state, folder.why, folder.retry, folder.held, folder.held_since, folder.held_for_now, folder.coverage, folder.crowded], () => calloutsOf(folder));
  parts.callouts.hidden = parts.callouts.childElementCount === 0;
  const rate = updateMoving(parts, folder);
  const { files, waiting, failed, watched, last } = parts.facts;
  set(files.value, plural(folder.files, 'file'));
  set(files.note, bytes(folder.bytes) + (folder.held > 0 ? `, and ${number(folder.held)} there alone` : ''));
  set(waiting.value, `${number(folder.waiting)}${folder.waiting_more ? ' and more' : ''}`);
  const oldest = folder.oldest_waiting_s ?? null;
  set(waiting.note, oldest === null ? 'nothing to commit' : `the oldest for ${duration(oldest)}`);
  mark(waiting.row, oldest !== null && oldest >= LONG_S ? 'warn' : null);
  set(failed.value, number(folder.failed));
  set(failed.note, folder.failed > 0 ? 'listed below with reasons' : 'no file is in trouble');
  mark(failed.row, folder.failed > 0 ? 'bad' : null);
  set(watched.value, plural(folder.watched_dirs, 'directory').replace('directorys', 'directories'));
  const left = [folder.excluded > 0 ? `${number(folder.excluded)} left out by patterns` : null, folder.skipped > 0 ? `${number(folder.skipped)} links or mounts skipped` : null];
  const share = folder.state === 'broken' ? null : (folder.coverage_ratio ?? null);
  set(watched.note, left.filter(Boolean).join(', ') || (share === null ? '' : share === 1 ? 'all of the folder' : `${Math.floor(share * 100)} % of the folder`));
  const commit = folder.last_commit;
  fill(last.value, commit?.at, () => (commit ? [ago(commit.at)] : ['none yet']));
  fill(last.note, commit?.id, () => (commit ? [link(commit.url, commit.id.slice(0, 10), 'id'), `, ${plural(commit.files, 'file')}`] : []));
  const more = folder.busy > folder.busy_paths.length ? ` and ${number(folder.busy - folder.busy_paths.length)} more` : '';
  updateActions(parts.actions, folder);
  const notes = [
    folder.busy > 0 ? `Being written now: ${folder.busy_paths.join(', ')}${more}` : null,
    folder.held_back > 0 ? `${plural(folder.held_back, 'file')} held back until a file ${folder.marker} finishes the run` : null,
    folder.staying ? `Not taken off: ${folder.staying}` : null,
  ].filter(Boolean);
  parts.written.hidden = notes.length === 0;
  set(parts.written, notes.join(' · '));
  return rate;
}

/** Shows all folders. Returns how many bytes a second go out. */
export function updateFolders(report) {
  const seen = new Set();
  let rate = 0;
  report.folders.forEach((folder) => {
    const key = keyOf(folder);
    seen.add(key);
    if (!cards.has(key)) cards.set(key, newCard(folder));
    rate += updateCard(cards.get(key), folder);
  });
  for (const key of [...cards.keys()].filter((key) => !seen.has(key))) cards.delete(key);
  const wanted = report.folders.map((folder) => cards.get(keyOf(folder)).card);
  const box = byId('cards');
  if (wanted.length !== box.children.length || wanted.some((card, at) => box.children[at] !== card)) box.replaceChildren(...wanted);
  return rate;
}
