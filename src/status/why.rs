//! Why a path is where it is: what is known of it, as an answer, the steps that led there, and what to do. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FolderState;
use super::look::time;
use crate::config::{AfterPush, TakeOff};
use crate::content::Signature;
use crate::control::api::FolderName;
use crate::folder::intake::PathStage;
use crate::folder::{LeftOut, Settling};
use crate::path::Refusal;
use crate::plan::retire;
use crate::push::PushStage;
use crate::state::{
    BelowDir, FileRow, OpenBatch, Pause, Presence, ProblemKind, ProblemRow, RetryRow, TakenOff,
};

/// Why a path is where it is. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WhyReport {
    /// The path, absolute, printable.
    pub path: String,
    /// The folders of the config that it lies in; none where it lies in none of them.
    pub folders: Vec<WhyFolder>,
    /// What to do where it lies in none.
    #[serde(default)]
    pub next: Option<String>,
}

/// The path as one folder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WhyFolder {
    /// The folder.
    pub folder: FolderName,
    /// `committed`, `waiting`, `under_way`, `failed`, `left_out`, `gone`, `unknown` or `directory`.
    pub state: String,
    /// The answer in a sentence.
    pub answer: String,
    /// What to do, where something is to be done.
    #[serde(default)]
    pub next: Option<String>,
    /// What is known, step by step, in the order in which a file goes its way.
    pub steps: Vec<WhyStep>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyStep {
    /// Which one: `branch`, `folder`, `patterns`, `writers`, `quiet`, `hash`, `batch`, `tries`, `commit`, `problem`.
    pub step: String,
    /// What is known of it.
    pub detail: String,
}

/// What stands at the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Here {
    /// A file.
    File(Signature),
    /// A directory.
    Dir,
    /// Something that is never stored, by its name.
    NotStored(&'static str),
    /// Nothing.
    Gone,
    /// It cannot be said, and why.
    Unknown(String),
}

/// A program that has the file open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterProcess {
    /// Its number.
    pub pid: u32,
    /// Its name, printable.
    pub command: String,
}

/// What a running service knows of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePath {
    /// What its folder is in.
    pub folder: FolderState,
    /// Why, where something is wrong.
    pub why: Option<String>,
    /// How far it is on its way to the worker; `None` where the folder did not answer.
    pub intake: Option<PathStage>,
    /// How far it is there.
    pub push: Option<PushStage>,
    /// Whether its folder waits while others of a higher priority are sent.
    pub is_behind: bool,
}

/// All that is known of a path in one folder.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The folder.
    pub folder: FolderName,
    /// Where it stands on the branch, or would.
    pub on_branch: Result<String, Refusal>,
    /// What stands there.
    pub here: Here,
    /// What leaves it out, if anything does.
    pub left_out: Option<LeftOut>,
    /// Programs that have it open for writing, of those that may be looked into.
    pub writers: Vec<WriterProcess>,
    /// What is known of the file.
    pub row: Option<FileRow>,
    /// What became of it, where `after_push` has taken it off.
    pub taken_off: Option<TakenOff>,
    /// What becomes here of files that are on the branch.
    pub after_push: AfterPush,
    /// The wall clock, in milliseconds since the epoch.
    pub now_ms: i64,
    /// What is wrong with it.
    pub problem: Option<ProblemRow>,
    /// The batch that it is part of.
    pub batch: Option<OpenBatch>,
    /// What the next try of the folder waits for.
    pub retry: Option<RetryRow>,
    /// Whether the folder is paused.
    pub pause: Option<Pause>,
    /// The name of the file that would finish its run, where the file waits for that.
    pub unfinished_run: Option<String>,
    /// When the folder's upload window opens, RFC 3339, where it is closed.
    pub window_opens: Option<String>,
    /// What is known below it.
    pub below: BelowDir,
    /// How long a file must be quiet.
    pub quiet: Duration,
    /// What a running service knows; `None` where none runs.
    pub live: Option<LivePath>,
}

/// The answer to why the path is where it is.
pub fn why(facts: &Facts) -> WhyFolder {
    let (state, answer, next) = answer(facts);
    WhyFolder { folder: facts.folder.clone(), state: state.to_owned(), answer, next, steps: steps(facts) }
}

/// What it is in, the answer, and what to do.
type Answer = (&'static str, String, Option<String>);

fn answer(facts: &Facts) -> Answer {
    if let Some(left_out) = &facts.left_out {
        let next = match left_out {
            LeftOut::By { .. } => {
                "to push it, take that pattern out, or add one with \"!\" behind it that takes it back"
            }
            LeftOut::NotIncluded => "to push it, add a pattern to include in the config",
            LeftOut::TakingOff => {
                "the service gives it its own name back when it starts; if that is long ago, rename it yourself"
            }
        };
        return ("left_out", format!("It is left out: {left_out}."), Some(next.to_owned()));
    }
    match &facts.here {
        Here::Dir => return directory(facts),
        Here::NotStored(what) => {
            return ("left_out", format!("It is {what}, and Oxen stores files alone."), None);
        }
        Here::Unknown(reason) => {
            let next = "see that the folder can be read; then it goes on by itself";
            return (
                "unknown",
                format!("What stands there cannot be said: {reason}."),
                Some(next.to_owned()),
            );
        }
        Here::File(_) | Here::Gone => {}
    }
    if let Some(problem) = &facts.problem {
        let next = match problem.kind {
            ProblemKind::Quarantined => {
                "it is tried again when it changes, when the service starts or is reloaded, and once a day; to try it now: \
                 oxen-sync retry with its path"
            }
            ProblemKind::Busy => "it is taken when its writer is done",
            ProblemKind::Refused | ProblemKind::Unreadable => {
                "once that is mended it is taken by itself; to have it looked at now: oxen-sync retry with its path"
            }
        };
        return ("failed", format!("It is not on the branch: {}.", problem.reason), Some(next.to_owned()));
    }
    if let Some(answer) = facts.live.as_ref().and_then(|live| on_its_way(facts, live)) {
        return answer;
    }
    if let Some(marker) = &facts.unfinished_run {
        let marker = crate::path::printable(marker);
        let answer = format!(
            "It waits for its run to be finished: by a file {marker} in its directory, or in one above it inside the folder."
        );
        let next = "once the run is complete, make that file; or take batch.marker out of the config";
        return ("waiting", answer, Some(next.to_owned()));
    }
    match (&facts.here, &facts.row) {
        (Here::File(signature), Some(row)) if row.is_proved() => at_rest(facts, row, signature),
        (Here::Gone, Some(row)) if row.known.signature.is_some() => gone(facts, row),
        (Here::Gone, _) => (
            "gone",
            "There is no such file, and none of this name was ever pushed from here.".to_owned(),
            None,
        ),
        _ => not_seen(facts),
    }
}

fn directory(facts: &Facts) -> Answer {
    let BelowDir { files, gone, problems } = facts.below;
    let mut answer = format!("It is a directory; below it, {} here and on the branch", files_text(files));
    if gone > 0 {
        answer = format!("{answer}, {gone} on the branch alone");
    }
    if problems > 0 {
        answer = format!("{answer}, {problems} failed");
    }
    let next = (problems > 0).then(|| "what failed, and why: oxen-sync failed".to_owned());
    ("directory", format!("{answer}."), next)
}

fn files_text(count: i64) -> String {
    if count == 1 { "1 file is".to_owned() } else { format!("{count} files are") }
}

fn on_its_way(facts: &Facts, live: &LivePath) -> Option<Answer> {
    let trouble = |words: &str| {
        let why = live.why.clone().or_else(|| facts.retry.as_ref().map(|retry| retry.reason.clone()));
        why.map(|why| format!("{words} {why}"))
    };
    if facts.pause.is_some() && (live.intake != Some(PathStage::AtRest) || live.push != Some(PushStage::None))
    {
        let until = facts.pause.and_then(|pause| pause.until_ms).map(time);
        let until =
            until.map_or_else(|| "until someone resumes it".to_owned(), |until| format!("until {until}"));
        let answer = format!("It waits: its folder is paused {until}.");
        return Some(("waiting", answer, Some("to go on now: oxen-sync resume".to_owned())));
    }
    let is_finished = matches!(live.push, Some(PushStage::Collected { .. }))
        || (live.intake == Some(PathStage::Ready) && live.push != Some(PushStage::UnderWay));
    if let Some(opens) = facts.window_opens.as_ref().filter(|_| is_finished) {
        let answer = format!(
            "It is finished and hashed, and waits for its folder's upload window, which opens {opens}."
        );
        let next = "to send it sooner: change upload_window in the config";
        return Some(("waiting", answer, Some(next.to_owned())));
    }
    match (live.push, live.intake) {
        (Some(PushStage::UnderWay), _) => {
            let next = trouble("what is being tried again:");
            Some((
                "under_way",
                if live.is_behind {
                    "It is in the batch that is being sent, which waits for folders of a higher priority."
                        .to_owned()
                } else {
                    "It is on its way to the server, in the batch that is being sent.".to_owned()
                },
                next,
            ))
        }
        (Some(PushStage::Collected { due_in: Some(due_in) }), _) => Some((
            "waiting",
            format!(
                "It is finished and hashed, and waits for its commit, in {} at the latest.",
                seconds(due_in)
            ),
            None,
        )),
        (Some(PushStage::Collected { due_in: None }), _) => {
            let answer = "It is finished and hashed, and waits for the next try.".to_owned();
            Some(("waiting", answer, trouble("the last one failed:")))
        }
        (Some(PushStage::Gathered), _) | (_, Some(PathStage::Gathering)) => Some((
            "waiting",
            "It is finished and hashed, and waits for the rest of its run, of which something is not finished yet."
                .to_owned(),
            Some("what is still being written: oxen-sync status".to_owned()),
        )),
        (_, Some(PathStage::Ready)) => Some((
            "waiting",
            "It is finished and hashed, and waits until the files before it are on their way.".to_owned(),
            None,
        )),
        (_, Some(PathStage::Settling(settling))) => Some(("waiting", settling_text(facts, settling), None)),
        _ => None,
    }
}

fn settling_text(facts: &Facts, settling: Settling) -> String {
    if settling.is_read {
        return "It is being read and hashed.".to_owned();
    }
    if settling.is_overdue {
        return "It never was quiet for long enough, so it is taken as it is at one moment.".to_owned();
    }
    if settling.is_busy {
        return format!("It is being written; it is looked at again in {}.", seconds(settling.due_in));
    }
    format!(
        "It was quiet for {} of {} and is looked at in {}.",
        seconds(settling.still_for),
        seconds(facts.quiet),
        seconds(settling.due_in)
    )
}

fn at_rest(facts: &Facts, row: &FileRow, now: &Signature) -> Answer {
    if row.known.signature == Some(*now) {
        let answer = format!("It is on the branch{}.{}", commit_text(row), going_text(facts, row));
        return ("committed", answer, None);
    }
    let next = if facts.live.is_some() {
        "to have everything compared now: oxen-sync rescan"
    } else {
        "start the service, or run oxen-sync push"
    };
    let answer = "It has changed since it was pushed, and nobody has noticed yet.".to_owned();
    ("waiting", answer, Some(next.to_owned()))
}

/// What `after_push` is to do with a file that is at rest; begins with a blank where there is anything to say.
fn going_text(facts: &Facts, row: &FileRow) -> String {
    let what = match &facts.after_push.action {
        TakeOff::Keep => return String::new(),
        TakeOff::Delete => "deletes it here".to_owned(),
        TakeOff::Move(to) => format!("moves it below {}", crate::path::printable(to)),
    };
    match retire::goes_from_ms(row, facts.after_push.min_age) {
        None => " after_push leaves it here: only what oxen-sync has put on the branch and compared there itself goes.".to_owned(),
        Some(from_ms) if from_ms > facts.now_ms => format!(" after_push {what} from {} on.", time(from_ms)),
        Some(_) => format!(" after_push {what} when it looks next; where it cannot, oxen-sync status says why."),
    }
}

fn commit_text(row: &FileRow) -> String {
    match (&row.commit_id, row.pushed_ms) {
        (Some(commit), Some(at)) => format!(", in commit {commit} since {}", time(at)),
        (Some(commit), None) => format!(", in commit {commit}"),
        _ => ", where it was before oxen-sync came".to_owned(),
    }
}

fn gone(facts: &Facts, row: &FileRow) -> Answer {
    if let Some(TakenOff { moved_to, at_ms }) =
        facts.taken_off.as_ref().filter(|_| row.known.presence == Presence::Kept)
    {
        let at = time(*at_ms);
        let what = match moved_to {
            Some(to) => format!("It was moved below {to} at {at}"),
            None => format!("It was deleted here at {at}"),
        };
        return (
            "gone",
            format!("{what}, as after_push says; it is on the branch{}.", commit_text(row)),
            None,
        );
    }
    let (answer, next) = match row.known.presence {
        Presence::Kept => {
            ("It is gone from the folder; the branch keeps it, as on_delete = \"keep\" says.", None)
        }
        Presence::Waiting => (
            "It is gone from the folder; the branch keeps it until it is sure that it is to go there too.",
            Some("where the brake holds it: oxen-sync release"),
        ),
        Presence::Released => {
            ("It is gone from the folder, and its removal from the branch is on its way.", None)
        }
        Presence::Here => {
            ("It is gone from the folder, and nobody has noticed yet.", Some("oxen-sync rescan"))
        }
    };
    ("gone", answer.to_owned(), next.map(str::to_owned))
}

fn not_seen(facts: &Facts) -> Answer {
    match &facts.live {
        Some(LivePath { folder: FolderState::Scanning | FolderState::Starting, .. }) => {
            ("waiting", "The folder is being looked through and nobody has come to it yet.".to_owned(), None)
        }
        Some(LivePath { folder: FolderState::Broken | FolderState::Stopped, why, .. }) => {
            ("waiting", "Its folder cannot be used just now.".to_owned(), why.clone())
        }
        Some(_) => (
            "waiting",
            "Nobody has noticed it yet.".to_owned(),
            Some("to have everything compared now: oxen-sync rescan".to_owned()),
        ),
        None => (
            "waiting",
            "No service is running.".to_owned(),
            Some("start the service, or run oxen-sync push".to_owned()),
        ),
    }
}

fn steps(facts: &Facts) -> Vec<WhyStep> {
    let mut steps = Vec::new();
    let mut add = |step: &str, detail: String| steps.push(WhyStep { step: step.to_owned(), detail });
    match &facts.on_branch {
        Ok(path) => add("branch", format!("{} branch {}: {path}", facts.folder.repo, facts.folder.branch)),
        Err(refusal) => add("branch", format!("it cannot stand there: {refusal}")),
    }
    match &facts.here {
        Here::File(signature) => {
            let changed = time(signature.mtime_ns / 1_000_000);
            add("folder", format!("a file of {} bytes, last changed {changed}", signature.size));
        }
        Here::Dir => add("folder", "a directory".to_owned()),
        Here::NotStored(what) => add("folder", (*what).to_owned()),
        Here::Gone => add("folder", "nothing of this name is there".to_owned()),
        Here::Unknown(reason) => add("folder", format!("unknown: {reason}")),
    }
    match &facts.left_out {
        Some(left_out) => add("patterns", left_out.to_string()),
        None => add("patterns", "no pattern leaves it out".to_owned()),
    }
    if let Here::File(_) = facts.here {
        add("writers", writers_text(&facts.writers));
    }
    if let Some(LivePath { intake: Some(PathStage::Settling(settling)), .. }) = facts.live {
        add("quiet", format!("for {} of {}", seconds(settling.still_for), seconds(facts.quiet)));
    }
    if let Some(row) = &facts.row {
        if let Some(sha256) = row.sha256.filter(|_| row.known.presence == Presence::Here) {
            let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            add("hash", format!("sha256 {hex}, xxh3 {:032x} on the branch", row.xxh3));
        }
        if row.sha256.is_some() {
            add("commit", commit_text(row).trim_start_matches(", ").to_owned());
        }
    }
    if let Some(batch) = &facts.batch {
        add("batch", format!("number {}, since {}", batch.id, time(batch.since_ms)));
    }
    if let Some(retry) = &facts.retry {
        let plural = if retry.attempts == 1 { "try" } else { "tries" };
        add(
            "tries",
            format!(
                "{} {plural} of the folder failed in a row, the next is due {}: {}",
                retry.attempts,
                time(retry.next_ms),
                retry.reason
            ),
        );
    }
    if let Some(problem) = &facts.problem {
        add("problem", format!("{} since {}", problem.kind, time(problem.since_ms)));
    }
    steps
}

/// Programs that have a file open, in words.
pub fn writers_text(writers: &[WriterProcess]) -> String {
    if writers.is_empty() {
        return "no program is seen to have it open for writing".to_owned();
    }
    let named: Vec<_> =
        writers.iter().map(|writer| format!("{} (process {})", writer.command, writer.pid)).collect();
    format!("open for writing by {}", named.join(", "))
}

/// A span as a person says it.
fn seconds(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}
