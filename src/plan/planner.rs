use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tokio::time::Instant;

use crate::config::BatchLimits;
use crate::path::LocalPath;
use crate::state::{Change, ChangeKind, PlaceKey};

/// The part of a batch, one in so many, that removals have when it is full of files.
const REMOVALS_PART: usize = 8;

/// Collects finished changes of one target and says when a batch of them is due. The latest change of a path counts.
#[derive(Debug)]
pub struct Planner {
    limits: BatchLimits,
    pending: BTreeMap<LocalPath, Pending>,
    bytes: u64,
    /// When the oldest and the newest change came.
    since: Option<(Instant, Instant)>,
    /// How many batches were taken out.
    batches: u64,
    /// Files of the next batch that are on their way already, and their bytes.
    early: Vec<Change>,
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
    /// How many batches were taken out before this path came.
    batches: u64,
    /// When it was first seen that the path had changed.
    seen: Instant,
}

impl Planner {
    /// A planner without changes.
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            pending: BTreeMap::new(),
            bytes: 0,
            since: None,
            batches: 0,
            early: Vec::new(),
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
            .chain(&self.early)
    }

    /// Takes out files of at most `size_max` bytes that may set out before the batch is due. They stay part of it: they
    /// count for its limits, and it is due when it would have been. None goes while others wait that an earlier batch had
    /// no room for: these come first.
    pub fn take_early(&mut self, size_max: u64) -> Vec<Change> {
        if self.pending.values().any(|pending| pending.batches < self.batches) {
            return Vec::new();
        }
        let is_early = |change: &Change| change.kind != ChangeKind::Remove && size_of(change) <= size_max;
        let (changes, bytes) = self.take_out(is_early);
        self.bytes -= bytes;
        self.early_bytes += bytes;
        self.early.extend_from_slice(&changes);
        changes
    }

    /// The files that set out early, which are the caller's from now on.
    pub fn release_early(&mut self) -> Vec<Change> {
        self.early_bytes = 0;
        std::mem::take(&mut self.early)
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
        Some((last + self.limits.quiet).min(first + self.limits.max_wait))
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
        let (batch, bytes) = self.take_out(|_| true);
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
    fn take_out(&mut self, may_go: impl Fn(&Change) -> bool) -> (Vec<Change>, u64) {
        let mut by_age: Vec<_> = self.pending.values().filter(|pending| may_go(&pending.change)).collect();
        // It is stable: paths of one age stay in their order.
        by_age.sort_by_key(|pending| pending.batches);
        let (mut paths, mut bytes) = (Vec::new(), 0_u64);
        for Pending { change, .. } in by_age {
            let size = size_of(change);
            let is_first = paths.is_empty() && self.early.is_empty();
            let too_much =
                !is_first && (self.early_bytes + bytes).saturating_add(size) > self.limits.max_bytes;
            if too_much || self.early.len() + paths.len() >= self.limits.max_files {
                break;
            }
            if !self.replaces_a_directory(change) {
                bytes = bytes.saturating_add(size);
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

    /// Whether a change of the path waits.
    pub fn holds(&self, path: &LocalPath) -> bool {
        self.pending.contains_key(path)
    }

    /// Whether a change of the path set out early.
    pub fn is_early(&self, path: &LocalPath) -> bool {
        self.early.iter().any(|change| change.path == *path)
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
pub(super) mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use proptest::prelude::*;
    use std::path::Path;
    use std::time::Duration;

    const LIMITS: BatchLimits = BatchLimits {
        quiet: Duration::from_secs(1),
        max_wait: Duration::from_secs(10),
        max_files: 5,
        max_bytes: 100,
    };

    pub(in crate::plan) fn put(path: &str, size: u64) -> Change {
        Change {
            path: LocalPath::new(Path::new(path)).unwrap(),
            place: PlaceKey::default(),
            kind: ChangeKind::Put {
                signature: Signature { size, mtime_ns: 0, ctime_ns: 0, inode: 0 },
                digests: Digests { sha256: [0; 32], xxh3: u128::from(size) },
                racy: false,
            },
        }
    }

    pub(in crate::plan) fn remove(path: &str) -> Change {
        Change { kind: ChangeKind::Remove, ..put(path, 0) }
    }

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn a_batch_is_due_when_nothing_more_comes_or_the_oldest_waited_long_enough() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        assert_eq!(planner.due_at(), None);
        planner.add(put("a", 1), start);
        planner.add(put("b", 1), start + seconds(0.9));
        assert_eq!(planner.take_due(start + seconds(1.8)), None);
        assert_eq!(planner.take_due(start + seconds(1.9)).unwrap().len(), 2);
        for n in 0..100 {
            planner.add(put("c", 1), start + seconds(20.0 + f64::from(n) * 0.1));
        }
        assert_eq!(planner.due_at(), Some(start + seconds(30.0)));
    }

    #[test]
    fn a_full_batch_is_due_at_once() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        planner.add(put("large", 1000), start);
        planner.add(put("a", 1), start);
        assert_eq!(planner.take_due(start), Some(vec![put("a", 1)]));
        assert_eq!(planner.take_due(start), Some(vec![put("large", 1000)]), "alone, whatever its size");
        assert_eq!((planner.bytes(), planner.is_empty()), (0, true));
    }

    #[test]
    fn removals_that_were_let_go_join_the_batch_that_waits() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        planner.add(put("new/a", 1), start);
        assert_eq!(planner.due_with(Some(start + seconds(1.5))), Some(start + seconds(1.5)));
        assert_eq!(planner.due_with(Some(start + seconds(5.0))), planner.due_at(), "nothing waits for long");
        let path = |path| LocalPath::new(Path::new(path)).unwrap();
        planner.let_go([path("old/a"), path("new/a")], (start, start + seconds(0.5)));
        assert_eq!(planner.due_at(), Some(start + seconds(1.5)));
        let batch = planner.take_due(start + seconds(1.5)).unwrap();
        assert_eq!(batch, [put("new/a", 1), remove("old/a")], "a file that is there again is not removed");
        planner.let_go([path("b")], (start, start + seconds(0.5)));
        assert_eq!(planner.take_due(start + seconds(1.5)), Some(vec![remove("b")]), "it has waited already");
    }

    #[test]
    fn nothing_waits_for_ever_behind_what_is_new_all_the_time() {
        let start = Instant::now();
        for last in [remove("z"), put("z", 90)] {
            let mut planner = Planner::new(LIMITS);
            planner.add(last.clone(), start);
            let mut new = (0..).map(|number| put(&format!("a{number:04}"), 60));
            let batches = (0..20).find(|_| {
                while !planner.is_full() {
                    planner.add(new.next().unwrap(), start);
                }
                planner.take(start).unwrap().contains(&last)
            });
            assert!(batches.is_some_and(|batches| batches < 5), "{batches:?}");
        }
    }

    #[test]
    fn what_came_to_nothing_is_tried_again_before_what_came_meanwhile() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        let all = |name: char| (0..5).map(move |number| put(&format!("{name}{number}"), 1));
        all('m').for_each(|change| planner.add(change, start));
        let failed = planner.take(start).unwrap();
        for name in ['a', 'z'] {
            all(name).for_each(|change| planner.add(change, start));
            planner.put_back(failed.clone(), start);
            assert_eq!(planner.take(start).unwrap(), failed);
        }
    }

    #[test]
    fn removals_have_some_room_however_full_it_is() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        let path = |number: u64| LocalPath::new(Path::new(&format!("z{number}"))).unwrap();
        assert_eq!(planner.room_for_removals(), 6);
        let (mut gone, mut number) = (0, 0);
        for _ in 0..20 {
            while !planner.is_full() {
                number += 1;
                planner.add(put(&format!("a{number:04}"), 1), start);
            }
            let room = planner.room_for_removals() as u64;
            planner.let_go((gone..gone + room).map(path), (start, start));
            gone += room;
            assert_eq!((planner.len(), planner.room_for_removals()), (6, 0), "and no more than that");
            assert_eq!(planner.take(start).unwrap().len(), 5);
        }
        assert!(gone >= 15, "{gone} of 20 batches");
    }

    #[test]
    fn the_age_of_the_oldest_change_outlives_failed_tries_and_ends_when_it_lands() {
        let start = Instant::now();
        let at = |s: f64| start + seconds(s);
        let mut planner = Planner::new(LIMITS);
        assert_eq!(planner.waiting_since(), None);
        for number in 0..6 {
            planner.add_seen(put(&format!("m{number}"), 1), at(f64::from(number)), at(9.0));
        }
        let batch = planner.take(at(10.0)).unwrap();
        assert_eq!((batch.len(), planner.waiting_since()), (5, Some(start)));
        planner.put_back(batch, at(20.0));
        planner.landed();
        assert_eq!(planner.waiting_since(), Some(start), "it came to nothing");
        planner.add_seen(put("m5", 2), at(30.0), at(30.0));
        planner.take(at(40.0));
        planner.landed();
        assert_eq!(planner.waiting_since(), Some(at(5.0)), "a later change of a path makes it no younger");
        planner.take(at(50.0));
        planner.landed();
        assert_eq!(planner.waiting_since(), None);
    }

    #[test]
    fn a_file_in_a_directorys_place_comes_after_the_directory_is_cleared() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        for change in [put("t", 1), remove("t/x"), put("u", 1)] {
            planner.add(change, start);
        }
        assert_eq!(planner.take(start), Some(vec![remove("t/x"), put("u", 1)]));
        assert_eq!(planner.take(start), Some(vec![put("t", 1)]));
    }

    #[test]
    fn what_is_marked_is_due_at_once_and_what_comes_later_is_not() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        for name in ["a", "b", "c", "d"] {
            planner.add(put(name, 40), start);
        }
        let mark = planner.mark();
        assert_eq!(planner.due_at(), Some(start));
        planner.add(put("e", 1), start);
        let first = planner.take(start).unwrap();
        assert!(!planner.is_past(mark), "two of them had no room");
        planner.put_back(first[..1].iter().cloned(), start);
        while !planner.is_past(mark) {
            assert!(planner.take_due(start).is_some());
        }
        planner.add(put("f", 1), start);
        assert_eq!(planner.due_at(), Some(start + LIMITS.quiet), "the hurry is over");
        let nothing = planner.mark();
        assert!(!planner.is_past(nothing));
        planner.take(start);
        assert!(planner.is_past(nothing));
    }

    #[test]
    fn files_that_set_out_early_belong_to_the_batch_that_is_due_later() {
        let start = Instant::now();
        let mut planner = Planner::new(LIMITS);
        for change in [put("a", 40), put("b", 30), put("large", 80), remove("c")] {
            planner.add(change, start);
        }
        assert_eq!(planner.take_early(50), [put("a", 40), put("b", 30)]);
        assert_eq!((planner.len(), planner.puts().count(), planner.bytes()), (2, 3, 80));
        assert!(planner.is_full(), "it holds more bytes than a batch may");
        assert_eq!(planner.take(start), Some(vec![remove("c")]), "the large one has no room beside them");
        assert_eq!(planner.release_early(), [put("a", 40), put("b", 30)]);
        planner.add(put("d", 30), start);
        assert_eq!(planner.take_early(50), [], "nothing passes what was left");
        assert_eq!(planner.take(start), Some(vec![put("large", 80)]));
        planner.add(put("e", 10), start + seconds(5.0));
        assert_eq!(planner.take_early(50), [], "nor here");
        planner.take(start);
        planner.add(put("f", 10), start + seconds(9.0));
        assert_eq!(planner.take_early(50), [put("f", 10)]);
        assert_eq!(planner.due_at(), Some(start + seconds(10.0)), "although nothing else waits");
        assert_eq!(planner.take(start), None);
        planner.put_back([put("f", 10)], start);
        assert_eq!(planner.release_early(), [put("f", 10)]);
        assert_eq!(planner.take(start), Some(vec![put("f", 10)]));
    }

    proptest! {
        #[test]
        fn every_path_comes_out_once_with_its_latest_change(
            steps in prop::collection::vec((0..7_u8, "[ab](/[ab]){0,2}", 0..80_u64), 1..80)
        ) {
            let start = Instant::now();
            let mut planner = Planner::new(LIMITS);
            let mut wanted = BTreeMap::new();
            let mut got = BTreeMap::new();
            for (what, path, size) in steps {
                if what == 6 {
                    for change in planner.take_early(size) {
                        prop_assert_eq!(wanted.remove(&change.path), Some(change.clone()));
                    }
                    continue;
                }
                if what == 0 {
                    let early = planner.early.len();
                    let batch = planner.take(start);
                    prop_assert!(early + batch.as_ref().map_or(0, Vec::len) <= LIMITS.max_files);
                    prop_assert_eq!(planner.release_early().len(), early);
                    for change in batch.into_iter().flatten() {
                        prop_assert_eq!(wanted.remove(&change.path), Some(change.clone()));
                        got.insert(change.path.clone(), change);
                    }
                    continue;
                }
                let change = if what == 1 { remove(&path) } else { put(&path, size) };
                wanted.insert(change.path.clone(), change.clone());
                planner.add(change, start);
            }
            planner.release_early();
            while let Some(batch) = planner.take(start) {
                prop_assert!(batch.len() <= LIMITS.max_files);
                let bytes: u64 = batch.iter().map(size_of).sum();
                prop_assert!(bytes <= LIMITS.max_bytes || batch.len() == 1);
                for change in batch {
                    prop_assert_eq!(wanted.remove(&change.path), Some(change));
                }
            }
            prop_assert!(wanted.is_empty() && planner.is_empty() && planner.bytes() == 0);
        }
    }
}
