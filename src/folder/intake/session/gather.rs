//! A run whose marker is finished is gathered: all of its directory is looked at, and the marker is handed on behind
//! everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::SettleStage;
use super::super::super::examine::Examined;
use super::super::Finished;
use super::Session;
use crate::path::LocalPath;
use crate::state::ChangeKind;

/// Files that wait for their runs are counted up to this.
const HELD_BACK_MAX: usize = 10_000;
/// How often all that waits is looked through for what a run that takes long still waits for.
const LONG_LOOK: Duration = Duration::from_secs(1);

/// What waits for runs, and the runs that are being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The runs that are finished and of which not all has been handed on, by their directories.
    runs: BTreeMap<LocalPath, Run>,
    /// Those whose directories are being looked at.
    new: Vec<LocalPath>,
    /// One of them of which something was still to come at the last look.
    coming: Option<LocalPath>,
    /// Files that wait for a marker.
    held_back: BTreeSet<LocalPath>,
}

#[derive(Debug)]
struct Run {
    marker: Finished,
    /// When all of its directory had been looked at. What comes later is waited for while the rest is.
    looked_at: Option<Instant>,
    /// What it still waits for is not looked through again before then.
    next_look: Option<Instant>,
}

impl Run {
    /// Whether something of it is still to come. A file that is written on and on is taken as it is after the maximum wait,
    /// and keeps its run, and others, from the branch no longer than that.
    fn is_coming(&mut self, dir: &LocalPath, settle: &SettleStage, max_wait: Duration, now: Instant) -> bool {
        if !settle.has_below(dir) {
            return false;
        }
        let Some(looked_at) = self.looked_at else { return true };
        if now < self.next_look.unwrap_or(looked_at + max_wait) {
            return true;
        }
        self.next_look = Some(now + LONG_LOOK);
        settle.has_hope_below(dir, looked_at)
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
        // Whatever lies below a path comes right behind it.
        let below = self.held_back.range(dir..).take_while(|path| path.starts_with(dir));
        let below: Vec<_> = below.cloned().collect();
        below.iter().for_each(|path| _ = self.held_back.remove(path));
        !below.is_empty()
    }

    /// Whether something of any of the runs is still to come, where all of their directories have been looked at.
    fn has_coming(&mut self, settle: &SettleStage, max_wait: Duration, now: Instant) -> bool {
        for dir in std::mem::take(&mut self.new) {
            if let Some(run) = self.runs.get_mut(&dir) {
                run.looked_at.get_or_insert(now);
            }
        }
        // Of many runs, the one that was waited for is asked first.
        if let Some(dir) = &self.coming
            && let Some(run) = self.runs.get_mut(dir)
            && run.is_coming(dir, settle, max_wait, now)
        {
            return true;
        }
        let coming = self.runs.iter_mut().find_map(|(dir, run)| {
            let is_coming = run.is_coming(dir, settle, max_wait, now);
            is_coming.then(|| dir.clone())
        });
        self.coming = coming;
        self.coming.is_some()
    }
}

impl Session<'_> {
    /// Keeps count of what waits for its run, and has a run looked at of which the marker was known all along.
    pub(super) fn note_run(&mut self, path: &LocalPath, examined: &Examined) {
        let Some(runs) = &self.examiner.runs else { return };
        if *examined == Examined::HeldBack {
            if self.gathering.held_back.len() < HELD_BACK_MAX {
                self.gathering.held_back.insert(path.clone());
            }
            return;
        }
        self.gathering.held_back.remove(path);
        let dir = path.parent().unwrap_or_default();
        let is_at_rest = *examined == Examined::Nothing && runs.is_marker(path);
        if is_at_rest && self.gathering.release(&dir) {
            self.scans.add(dir);
        }
    }

    /// Hands a finished change on, or has the run gathered that it finishes.
    pub(super) fn finished(&mut self, finished: Finished) {
        let path = &finished.change.path;
        match &self.examiner.runs {
            Some(runs) if runs.is_marker(path) && finished.change.kind != ChangeKind::Remove => {
                let dir = path.parent().unwrap_or_default();
                // The look at the directory meets it too.
                if self.gathering.runs.get(&dir).is_some_and(|run| run.marker.change == finished.change) {
                    return;
                }
                runs.finish(dir.clone());
                self.gathering.release(&dir);
                self.scans.add(dir.clone());
                let run = Run { marker: finished, looked_at: None, next_look: None };
                self.gathering.new.push(dir.clone());
                self.gathering.runs.insert(dir, run);
            }
            _ => self.outbox.push_back(finished),
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

    /// Hands the markers on once nothing below any of them is left: what is committed together then are whole runs.
    pub(super) fn hand_on_markers(&mut self) {
        if self.gathering.runs.is_empty() || self.scan.is_some() || !self.scans.is_empty() {
            return;
        }
        let max_wait = self.options.settle.max_wait;
        if !self.gathering.has_coming(&self.settle, max_wait, Instant::now()) {
            let markers = std::mem::take(&mut self.gathering.runs).into_values().map(|run| run.marker);
            self.outbox.extend(markers);
        }
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
