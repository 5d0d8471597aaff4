//! Which of the changes that wait make up the next batch.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Pending, Planner, earlier, size_of};
use crate::path::{LocalPath, at_or_below};
use crate::state::{Change, ChangeKind};

/// What waits of each run.
type Units<'a> = HashMap<&'a Arc<LocalPath>, Unit>;
/// See [`Planner::order`].
type Order<'a> = (u64, Option<Reverse<usize>>, &'a LocalPath, (bool, Reverse<usize>));

#[derive(Debug)]
struct Unit {
    /// The youngest of it.
    batches: u64,
    files: usize,
    bytes: u64,
}

fn units<'a>(waiting: &[&'a Pending]) -> Units<'a> {
    let mut units = Units::new();
    for Pending { change, run, batches, .. } in waiting {
        if let Some(run) = run {
            let unit = units.entry(run).or_insert(Unit { batches: 0, files: 0, bytes: 0 });
            unit.batches = unit.batches.max(*batches);
            unit.files += 1;
            unit.bytes += size_of(change);
        }
    }
    units
}

impl Planner {
    /// Takes out those of the changes that `may_go` allows, with their bytes.
    pub(super) fn take_out(&mut self, may_go: impl Fn(&Self, &Pending) -> bool) -> (Vec<Change>, u64) {
        let mut by_age: Vec<_> = self.pending.values().filter(|pending| may_go(self, pending)).collect();
        let units = units(&by_age);
        // It is stable: paths of one age stay in their order.
        by_age.sort_by_cached_key(|pending| self.order(pending, &units));
        let (mut paths, mut bytes) = (Vec::new(), 0_u64);
        let mut chosen = HashSet::new();
        let mut unit_before = None;
        for Pending { change, run, .. } in by_age {
            let size = size_of(change);
            let is_first = paths.is_empty() && self.early.is_empty();
            // Where a run begins, there is to be room for all of it.
            let unit = run.as_ref().filter(|run| unit_before != Some(*run)).and_then(|run| units.get(run));
            unit_before = run.as_ref();
            let (files, size_all) = unit.map_or((1, size), |unit| (unit.files, unit.bytes));
            let too_much =
                !is_first && (self.early_bytes + bytes).saturating_add(size_all) > self.limits.max_bytes;
            let too_many = self.early.len() + paths.len() + files > self.limits.max_files;
            let is_larger_than_a_batch = is_first && unit.is_some();
            if (too_much || too_many) && !is_larger_than_a_batch {
                break;
            }
            let waits = self.marker.is(change)
                && self.of_run(change).any(|other| !chosen.contains(&other.change.path));
            if !waits && !self.replaces_a_directory(change) {
                bytes = bytes.saturating_add(size);
                if self.marker.is_set() {
                    chosen.insert(&change.path);
                }
                paths.push(change.path.clone());
            }
        }
        paths.sort();
        let mut taken = Vec::with_capacity(paths.len());
        for path in &paths {
            let Some(pending) = self.pending.remove(path) else { continue };
            self.under_way = earlier(self.under_way, Some(pending.seen));
            self.leave(&pending);
            taken.push(pending.change);
        }
        self.oldest = self.pending.values().map(|pending| pending.seen).min();
        (taken, bytes)
    }

    /// Where a change comes in the order in which changes are taken out: by its age in batches; the changes of a run
    /// beside one another, its marker last.
    fn order<'a>(&'a self, pending: &'a Pending, units: &Units<'a>) -> Order<'a> {
        let path = &pending.change.path;
        let is_marker = self.marker.is(&pending.change);
        // A run within a run is finished first.
        let depth = path.as_bytes().iter().filter(|byte| **byte == b'/').count();
        let depth = Reverse(if is_marker { depth } else { 0 });
        match pending.run.as_ref().and_then(|run| Some((run, units.get(run)?))) {
            Some((run, unit)) => (unit.batches, None, run, (is_marker, depth)),
            None if is_marker => {
                // It is as young as the youngest of its run, and comes behind it.
                let of_run = self.of_run(&pending.change).map(|other| other.batches);
                (of_run.fold(pending.batches, u64::max), Some(depth), path, (is_marker, depth))
            }
            None => (pending.batches, None, path, (is_marker, depth)),
        }
    }

    /// What waits of the run that a marker finishes.
    fn of_run<'a>(&'a self, marker: &'a Change) -> impl Iterator<Item = &'a Pending> {
        let dir = marker.path.parent().unwrap_or_default();
        at_or_below(&self.pending, &dir)
            .map(|(_, other)| other)
            .filter(|other| self.marker.finishes(marker, &other.change.path))
    }

    /// Whether something below this file's path waits to be removed.
    fn replaces_a_directory(&self, change: &Change) -> bool {
        matches!(change.kind, ChangeKind::Put { .. })
            && at_or_below(&self.pending, &change.path)
                .any(|(_, below)| below.change.kind == ChangeKind::Remove)
    }
}
