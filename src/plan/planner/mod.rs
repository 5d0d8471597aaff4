mod open;
mod select;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use tokio::time::Instant;

use self::open::OpenRuns;
use super::Marker;
use crate::config::BatchLimits;
use crate::path::{LocalPath, at_or_below};
use crate::state::{Change, ChangeKind, PlaceKey};

/// The part of a batch, one in so many, that removals have when it is full of files.
const REMOVALS_PART: usize = 8;

/// Files and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    files: usize,
    bytes: u64,
}

impl Sum {
    fn of(change: &Change) -> Self {
        Self { files: 1, bytes: size_of(change) }
    }

    /// Whether it is as much as a batch takes.
    fn fills(self, limits: &BatchLimits) -> bool {
        self.files >= limits.max_files || self.bytes >= limits.max_bytes
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, part: Self) {
        self.files -= part.files;
        self.bytes -= part.bytes;
    }
}

/// Collects finished changes of one target and says when a batch of them is due. The latest change of a path counts.
#[derive(Debug)]
pub struct Planner {
    limits: BatchLimits,
    marker: Marker,
    pending: BTreeMap<LocalPath, Pending>,
    bytes: u64,
    open: OpenRuns,
    /// When the oldest and the newest change came of those that are of no open run.
    since: Option<(Instant, Instant)>,
    /// How many batches were taken out.
    batches: u64,
    /// Files of the next batch that are on their way already, and their bytes.
    early: BTreeMap<LocalPath, Change>,
    early_bytes: u64,
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
    /// The run that it came with.
    run: Option<Arc<LocalPath>>,
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
            open: OpenRuns::new(limits),
            since: None,
            batches: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
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

    /// Whether it holds so much that a batch is due at once and more should wait outside. For the rest of runs of which
    /// part waits there is room beside that.
    pub fn is_full(&self) -> bool {
        self.free().fills(&self.limits) || self.open.is_full()
    }

    /// What may go: all but what waits for the rest of its run.
    fn free(&self) -> Sum {
        let files = self.pending.len() + self.early.len();
        let mut free = Sum { files, bytes: self.bytes + self.early_bytes };
        free -= self.open.total();
        free
    }

    /// How many removals that were let go it takes. Some of them also when it is full: who fills it all the time leaves
    /// them no other room.
    pub fn room_for_removals(&self) -> usize {
        let reserved = (self.limits.max_files / REMOVALS_PART).max(1);
        (self.limits.max_files + reserved).saturating_sub(self.free().files)
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
        self.add_seen(change, None, now, now);
    }

    /// The same of a change that was first seen at `seen`, and that is of a run in the directory `run`, of which more is to
    /// come until its marker has.
    pub fn add_seen(&mut self, change: Change, run: Option<Arc<LocalPath>>, seen: Instant, now: Instant) {
        let closes = self.marker.is(&change).then(|| change.path.parent().unwrap_or_default());
        let (path, sum) = (change.path.clone(), Sum::of(&change));
        let opens = run.is_some() && closes.is_none();
        let known = self.pending.get(&path).and_then(|pending| pending.run.clone());
        // What comes late to a run that waits goes with it, since its marker would wait.
        let late = || self.marker.places(&path).find_map(|marker| self.pending.get(&marker)?.run.clone());
        let run = run.or(known).or_else(late);
        let open_run = run.clone().filter(|run| opens || self.open.has(run));
        let pending = Pending { change, run, batches: self.batches, seen };
        self.bytes += sum.bytes;
        match self.pending.entry(path) {
            Entry::Occupied(mut entry) => {
                // It keeps its place in the order.
                let (batches, seen) = (entry.get().batches, entry.get().seen);
                let before = entry.insert(Pending { batches, seen, ..pending });
                self.bytes -= size_of(&before.change);
                self.leave(&before);
            }
            Entry::Vacant(entry) => {
                entry.insert(pending);
                self.oldest = earlier(self.oldest, Some(seen));
            }
        }
        if closes.is_some() || open_run.is_none() {
            self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        }
        if let Some(run) = open_run {
            let sum = if self.open.has(&run) { sum } else { self.waits_of(&run) };
            self.open.add(run, sum, now);
        }
        if let Some(dir) = closes {
            self.close(&dir);
        }
    }

    /// What waits of a run, by the changes that came with it.
    fn waits_of(&self, run: &Arc<LocalPath>) -> Sum {
        let mut sum = Sum::default();
        at_or_below(&self.pending, run)
            .filter(|(_, pending)| pending.run.as_ref() == Some(run))
            .for_each(|(_, pending)| sum += Sum::of(&pending.change));
        sum
    }

    /// A change does not wait any more.
    fn leave(&mut self, pending: &Pending) {
        if let Some(run) = &pending.run {
            self.open.leave(run, Sum::of(&pending.change));
        }
    }

    /// All of the run in the directory has come.
    fn close(&mut self, dir: &LocalPath) {
        self.open.close(dir);
        let run = Arc::new(dir.clone());
        // What came to nothing before is of the run too.
        let below = self.pending.range_mut(dir..).take_while(|(path, _)| path.starts_with(dir));
        for (_, pending) in below.filter(|(path, _)| *path != dir) {
            pending.run.get_or_insert_with(|| Arc::clone(&run));
        }
    }

    fn is_open(&self, pending: &Pending) -> bool {
        pending.run.as_ref().is_some_and(|run| self.open.has(run))
    }

    /// Takes changes back in that came to nothing; a later change of the same path stays. They go first, so that it shows
    /// whether one of them is at fault.
    pub fn put_back(&mut self, changes: impl IntoIterator<Item = Change>, now: Instant) {
        // Which of them is the oldest is not known any more; the oldest of them is as old as that.
        let seen = self.under_way.unwrap_or(now);
        for change in changes {
            if let Entry::Vacant(entry) = self.pending.entry(change.path.clone()) {
                self.bytes += size_of(&change);
                entry.insert(Pending { change, run: None, batches: 0, seen });
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
            let pending = Pending { change, run: None, batches: self.batches, seen: first };
            self.pending.entry(path).or_insert(pending);
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
        let is_early = |planner: &Self, Pending { change, run, .. }: &Pending| {
            change.kind != ChangeKind::Remove
                && size_of(change) <= size_max
                && !planner.marker.is(change)
                // What is committed next may be another run.
                && run.is_none()
                && planner.is_apart(&change.path)
        };
        let (changes, bytes) = self.take_out(is_early);
        self.bytes -= bytes;
        self.early_bytes += bytes;
        self.early.extend(changes.iter().map(|change| (change.path.clone(), change.clone())));
        changes
    }

    /// What set out early came to nothing and waits again.
    pub fn put_back_early(&mut self, now: Instant) {
        let early = self.release_early_but(&[]);
        self.put_back(early, now);
        self.landed();
    }

    /// The files that set out early, which are the caller's from now on, but for those that `batch` has as they are by now.
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

    /// When the next batch is due; `None` while nothing waits, or only what waits for the rest of its run.
    pub fn due_at(&self) -> Option<Instant> {
        if self.is_full() {
            return earlier(self.since.map(|(first, _)| first), self.open.since());
        }
        let (first, last) = self.since?;
        Some(if self.hurry.is_some() {
            first
        } else {
            (last + self.limits.quiet).min(first + self.limits.max_wait)
        })
    }

    /// No more is to come of any run.
    pub fn close_runs(&mut self, now: Instant) {
        if let Some(first) = self.open.close_all() {
            self.since = Some(self.since.map_or((first, now), |(oldest, _)| (oldest.min(first), now)));
        }
    }

    /// Takes a batch out if one is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Vec<Change>> {
        if self.due_at()? <= now { self.take(now) } else { None }
    }

    /// Takes a batch out, due or not: changes in the order of their paths, as many as the limits allow. What earlier ones
    /// had no room for comes first, so that no name waits for ever behind others. A run is in one batch, unless it is
    /// larger than one.
    ///
    /// A file whose name is still that of a directory on the branch comes in a later batch than the removals of what
    /// lies in that directory: the server takes no file where a directory with files stands.
    pub fn take(&mut self, now: Instant) -> Option<Vec<Change>> {
        let whole = |planner: &Self, pending: &Pending| !planner.is_open(pending);
        let (mut batch, mut bytes) = self.take_out(whole);
        if batch.is_empty() && self.is_full() {
            // One run is larger than a batch, or many together leave no room for the rest of any.
            let largest = self.open.largest();
            (batch, bytes) = self.take_out(|_, pending| pending.run == largest);
        }
        self.batches += 1;
        self.bytes -= bytes;
        let has_more = self.pending.values().any(|pending| !self.is_open(pending));
        self.since = has_more.then(|| (self.since.map_or(now, |(first, _)| first), now));
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes the markers out that would finish the run of `path`, which is not what was handed on.
    pub fn take_markers_of(&mut self, path: &LocalPath) -> Vec<LocalPath> {
        let is_there = |place: &LocalPath| {
            self.pending.get(place).is_some_and(|pending| self.marker.finishes(&pending.change, path))
        };
        let markers: Vec<_> = self.marker.places(path).filter(is_there).collect();
        for marker in &markers {
            let Some(pending) = self.pending.remove(marker) else { continue };
            self.bytes -= size_of(&pending.change);
            self.leave(&pending);
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

    /// Whether a change of the path waits for the rest of its run.
    pub fn waits_for_its_run(&self, path: &LocalPath) -> bool {
        self.pending.get(path).is_some_and(|pending| self.is_open(pending))
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
