//! Runs of which part waits and the rest is about to come.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::Sum;
use crate::config::BatchLimits;
use crate::path::LocalPath;

/// What waits of runs that are not complete may be as much as so many batches.
const OPEN_BATCHES: usize = 4;
/// And that many files in any case.
const OPEN_FILES_MIN: usize = 4_096;

/// How much waits of each run that is not complete. Every change that waits with such a run counts, also one that came before
/// the run was begun anew.
#[derive(Debug)]
pub(super) struct OpenRuns {
    limits: BatchLimits,
    runs: HashMap<Arc<LocalPath>, Sum>,
    total: Sum,
    /// Whether one of them is larger than a batch.
    has_large: bool,
    /// When the oldest change of theirs came.
    since: Option<Instant>,
}

impl OpenRuns {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self { limits, runs: HashMap::new(), total: Sum::default(), has_large: false, since: None }
    }

    pub(super) fn has(&self, run: &LocalPath) -> bool {
        self.runs.contains_key(run)
    }

    pub(super) fn total(&self) -> Sum {
        self.total
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether there is no room for the rest of any.
    pub(super) fn is_full(&self) -> bool {
        self.has_large
            || self.total.files >= OPEN_FILES_MIN.max(self.limits.max_files.saturating_mul(OPEN_BATCHES))
    }

    /// One that is larger than a batch, or else the one of which the most waits.
    pub(super) fn largest(&self) -> Option<Arc<LocalPath>> {
        let largest = self.runs.iter().max_by_key(|(_, sum)| (sum.fills(&self.limits), sum.files));
        largest.map(|(run, _)| Arc::clone(run))
    }

    /// More waits of a run, which is open from here on.
    pub(super) fn add(&mut self, run: Arc<LocalPath>, more: Sum, now: Instant) {
        let sum = self.runs.entry(run).or_default();
        *sum += more;
        self.has_large |= sum.fills(&self.limits);
        self.total += more;
        self.since.get_or_insert(now);
    }

    /// Part of a run, if it is open, does not wait any more.
    pub(super) fn leave(&mut self, run: &LocalPath, part: Sum) {
        let Some(sum) = self.runs.get_mut(run) else { return };
        *sum -= part;
        self.total -= part;
        if sum.files == 0 {
            self.runs.remove(run);
        }
        self.fewer();
    }

    /// All of a run has come.
    pub(super) fn close(&mut self, run: &LocalPath) {
        if let Some(sum) = self.runs.remove(run) {
            self.total -= sum;
            self.fewer();
        }
    }

    /// No more is to come of any. Says since when something had waited for that, if it had.
    pub(super) fn close_all(&mut self) -> Option<Instant> {
        self.runs.clear();
        self.total = Sum::default();
        self.has_large = false;
        self.since.take()
    }

    fn fewer(&mut self) {
        self.has_large = self.has_large && self.runs.values().any(|sum| sum.fills(&self.limits));
        if self.runs.is_empty() {
            self.since = None;
        }
    }
}
