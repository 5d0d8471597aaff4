use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;

use super::Marker;
use crate::config::BatchLimits;
use crate::path::LocalPath;
use crate::state::{Change, ChangeKind, PlaceKey};

/// The part of a batch, one in so many, that removals have when it is full of files.
const REMOVALS_PART: usize = 8;

/// Collects finished changes of one target and says when a batch of them is due. The latest change of a path counts.
#[derive(Debug)]
pub struct Planner {
    limits: BatchLimits,
    marker: Marker,
    pending: BTreeMap<LocalPath, Pending>,
    bytes: u64,
    /// When the oldest and the newest change came.
    since: Option<(Instant, Instant)>,
    /// How many batches were taken out.
    batches: u64,
    /// Files of the next batch that are on their way already, and their bytes.
    early: BTreeMap<LocalPath, Change>,
    early_bytes: u64,
    /// Part of a run came, and the rest is about to: nothing is due until it has come.
    gathering: bool,
    /// Up to which mark everything is due at once.
    hurry: Option<u64>,
    /// When the oldest change that waits was first seen.
    oldest: Option<Instant>,
    /// The same of those that were taken out and are not known to have landed.
    under_way: Option<Instant>,
}

/// A place in the order in which changes come, for [`Planner::is_past`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

#[derive(Debug)]
struct Pending {
    change: Change,
    /// How many batches were taken out before this path came.
    batches: u64,
    /// When it was first seen that the path had changed.
    seen: Instant,
}

impl Planner {
    /// A planner without changes. A marker is in no batch before the last of its run.
    pub fn new(limits: BatchLimits, marker: Marker) -> Self {
        Self {
            limits,
            marker,
            pending: BTreeMap::new(),
            bytes: 0,
            since: None,
            batches: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            gathering: false,
            hurry: None,
            oldest: None,
            under_way: None,
        }
    }

    /// Changes that wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no change waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of the files that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it holds so much that a batch is due at once and more should wait outside.
    pub fn is_full(&self) -> bool {
        self.pending.len() + self.early.len() >= self.limits.max_files
            || self.bytes + self.early_bytes >= self.limits.max_bytes
    }

    /// How many removals that were let go it takes. Some of them also when it is full: who fills it all the time leaves
    /// them no other room.
    pub fn room_for_removals(&self) -> usize {
        let reserved = (self.limits.max_files / REMOVALS_PART).max(1);
        (self.limits.max_files + reserved).saturating_sub(self.pending.len() + self.early.len())
    }

    /// When the oldest change that waits or is under way was first seen.
    pub fn waiting_since(&self) -> Option<Instant> {
        earlier(self.oldest, self.under_way)
    }

    /// What was taken out is no longer under way: it has landed, or was put back.
    pub fn landed(&mut self) {
        self.under_way = None;
    }

    /// Takes a change in; it replaces an earlier one of the same path.
    pub fn add(&mut self, change: Change, now: Instant) {
        self.add_seen(change, now, now);
    }

    /// The same of a change that was first seen at `seen`.
    pub fn add_seen(&mut self, change: Change, seen: Instant, now: Instant) {
        let size = size_of(&change);
        let before = match self.pending.entry(change.path.clone()) {
            Entry::Occupied(mut entry) => size_of(&std::mem::replace(&mut entry.get_mut().change, change)),
            Entry::Vacant(entry) => {
                entry.insert(Pending { change, batches: self.batches, seen });
                self.oldest = earlier(self.oldest, Some(seen));
                0
            }
        };
        self.bytes = self.bytes - before + size;
        self.since = Some((self.since.map_or(now, |(first, _)| first), now));
    }

    /// Takes changes back in that came to nothing; a later change of the same path stays. They go first, so that it shows
    /// whether one of them is at fault.
    pub fn put_back(&mut self, changes: impl IntoIterator<Item = Change>, now: Instant) {
        // Which of them is the oldest is not known any more; the oldest of them is as old as that.
        let seen = self.under_way.unwrap_or(now);
        for change in changes {
            if let Entry::Vacant(entry) = self.pending.entry(change.path.clone()) {
                self.bytes += size_of(&change);
                entry.insert(Pending { change, batches: 0, seen });
                self.oldest = earlier(self.oldest, Some(seen));
            }
        }
        if !self.pending.is_empty() && self.since.is_none() {
            self.since = Some((now, now));
        }
    }

    /// Takes removals in that were let go, and that have waited from `first` to `last`; a change of the same path stays.
    pub fn let_go(
        &mut self,
        removals: impl IntoIterator<Item = LocalPath>,
        (first, last): (Instant, Instant),
    ) {
        let before = self.pending.len();
        for path in removals {
            // What is known of the file says where it stands, once the batch is on its way.
            let change = Change { path: path.clone(), place: PlaceKey::default(), kind: ChangeKind::Remove };
            self.pending.entry(path).or_insert(Pending { change, batches: self.batches, seen: first });
        }
        if self.pending.len() > before {
            let (oldest, newest) = self.since.unwrap_or((first, last));
            self.since = Some((oldest.min(first), newest.max(last)));
            self.oldest = earlier(self.oldest, Some(first));
        }
    }

    /// The files that wait, and those that are on their way early.
    pub fn puts(&self) -> impl Iterator<Item = &Change> {
        self.pending
            .values()
            .map(|pending| &pending.change)
            .filter(|change| change.kind != ChangeKind::Remove)
            .chain(self.early.values())
    }

    /// Takes out files of at most `size_max` bytes that may set out before the batch is due. They stay part of it: they
    /// count for its limits, and it is due when it would have been. None goes while others wait that an earlier batch had
    /// no room for: these come first. What stands at the path of one that set out, above it or below it, waits until the batch
    /// is due: no workspace holds both.
    pub fn take_early(&mut self, size_max: u64) -> Vec<Change> {
        if self.pending.values().any(|pending| pending.batches < self.batches) {
            return Vec::new();
        }
        let is_early = |planner: &Self, change: &Change| {
            change.kind != ChangeKind::Remove
                && size_of(change) <= size_max
                && !planner.marker.is(change)
                && planner.is_apart(&change.path)
        };
        let (changes, bytes) = self.take_out(is_early);
        self.bytes -= bytes;
        self.early_bytes += bytes;
        self.early.extend(changes.iter().map(|change| (change.path.clone(), change.clone())));
        changes
    }

    /// The files that set out early, which are the caller's from now on.
    pub fn release_early(&mut self) -> Vec<Change> {
        self.release_early_but(&[])
    }

    /// The same but for those that `batch` has as they are by now.
    pub fn release_early_but(&mut self, batch: &[Change]) -> Vec<Change> {
        self.early_bytes = 0;
        let mut early = std::mem::take(&mut self.early);
        batch.iter().for_each(|change| _ = early.remove(&change.path));
        early.into_values().collect()
    }

    /// Whether nothing set out early at the path, above it or below it.
    fn is_apart(&self, path: &LocalPath) -> bool {
        let mut above = std::iter::successors(path.parent(), LocalPath::parent);
        // Whatever lies below a path comes right behind it.
        let next = self.early.range(path..).next();
        !above.any(|dir| self.early.contains_key(&dir))
            && next.is_none_or(|(early, _)| !early.starts_with(path))
    }

    /// When the next batch is due where `other` decides at that time what may go with it: one that comes a moment later
    /// is waited for.
    pub fn due_with(&self, other: Option<Instant>) -> Option<Instant> {
        let due = self.due_at()?;
        let is_near = |other: &Instant| !self.is_full() && *other <= due + self.limits.quiet;
        Some(other.filter(is_near).map_or(due, |other| due.max(other)))
    }

    /// When the next batch is due; `None` while nothing waits.
    pub fn due_at(&self) -> Option<Instant> {
        let (first, last) = self.since?;
        if self.is_full() || self.hurry.is_some() {
            return Some(first);
        }
        if self.gathering {
            return None;
        }
        Some((last + self.limits.quiet).min(first + self.limits.max_wait))
    }

    /// Says whether a run is coming of which no part is to go without the rest. One that is larger than a batch goes in several.
    pub fn gathering(&mut self, gathering: bool) {
        self.gathering = gathering;
    }

    /// Takes a batch out if one is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<Change>> {
        if self.due_at()? <= now { self.take(now) } else { None }
    }

    /// Takes a batch out, due or not: changes in the order of their paths, as many as the limits allow. What earlier ones
    /// had no room for comes first, so that no name waits for ever behind others.
    ///
    /// A file whose name is still that of a directory on the branch comes in a later batch than the removals of what
    /// lies in that directory: the server takes no file where a directory with files stands.
    pub fn take(&mut self, now: Instant) -> Option<Vec<Change>> {
        let (batch, bytes) = self.take_out(|_, _| true);
        self.batches += 1;
        self.bytes -= bytes;
        if self.pending.is_empty() {
            self.since = None;
        } else {
            self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes out those of the changes that `may_go` allows, with their bytes.
    fn take_out(&mut self, may_go: impl Fn(&Self, &Change) -> bool) -> (Vec<Change>, u64) {
        let mut by_age: Vec<_> =
            self.pending.values().filter(|pending| may_go(self, &pending.change)).collect();
        // It is stable: paths of one age stay in their order.
        by_age.sort_by_cached_key(|pending| self.age(pending));
        let (mut paths, mut bytes) = (Vec::new(), 0_u64);
        let mut chosen = HashSet::new();
        for Pending { change, .. } in by_age {
            let size = size_of(change);
            let is_first = paths.is_empty() && self.early.is_empty();
            let too_much =
                !is_first && (self.early_bytes + bytes).saturating_add(size) > self.limits.max_bytes;
            if too_much || self.early.len() + paths.len() >= self.limits.max_files {
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
        for Pending { change, seen, .. } in paths.iter().filter_map(|path| self.pending.remove(path)) {
            self.under_way = earlier(self.under_way, Some(seen));
            taken.push(change);
        }
        self.oldest = self.pending.values().map(|pending| pending.seen).min();
        (taken, bytes)
    }

    /// How old a change is, in batches. A marker is as young as the youngest of its run, and comes behind it.
    fn age(&self, pending: &Pending) -> (u64, bool, Reverse<usize>) {
        if !self.marker.is(&pending.change) {
            return (pending.batches, false, Reverse(0));
        }
        let of_run = self.of_run(&pending.change).map(|other| other.batches);
        // A run within a run is finished first.
        let depth = pending.change.path.as_bytes().iter().filter(|byte| **byte == b'/').count();
        (of_run.fold(pending.batches, u64::max), true, Reverse(depth))
    }

    /// What waits of the run that a marker finishes.
    fn of_run<'a>(&'a self, marker: &'a Change) -> impl Iterator<Item = &'a Pending> {
        let dir = marker.path.parent().unwrap_or_default();
        // Whatever lies below a path comes right behind it.
        self.pending
            .range(dir.clone()..)
            .map(|(_, other)| other)
            .take_while(move |other| other.change.path.starts_with(&dir))
            .filter(|other| self.marker.finishes(marker, &other.change.path))
    }

    /// Takes the markers out that would finish the run of `path`, which is not what was handed on.
    pub fn take_markers_of(&mut self, path: &LocalPath) -> Vec<LocalPath> {
        let is_there = |place: &LocalPath| {
            self.pending.get(place).is_some_and(|pending| self.marker.finishes(&pending.change, path))
        };
        let markers: Vec<_> = self.marker.places(path).filter(is_there).collect();
        for pending in markers.iter().filter_map(|marker| self.pending.remove(marker)) {
            self.bytes -= size_of(&pending.change);
        }
        self.oldest = self.pending.values().map(|pending| pending.seen).min();
        if self.pending.is_empty() {
            self.since = None;
        }
        markers
    }

    /// Whether a change of the path waits.
    pub fn holds(&self, path: &LocalPath) -> bool {
        self.pending.contains_key(path)
    }

    /// Whether a change of the path set out early.
    pub fn is_early(&self, path: &LocalPath) -> bool {
        self.early.contains_key(path)
    }

    /// Marks what waits by now: it is due at once.
    pub fn mark(&mut self) -> Mark {
        let mark = self.batches;
        // What comes from here on is younger.
        self.batches += 1;
        self.hurry = Some(mark);
        Mark(mark)
    }

    /// Whether nothing waits any more that came before the mark. What is under way counts as not waiting.
    pub fn is_past(&mut self, mark: Mark) -> bool {
        let is_old = |mark: u64| self.pending.values().any(|pending| pending.batches <= mark);
        if self.hurry.is_some_and(|mark| self.early.is_empty() && !is_old(mark)) {
            self.hurry = None;
        }
        self.early.is_empty() && !self.pending.values().any(|pending| pending.batches <= mark.0)
    }

    /// Whether something below this file's path waits to be removed.
    fn replaces_a_directory(&self, change: &Change) -> bool {
        matches!(change.kind, ChangeKind::Put { .. })
            && self
                .pending
                .range(change.path.clone()..)
                .take_while(|(path, _)| path.starts_with(&change.path))
                .any(|(_, below)| below.change.kind == ChangeKind::Remove)
    }
}

/// The earlier of two moments, where there is one.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn size_of(change: &Change) -> u64 {
    match change.kind {
        ChangeKind::Put { signature, .. } => signature.size,
        ChangeKind::Remove => 0,
    }
}

#[cfg(test)]
pub(super) mod tests;
