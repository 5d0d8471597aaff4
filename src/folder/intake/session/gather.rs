//! A run whose marker is finished is gathered: all of its directory is looked at, and the marker is handed on behind
//! everything else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::examine::Examined;
use super::super::super::{Due, SettleStage};
use super::super::Finished;
use super::Session;
use crate::content::Signature;
use crate::path::{LocalPath, at_or_below};
use crate::state::{Change, ChangeKind};

/// Files that wait for their runs are counted up to this.
const HELD_BACK_MAX: usize = 10_000;
/// How often every run is asked whether it still waits with reason. What is examined says so sooner.
const LONG_LOOK: Duration = Duration::from_secs(1);

/// What waits for runs, and the runs that are being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The runs that are finished and of which not all has been handed on, by their directories.
    runs: BTreeMap<LocalPath, Run>,
    /// Those of them that may be complete.
    maybe_complete: BTreeSet<LocalPath>,
    next_long_look: Option<Instant>,
    /// Files that wait for a marker, each as it was when it was found to be quiet, if it ever was.
    held_back: BTreeMap<LocalPath, Option<Signature>>,
    /// The same of those whose runs are being looked at.
    released: BTreeMap<LocalPath, Option<Signature>>,
}

#[derive(Debug)]
struct Run {
    dir: Arc<LocalPath>,
    marker: Change,
    seen: Instant,
    look: Look,
}

/// How far the look at the directory of a run is.
#[derive(Debug, Clone, Copy)]
enum Look {
    Wanted,
    Running,
    /// It ended then. What comes later is waited for while the rest is.
    Ended(Instant),
}

impl Run {
    /// Whether something of it is still to come. A file that is written on and on is taken as it is after the maximum wait,
    /// and keeps its run from the branch no longer than that.
    fn is_coming(&self, settle: &SettleStage, max_wait: Duration, now: Instant) -> bool {
        let Look::Ended(at) = self.look else { return true };
        settle.has_below(&self.dir) && (now < at + max_wait || settle.has_hope_below(&self.dir, at))
    }
}

impl Gathering {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn held_back(&self) -> usize {
        self.held_back.len()
    }

    /// Nothing below `dir` waits for a marker any more. Says whether something had.
    fn release(&mut self, dir: &LocalPath) -> bool {
        let below: Vec<_> = at_or_below(&self.held_back, dir).map(|(path, _)| path.clone()).collect();
        self.released.extend(below.iter().filter_map(|path| self.held_back.remove_entry(path)));
        !below.is_empty()
    }

    /// Whether the look at a run has found a file as it was when it was held back: it was quiet then, and waits no longer.
    pub(super) fn was_quiet(&mut self, path: &LocalPath, signature: &Signature) -> bool {
        self.released.remove(path) == Some(Some(*signature))
    }

    /// Whether the file at `path` finishes a run of which something is still to come.
    pub(super) fn has_marker(&self, path: &LocalPath) -> bool {
        let run = path.parent().and_then(|dir| self.runs.get(&dir));
        run.is_some_and(|run| run.marker.path == *path)
    }

    /// The outermost of the runs that the path is part of.
    fn run_of(&self, path: &LocalPath) -> Option<&Run> {
        self.outermost(path.parent()?)
    }

    /// The outermost of the runs in `dir` and above it.
    fn outermost(&self, dir: LocalPath) -> Option<&Run> {
        if self.runs.is_empty() {
            return None;
        }
        std::iter::successors(Some(dir), LocalPath::parent).filter_map(|dir| self.runs.get(&dir)).last()
    }

    /// Something of its run, if it is of one, has been examined.
    fn note(&mut self, path: &LocalPath) {
        if let Some(dir) = self.run_of(path).map(|run| LocalPath::clone(&run.dir)) {
            self.maybe_complete.insert(dir);
        }
    }

    /// The directories of the runs at or below `start`.
    fn dirs_from(&self, start: &LocalPath) -> Vec<LocalPath> {
        at_or_below(&self.runs, start).map(|(dir, _)| dir.clone()).collect()
    }

    /// Takes those out of which nothing is still to come, each with the runs within it: as what is to be handed on.
    fn complete(&mut self, settle: &SettleStage, max_wait: Duration, now: Instant) -> Vec<Finished> {
        if self.runs.is_empty() {
            return Vec::new();
        }
        let mut asked = std::mem::take(&mut self.maybe_complete);
        if self.next_long_look.is_none_or(|at| at <= now) {
            self.next_long_look = Some(now + LONG_LOOK);
            asked = self.runs.keys().cloned().collect();
        }
        let mut complete = Vec::new();
        for dir in asked {
            // One within another goes with that.
            let Some(run) = self.outermost(dir).filter(|run| !run.is_coming(settle, max_wait, now)) else {
                continue;
            };
            let outermost = Arc::clone(&run.dir);
            // The innermost first.
            for dir in self.dirs_from(&outermost).into_iter().rev() {
                if let Some(Run { marker, seen, .. }) = self.runs.remove(&dir) {
                    complete.push(Finished { change: marker, run: Some(Arc::clone(&outermost)), seen });
                }
            }
        }
        complete
    }
}

impl Session<'_> {
    /// Keeps count of what waits for its run, and has a run looked at of which the marker was known all along.
    pub(super) fn note_run(&mut self, due: &Due, examined: &Examined) {
        let Some(runs) = &self.examiner.runs else { return };
        let path = &due.path;
        if *examined == Examined::HeldBack {
            if self.gathering.held_back.len() < HELD_BACK_MAX {
                self.gathering.held_back.insert(path.clone(), due.seen.filter(|_| !due.overdue));
            }
            return;
        }
        self.gathering.note(path);
        self.gathering.held_back.remove(path);
        let dir = path.parent().unwrap_or_default();
        let is_at_rest = *examined == Examined::Nothing && runs.is_marker(path);
        if is_at_rest && self.gathering.release(&dir) {
            self.scans.add(dir);
        }
    }

    /// Hands a finished change on, or has the run gathered that it finishes.
    pub(super) fn finished(&mut self, change: Change, seen: Instant) {
        let path = &change.path;
        let Some(runs) = &self.examiner.runs else {
            return self.outbox.push_back(Finished { change, run: None, seen });
        };
        if !runs.is_marker(path) || change.kind == ChangeKind::Remove {
            let run = self.gathering.run_of(path).map(|run| Arc::clone(&run.dir));
            return self.outbox.push_back(Finished { change, run, seen });
        }
        let dir = path.parent().unwrap_or_default();
        // The look at the directory meets it too.
        if self.gathering.runs.get(&dir).is_none_or(|run| run.marker != change) {
            self.scans.add(dir.clone());
            let run = Run { dir: Arc::new(dir.clone()), marker: change, seen, look: Look::Wanted };
            self.gathering.runs.insert(dir, run);
        }
    }

    /// All below `start` is about to be looked at. From here on, the files of the runs there that are finished are taken:
    /// sooner, this look would find them once more.
    pub(super) fn gather_from(&mut self, start: &LocalPath) {
        let Some(runs) = &self.examiner.runs else { return };
        for dir in self.gathering.dirs_from(start) {
            self.gathering.release(&dir);
            if let Some(run) =
                self.gathering.runs.get_mut(&dir).filter(|run| matches!(run.look, Look::Wanted))
            {
                run.look = Look::Running;
            }
            runs.finish(dir);
        }
    }

    /// All below `start` has been looked at.
    pub(super) fn gathered_from(&mut self, start: &LocalPath) {
        let now = Instant::now();
        self.gathering.released.retain(|path, _| !path.starts_with(start));
        for dir in self.gathering.dirs_from(start) {
            if let Some(run) =
                self.gathering.runs.get_mut(&dir).filter(|run| matches!(run.look, Look::Running))
            {
                run.look = Look::Ended(now);
                self.gathering.maybe_complete.insert(dir);
            }
        }
    }

    /// Whether the run of a file is finished and being gathered.
    pub(super) fn is_of_finished_run(&self, path: &LocalPath) -> bool {
        let nothing_pushed = |_: &LocalPath| Ok::<_, Infallible>(false);
        self.examiner.runs.as_ref().is_some_and(|runs| {
            let Ok(is_held_back) = runs.holds_back(path, nothing_pushed);
            !is_held_back
        })
    }

    /// Hands the markers of those runs on of which nothing is left.
    pub(super) fn hand_on_runs(&mut self) {
        let max_wait = self.options.settle.max_wait;
        self.outbox.extend(self.gathering.complete(&self.settle, max_wait, Instant::now()));
    }

    /// Whether part of a run may have been handed on, and its marker not. Before all of the folder was looked at, that is not
    /// known: an earlier session may have ended in between.
    pub(super) fn is_gathering(&self) -> bool {
        let Some(runs) = &self.examiner.runs else { return false };
        !self.gathering.runs.is_empty()
            || self.scans.has_whole()
            || self.scan.as_ref().is_some_and(|scan| scan.whole)
            || self.outbox.iter().any(|finished| runs.is_marker(&finished.change.path))
    }
}
