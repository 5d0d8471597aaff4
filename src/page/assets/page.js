// Shows the report that the service sends each time it has changed. Names of files are others' words: every text goes in
// by textContent, and a link only where it is one of http or https.

import { bytes, number, plural, show } from './plot.js';

const STATES = {
  not_running: ['Not running', 'calm'],
  starting: ['Starting', 'calm'],
  scanning: ['Looking through the folder', 'busy'],
  watching: ['Watching', 'good'],
  pushing: ['Pushing', 'busy'],
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
const COMMITS_SHOWN = 10;
/** A change that has waited for so long is told. */
const LONG_S = 900;
/** The service says something every 15 s. */
const SILENCE_MAX_MS = 45000;
const HISTORY_EVERY_MS = 60000;
/** A commit stands in the history as soon as the service has noted it down. */
const NOTED_AFTER_MS = 6000;

const byId = (id) => document.getElementById(id);
const moment = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const second = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** An element with a class and children; strings are text. */
function el(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, tone) {
  if (tone) element.dataset.tone = tone;
  else delete element.dataset.tone;
}

function link(url, text, className) {
  if (!url || !/^https?:\/\//.test(url)) return el('span', className, text);
  const anchor = el('a', className, text);
  anchor.href = url;
  anchor.rel = 'noreferrer noopener';
  anchor.target = '_blank';
  return anchor;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** A moment that says how long ago it was, and goes on doing so. */
function ago(iso) {
  const time = el('time', 'ago');
  time.dateTime = iso;
  time.title = moment.format(new Date(iso));
  age(time);
  return time;
}

function age(time) {
  const seconds = (Date.now() - new Date(time.dateTime)) / 1000;
  set(time, seconds < 10 ? 'just now' : seconds < 0 ? moment.format(new Date(time.dateTime)) : `${duration(seconds)} ago`);
}

/** Fills `parent` anew only where what it is made from has changed, so that marks and focus stay. */
const made = new WeakMap();
function fill(parent, from, make) {
  const key = JSON.stringify(from ?? null);
  if (made.get(parent) === key) return;
  made.set(parent, key);
  parent.replaceChildren(...make());
}

// --- folders

const cards = new Map();
const keyOf = (folder) => JSON.stringify([folder.path, folder.server, folder.repo, folder.branch, folder.remote_dir]);

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
  };
  parts.facts.list = el('dl', 'facts', ...Object.values(parts.facts).map((fact) => fact.row));
  parts.card = el(
    'article', 'folder card', el('header', '', title, chip, parts.target), parts.callouts, parts.moving, parts.facts.list, parts.written,
  );
  parts.card.setAttribute('aria-labelledby', title.id);
  return parts;
}

function callout(tone, title, text, command) {
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

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

function calloutsOf(folder) {
  const boxes = [];
  const [word, tone] = STATES[folder.state];
  const next = folder.retry && folder.state !== 'watching'
    ? ` Next try ${moment.format(new Date(folder.retry.next_at))}, after ${plural(folder.retry.attempts, 'try').replace('trys', 'tries')} that failed.`
    : '';
  const why = folder.why ?? (folder.state === 'waiting' ? folder.retry?.reason : null);
  if (why) boxes.push(callout(tone === 'busy' ? 'warn' : tone, tone === 'busy' ? 'Trying again:' : `${word}:`, `${sentence(why)}${next}`));
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
  set(parts.words[0], STEPS[batch.step] ?? batch.step);
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
  parts.written.hidden = folder.busy === 0;
  set(parts.written, folder.busy > 0 ? `Being written now: ${folder.busy_paths.join(', ')}${more}` : '');
  return rate;
}

function updateFolders(report) {
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

// --- everything else

function updateHeadline(report) {
  const folders = report.folders;
  const sum = (value) => folders.reduce((all, folder) => all + value(folder), 0);
  const troubled = folders.filter((folder) => ['waiting', 'stopped', 'broken'].includes(folder.state)).length;
  const worst = folders.some((folder) => ['stopped', 'broken'].includes(folder.state)) ? 'bad' : 'warn';
  const [waiting, failed, held] = [sum((f) => f.waiting), sum((f) => f.failed), sum((f) => f.held)];
  const needs = [
    troubled > 0 ? `${plural(troubled, 'folder')} cannot be pushed` : null,
    failed > 0 ? `${plural(failed, 'file')} failed` : null,
    held > 0 ? `${plural(held, 'removal')} held` : null,
    report.config_refused ? 'the config was refused' : null,
  ].filter(Boolean);
  const looking = folders.some((folder) => folder.waiting_more);
  const headline = byId('headline');
  let [text, tone] = ['Every finished file is on its branch', 'good'];
  if (needs.length > 0) {
    const joined = needs.join(', ');
    [text, tone] = [joined[0].toUpperCase() + joined.slice(1), troubled > 0 ? worst : 'warn'];
  } else if (waiting > 0) [text, tone] = [`${plural(waiting, 'file')}${looking ? ' and more' : ''} to go`, 'busy'];
  else if (looking) [text, tone] = ['Looking through the folders', 'busy'];
  set(headline, text);
  headline.dataset.tone = tone;
  document.title = `${needs.length > 0 ? '⚠ ' : ''}${text} – oxen-sync`;
  return { waiting, sum };
}

function updateTotals(report, rate) {
  const { waiting, sum } = updateHeadline(report);
  byId('totals').hidden = false;
  set(byId('total-files'), plural(sum((f) => f.files), 'file'));
  set(byId('total-bytes'), `${bytes(sum((f) => f.bytes))} in ${plural(report.folders.length, 'folder')}`);
  set(byId('total-waiting'), plural(waiting, 'file'));
  const ages = report.folders.map((folder) => folder.oldest_waiting_s ?? null).filter((value) => value !== null);
  set(byId('total-oldest'), ages.length > 0 ? `the oldest for ${duration(Math.max(...ages))}` : 'nothing to commit');
  const moving = report.folders.filter((folder) => folder.batch).length;
  set(byId('total-rate'), moving === 0 ? 'Nothing' : rate > 0 ? `${bytes(rate)}/s` : plural(sum((f) => f.batch?.files ?? 0), 'file'));
  set(byId('total-moving'), moving > 0 ? `from ${plural(moving, 'folder')}` : 'no batch is under way');
  const last = report.folders.map((folder) => folder.last_commit?.at).filter(Boolean).sort((a, b) => new Date(b) - new Date(a))[0];
  fill(byId('total-last'), last, () => (last ? [ago(last)] : ['none yet']));
}

function updateProblems(report) {
  const troubled = report.folders.filter((folder) => folder.failed > 0);
  byId('problems').hidden = troubled.length === 0;
  fill(byId('problem-lists'), troubled.map((folder) => [keyOf(folder), folder.failed, folder.problems]), () => troubled.map((folder) => {
    const rows = folder.problems.map((problem) => el(
      'li', '',
      el('div', 'head', el('span', 'name', problem.path), el('span', 'small', problem.kind, problem.since ? ', since ' : '', problem.since ? ago(problem.since) : '')),
      el('p', 'small', sentence(problem.reason)),
    ));
    const more = folder.failed - folder.problems.length;
    if (more > 0) rows.push(el('li', 'empty', `and ${number(more)} more; oxen-sync status --json lists the first 100`));
    return el('div', 'card', el('h3', '', folder.path), el('ul', 'list', ...rows));
  }));
}

let newest;
let soon;

function updateCommits(report) {
  const commits = report.folders.flatMap((folder) => folder.recent_commits.map((commit) => ({ ...commit, folder })));
  commits.sort((a, b) => new Date(b.at) - new Date(a.at));
  commits.length = Math.min(commits.length, COMMITS_SHOWN);
  if (commits[0]?.id !== newest) {
    newest = commits[0]?.id;
    clearTimeout(soon);
    soon = setTimeout(updateHistory, NOTED_AFTER_MS);
  }
  fill(byId('commits'), commits.map((commit) => [commit.id, commit.at, commit.folder.path]), () => {
    if (commits.length === 0) return [el('li', 'empty', 'No commit yet.')];
    return commits.map((commit) => {
      const removed = commit.removed > 0 ? `, ${number(commit.removed)} removed` : '';
      return el(
        'li', '',
        el('div', 'head', el('span', 'name', `${plural(commit.files, 'file')}, ${bytes(commit.bytes)}${removed}`), el('span', 'small', ago(commit.at))),
        el('p', 'small', link(commit.url, commit.id.slice(0, 16), 'id'), ` from ${commit.folder.path} to ${commit.folder.repo}, branch ${commit.folder.branch}`),
      );
    });
  });
}

function updateChoice(report) {
  const choice = byId('choice');
  byId('choice-label').hidden = report.folders.length < 2;
  const chosen = choice.value;
  fill(choice, report.folders.map(keyOf), () => {
    const option = (value, text) => Object.assign(el('option', '', text), { value });
    return [option('', 'all'), ...report.folders.map((folder, at) => option(String(at), `${folder.path} → ${folder.repo}`))];
  });
  if (choice.value !== chosen) choice.value = [...choice.options].some((option) => option.value === chosen) ? chosen : '';
}

function showReport(report) {
  const since = report.started_at ? `, running since ${moment.format(new Date(report.started_at))}` : '';
  set(byId('about'), `version ${report.version}${since}`);
  set(byId('config'), `config: ${report.config}`);
  fill(byId('refused'), report.config_refused, () => {
    if (!report.config_refused) return [];
    const at = moment.format(new Date(report.config_refused.at));
    const box = callout('bad', 'The config was changed and refused.', `Since ${at}; the one before it is in use. Correct the file, and it is taken by itself.`);
    box.append(el('pre', '', report.config_refused.problems));
    return [box];
  });
  const rate = updateFolders(report);
  updateTotals(report, rate);
  updateProblems(report);
  updateCommits(report);
  updateChoice(report);
}

// --- the connection

let source = null;
let heardAt = Date.now();
let lostAt = null;
let again = null;

function tell() {
  const chip = byId('link');
  set(chip, lostAt ? 'no connection' : 'live');
  chip.dataset.tone = lostAt ? 'bad' : 'good';
  fill(byId('lost'), lostAt, () => (lostAt
    ? [callout('bad', `The service does not answer since ${second.format(new Date(lostAt))}.`, 'What is shown is from then. It is asked again by itself; if that goes on, see: systemctl status oxen-sync')]
    : []));
}

function heard() {
  const wasLost = lostAt !== null;
  heardAt = Date.now();
  lostAt = null;
  tell();
  if (wasLost) updateHistory();
}

function lost() {
  lostAt ??= Date.now();
  tell();
}

function connect() {
  clearTimeout(again);
  source?.close();
  source = new EventSource('/events');
  source.addEventListener('report', (event) => {
    heard();
    showReport(JSON.parse(event.data));
  });
  source.addEventListener('alive', heard);
  source.addEventListener('trouble', (event) => {
    heard();
    fill(byId('lost'), event.data, () => [callout('bad', 'The service cannot report:', sentence(event.data))]);
  });
  source.addEventListener('error', () => {
    lost();
    // A browser gives up by itself where it was refused.
    if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, 5000);
  });
}

let day = null;

async function updateHistory() {
  const chosen = byId('choice').value;
  try {
    const answer = await fetch(chosen === '' ? '/api/history' : `/api/history?folder=${chosen}`);
    if (!answer.ok) return;
    day = await answer.json();
    const { files, bytes: total } = show(day);
    if (chosen === '') set(byId('total-day'), files === 0 ? 'nothing in the last day' : `${plural(files, 'file')}, ${bytes(total)} in a day`);
  } catch {
    // The connection tells.
  }
}

byId('choice').addEventListener('change', updateHistory);
new ResizeObserver(() => day && show(day)).observe(byId('throughput'));
setInterval(updateHistory, HISTORY_EVERY_MS);
setInterval(() => {
  document.querySelectorAll('time.ago').forEach(age);
  // A machine that slept may hold a connection that nobody answers any more.
  if (Date.now() - heardAt > SILENCE_MAX_MS) {
    heardAt = Date.now();
    lost();
    connect();
  }
}, 5000);
updateHistory();
connect();
