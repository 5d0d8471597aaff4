//! A run whose marker is finished is gathered: all of its directory is looked at, and the marker is handed on behind
//! everything else.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;

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
    /// Markers that wait until all of their directories has been handed on.
    markers: BTreeMap<LocalPath, Finished>,
    /// Files that wait for a marker.
    held_back: HashSet<LocalPath>,
}

impl Gathering {
    pub(super) fn len(&self) -> usize {
        self.markers.len()
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
                if self.gathering.markers.get(&dir).is_some_and(|known| known.change == finished.change) {
                    return;
                }
                runs.finish(dir.clone());
                self.gathering.held_back.retain(|path| !path.starts_with(&dir));
                self.scans.add(dir.clone());
                self.gathering.markers.insert(dir, finished);
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
        if self.gathering.markers.is_empty() || self.scan.is_some() || !self.scans.is_empty() {
            return;
        }
        if !self.gathering.markers.keys().any(|dir| self.settle.has_below(dir)) {
            self.outbox.extend(std::mem::take(&mut self.gathering.markers).into_values());
        }
    }

    /// Whether part of a run may have been handed on, and its marker not. Before all of the folder was looked at, that is not
    /// known: an earlier session may have ended in between.
    pub(super) fn is_gathering(&self) -> bool {
        let Some(runs) = &self.examiner.runs else { return false };
        !self.gathering.markers.is_empty()
            || self.scans.has_whole()
            || self.scan.as_ref().is_some_and(|scan| scan.whole)
            || self.outbox.iter().any(|finished| runs.is_marker(&finished.change.path))
    }
}
