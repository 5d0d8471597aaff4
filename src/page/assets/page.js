// Shows the report that the service sends each time it has changed.

import { callout, keyOf, updateFolders } from './cards.js';
import { age, ago, byId, bytes, duration, el, fill, link, moment, number, plural, sentence, set } from './dom.js';
import { show } from './plot.js';
import { begin } from './steer.js';

const COMMITS_SHOWN = 10;
/** The service says something every 15 s. */
const SILENCE_MAX_MS = 45000;
const HISTORY_EVERY_MS = 60000;
/** A commit stands in the history as soon as the service has noted it down. */
const NOTED_AFTER_MS = 6000;

const second = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

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
begin();
connect();
