//! A run whose marker is finished is gathered: all of its directory is looked at, and the marker is handed on behind
//! everything else.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;

use tokio::time::Instant;

use super::super::super::examine::Examined;
use super::super::Finished;
use super::Session;
use crate::path::LocalPath;
use crate::state::ChangeKind;

/// Files that wait for their runs are counted up to this.
const HELD_BACK_MAX: usize = 10_000;

/// What waits for runs, and the runs that are being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The runs that are finished and of which not all has been handed on, by their directories.
    runs: BTreeMap<LocalPath, Run>,
    /// Files that wait for a marker.
    held_back: HashSet<LocalPath>,
}

#[derive(Debug)]
struct Run {
    marker: Finished,
    /// When all of its directory had been looked at.
    looked_at: Option<Instant>,
}

impl Gathering {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn held_back(&self) -> usize {
        self.held_back.len()
    }
}

impl Session<'_> {
    /// Keeps count of what waits for its run, and has a run looked at of which the marker was known all along.
    pub(super) fn note_run(&mut self, path: &LocalPath, examined: &Examined) {
        let Some(runs) = &self.examiner.runs else { return };
        let held_back = &mut self.gathering.held_back;
        if *examined == Examined::HeldBack {
            if held_back.len() < HELD_BACK_MAX {
                held_back.insert(path.clone());
            }
            return;
        }
        held_back.remove(path);
        let dir = path.parent().unwrap_or_default();
        let is_at_rest = *examined == Examined::Nothing && runs.is_marker(path);
        if is_at_rest && held_back.iter().any(|path| path.starts_with(&dir)) {
            held_back.retain(|path| !path.starts_with(&dir));
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
                self.gathering.held_back.retain(|path| !path.starts_with(&dir));
                self.scans.add(dir.clone());
                self.gathering.runs.insert(dir, Run { marker: finished, looked_at: None });
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
        let now = Instant::now();
        for run in self.gathering.runs.values_mut() {
            run.looked_at.get_or_insert(now);
        }
        if !self.gathering.runs.iter().any(|(dir, run)| self.is_coming(dir, run, now)) {
            let markers = std::mem::take(&mut self.gathering.runs).into_values().map(|run| run.marker);
            self.outbox.extend(markers);
        }
    }

    /// Whether something of a run is still to come. A file that is written on and on is taken as it is after the maximum
    /// wait, and keeps its run, and others, from the branch no longer than that.
    fn is_coming(&self, dir: &LocalPath, run: &Run, now: Instant) -> bool {
        let looked_at = run.looked_at.unwrap_or(now);
        self.settle.has_below(dir)
            && (now < looked_at + self.options.settle.max_wait || self.settle.has_hope_below(dir, looked_at))
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
