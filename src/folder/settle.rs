use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::content::Signature;
use crate::path::LocalPath;

/// How long a file must hold still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleLimits {
    /// A file that was not touched for this long is looked at.
    pub quiet: Duration,
    /// A file that never gets quiet is looked at after this long.
    pub max_wait: Duration,
}

/// Decides when a path that was touched is to be looked at. Pure: time comes in as `now`.
///
/// A path is either waiting or being examined. A touch while it is examined is not lost: the path waits again when
/// the examination ends, and what it found must be thrown away.
#[derive(Debug)]
pub struct SettleStage {
    limits: SettleLimits,
    entries: HashMap<LocalPath, Entry>,
    by_due: BTreeSet<(Instant, LocalPath)>,
    /// Paths that were found busy at their last look.
    busy: usize,
    /// When each path that waits came, by the order of their coming.
    by_age: BTreeMap<u64, Instant>,
    /// How many paths ever came.
    came: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Its key in `by_age`.
    number: u64,
    /// When it was last seen to move.
    touched: Instant,
    first: Instant,
    /// It is looked at no later than this, quiet or not.
    deadline: Instant,
    /// Looks past the maximum wait that failed.
    failed: u32,
    due: Instant,
    seen: Option<Signature>,
    examining: bool,
    /// When the examination began, and whether it was one that takes the file with its writer.
    taken: (Instant, bool),
    touched_meanwhile: bool,
    busy: bool,
}

impl Entry {
    /// What the path has waited for us since it was due is not its own restlessness: it brings the maximum wait, at
    /// which a file is taken with its writer, no nearer.
    fn forgive(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due);
        self.first += late;
        self.deadline += late;
    }

    /// Neither is the time that our reading takes, unless the file was overdue before.
    fn examined(&mut self, now: Instant) {
        let (from, was_overdue) = self.taken;
        self.examining = false;
        if !was_overdue {
            let spent = now.saturating_duration_since(from);
            self.first += spent;
            self.deadline += spent;
        }
    }
}

/// A path whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The path.
    pub path: LocalPath,
    /// The file that stood there at the last look, or none; it must still be this one. Events alone do not say that a
    /// path is quiet: they may be late, or lost.
    pub seen: Option<Signature>,
    /// It was not quiet for too long: take it as it is at one moment, writer or not.
    pub overdue: bool,
}

/// How far a path is that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settling {
    /// How long nothing was seen to happen to it.
    pub still_for: Duration,
    /// When it is looked at, unless something happens to it before.
    pub due_in: Duration,
    /// It was found written to or moving at its last look.
    pub is_busy: bool,
    /// It is being looked at, or read.
    pub is_read: bool,
    /// It was not quiet for too long, and is taken as it is at one moment.
    pub is_overdue: bool,
}

/// The shortest time between two looks at a path that does not settle, whatever `quiet` is.
const RECHECK_MIN: Duration = Duration::from_millis(200);

impl SettleStage {
    /// A stage without paths.
    pub fn new(limits: SettleLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            by_due: BTreeSet::new(),
            busy: 0,
            by_age: BTreeMap::new(),
            came: 0,
        }
    }

    /// Paths waiting or being examined.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no path waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Paths that were found written to or moving at their last look.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// An event said that something happened at `path`; a look right after it found `seen` there.
    pub fn touch(&mut self, path: &LocalPath, seen: Option<Signature>, now: Instant) {
        self.restart(path, now, seen);
    }

    /// A scan found `path` with `signature`, or found nothing there. That means nothing new where the path waits, or is
    /// examined, as just that.
    pub fn found(&mut self, path: &LocalPath, signature: Option<Signature>, now: Instant) {
        match self.entries.get_mut(path) {
            Some(entry) if entry.seen == signature => {}
            _ => self.restart(path, now, signature),
        }
    }

    /// The same of a file that is known to have been quiet for long enough already: it is due at once.
    pub fn found_at_rest(&mut self, path: &LocalPath, signature: Signature, now: Instant) {
        let is_new = !self.entries.contains_key(path);
        self.found(path, Some(signature), now);
        if let Some(entry) = self.entries.get_mut(path).filter(|_| is_new) {
            self.by_due.remove(&(entry.due, path.clone()));
            entry.due = now;
            self.by_due.insert((now, path.clone()));
        }
    }

    /// Whether a path waits, or is examined, that had come by `then`.
    pub fn has_from(&self, then: Instant) -> bool {
        self.waiting_since().is_some_and(|since| since <= then)
    }

    /// How far a path is; `None` where it does not wait.
    pub fn settling(&self, path: &LocalPath, now: Instant) -> Option<Settling> {
        self.entries.get(path).map(|entry| Settling {
            still_for: now.saturating_duration_since(entry.touched),
            due_in: entry.due.saturating_duration_since(now),
            is_busy: entry.busy,
            is_read: entry.examining,
            is_overdue: now.saturating_duration_since(entry.first) >= self.limits.max_wait,
        })
    }

    /// When the path that waits the longest was first seen to have changed.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.by_age.first_key_value().map(|(_, since)| *since)
    }

    /// The same of `path`, if it waits.
    pub fn since(&self, path: &LocalPath) -> Option<Instant> {
        self.entries.get(path).and_then(|entry| self.by_age.get(&entry.number)).copied()
    }

    /// When the next path is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Takes at most `count` paths whose time has come; each must be answered with [`SettleStage::settled`] or
    /// [`SettleStage::moving`].
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some((_, path)) = self.by_due.first().filter(|(due, _)| *due <= now) else { break };
            let path = path.clone();
            self.by_due.pop_first();
            if let Some(entry) = self.entries.get_mut(&path) {
                entry.forgive(now);
                entry.examining = true;
                entry.touched_meanwhile = false;
                let overdue = now.saturating_duration_since(entry.first) >= self.limits.max_wait;
                entry.taken = (now, overdue);
                taken.push(Due { path, seen: entry.seen, overdue });
            }
        }
        taken
    }

    /// The examination of `path` came to an end. Returns whether its finding holds: `false` when the path was touched
    /// meanwhile, and waits again. A snapshot of one that was overdue holds all the same; what came since waits anew.
    pub fn settled(&mut self, path: &LocalPath, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(path) else { return true };
        entry.examined(now);
        if entry.touched_meanwhile {
            let (_, was_overdue) = entry.taken;
            if was_overdue {
                (entry.first, entry.failed) = (now, 0);
                self.by_age.remove(&entry.number);
                self.came += 1;
                entry.number = self.came;
                self.by_age.insert(entry.number, now);
                entry.deadline = now + self.limits.max_wait;
                entry.due = now + self.limits.quiet;
                self.by_due.insert((entry.due, path.clone()));
                self.by_age.remove(&entry.number);
                self.came += 1;
                entry.number = self.came;
                self.by_age.insert(entry.number, now);
                return true;
            }
            entry.due = (now + self.limits.quiet).min(entry.deadline).max(now);
            self.by_due.insert((entry.due, path.clone()));
            return false;
        }
        if entry.busy {
            self.busy -= 1;
        }
        self.by_age.remove(&entry.number);
        self.entries.remove(path);
        true
    }

    /// `path` was found in motion, or with a writer; it is now at `signature`. It is looked at again after a quiet
    /// time. A path that would not hold still even for one reading is read ever more rarely, since each try reads all
    /// of it.
    pub fn moving(&mut self, path: &LocalPath, signature: Option<Signature>, now: Instant) {
        let Some(entry) = self.entries.get_mut(path) else { return };
        entry.examined(now);
        if entry.seen != signature {
            entry.touched = now;
        }
        entry.seen = signature;
        let recheck = self.limits.quiet.max(RECHECK_MIN);
        if now.saturating_duration_since(entry.first) >= self.limits.max_wait {
            let pause =
                recheck.saturating_mul(1 << entry.failed.min(16)).min(self.limits.max_wait.max(recheck));
            entry.failed = entry.failed.saturating_add(1);
            entry.deadline = now + pause;
            entry.due = entry.deadline;
        } else {
            entry.due = now + recheck;
        }
        if !entry.busy {
            entry.busy = true;
            self.busy += 1;
        }
        self.by_due.insert((entry.due, path.clone()));
    }

    /// Some paths that were found in motion at their last look.
    pub fn busy_paths(&self, count: usize) -> Vec<LocalPath> {
        let mut paths: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.busy).map(|(path, _)| path.clone()).collect();
        paths.sort_unstable();
        paths.truncate(count);
        paths
    }

    fn restart(&mut self, path: &LocalPath, now: Instant, seen: Option<Signature>) {
        let limits = self.limits;
        let entry = self.entries.entry(path.clone()).or_insert_with(|| {
            self.came += 1;
            self.by_age.insert(self.came, now);
            Entry {
                number: self.came,
                touched: now,
                first: now,
                deadline: now + limits.max_wait,
                failed: 0,
                due: now,
                seen,
                examining: false,
                taken: (now, false),
                touched_meanwhile: false,
                busy: false,
            }
        });
        entry.seen = seen;
        entry.touched = now;
        if entry.examining {
            entry.touched_meanwhile = true;
            return;
        }
        entry.forgive(now);
        self.by_due.remove(&(entry.due, path.clone()));
        entry.due = (now + limits.quiet).min(entry.deadline).max(now);
        self.by_due.insert((entry.due, path.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    const LIMITS: SettleLimits =
        SettleLimits { quiet: Duration::from_secs(2), max_wait: Duration::from_secs(60) };

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn a_touched_file_is_due_when_it_was_quiet_long_enough() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("a"), None, start);
        stage.touch(&local("a"), None, start + seconds(1.5));
        assert!(stage.take_due(start + seconds(2.0), 9).is_empty());
        assert_eq!(stage.next_due(), Some(start + seconds(3.5)));
        let due = stage.take_due(start + seconds(3.5), 9);
        assert_eq!(due, [Due { path: local("a"), seen: None, overdue: false }]);
        assert!(stage.settled(&local("a"), start + seconds(3.6)));
        assert!(stage.is_empty());
    }

    #[test]
    fn what_waits_tells_how_far_it_is() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("a"), None, start);
        stage.touch(&local("a"), None, start + seconds(1.0));
        let a = stage.settling(&local("a"), start + seconds(1.5)).unwrap();
        assert_eq!((a.still_for, a.due_in), (seconds(0.5), seconds(1.5)));
        assert!(!a.is_busy && !a.is_read && !a.is_overdue);
        assert_eq!(stage.settling(&local("b"), start), None);
        assert!(stage.has_from(start), "a later touch does not make it younger");
        stage.take_due(start + seconds(3.0), 9);
        assert!(stage.settling(&local("a"), start + seconds(3.0)).unwrap().is_read);
        stage.moving(&local("a"), None, start + seconds(3.0));
        assert!(stage.settling(&local("a"), start + seconds(61.0)).unwrap().is_overdue);
        stage.settled(&local("a"), start + seconds(61.0));
        stage.touch(&local("a"), None, start + seconds(62.0));
        assert!(!stage.has_from(start + seconds(61.0)), "one that came anew is another");
    }

    #[test]
    fn a_file_that_never_gets_quiet_is_taken_at_the_maximum_wait() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let mut at = start;
        while at < start + LIMITS.max_wait {
            stage.touch(&local("log"), None, at);
            assert!(stage.take_due(at, 9).is_empty());
            at += seconds(0.5);
        }
        stage.touch(&local("log"), None, at);
        let due = stage.take_due(at, 9);
        assert!(due[0].overdue);
        stage.moving(&local("log"), None, at);
        assert_eq!((stage.busy(), stage.len()), (1, 1));
        assert!(stage.take_due(at + seconds(1.9), 9).is_empty());
        assert!(stage.take_due(at + seconds(2.0), 9)[0].overdue, "it stays overdue until it is taken");
    }

    #[test]
    fn a_file_that_will_not_hold_still_is_read_ever_more_rarely() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let (mut now, mut looks) = (start, Vec::new());
        while now < start + seconds(600.0) {
            stage.touch(&local("log"), None, now);
            for due in stage.take_due(now, 9) {
                looks.push(now.duration_since(start).as_secs());
                stage.moving(&due.path, None, now);
            }
            now += seconds(0.5);
        }
        assert_eq!(looks[..7], [60, 62, 66, 74, 90, 122, 182]);
        stage.touch(&local("log"), None, now);
        assert_eq!(
            stage.next_due(),
            Some(now + seconds(2.0)),
            "once quiet, it is looked at as soon as any other"
        );
    }

    #[test]
    fn a_quiet_file_that_waits_for_us_is_not_overdue() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("a"), None, start);
        stage.touch(&local("b"), None, start);
        let late = start + LIMITS.max_wait * 3;
        assert!(!stage.take_due(late, 1)[0].overdue);
        stage.touch(&local("b"), None, late);
        assert!(!stage.take_due(late + seconds(2.0), 1)[0].overdue, "nor is one that is touched meanwhile");
    }

    #[test]
    fn the_age_of_a_path_counts_from_its_first_touch() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("a"), None, start);
        stage.touch(&local("b"), None, start + seconds(1.0));
        stage.touch(&local("a"), None, start + seconds(1.5));
        assert_eq!(stage.waiting_since(), Some(start));
        assert_eq!(stage.take_due(start + seconds(3.5), 9).len(), 2);
        assert_eq!(stage.since(&local("a")), Some(start), "also while it is examined");
        assert!(stage.settled(&local("a"), start + seconds(4.0)));
        assert_eq!((stage.waiting_since(), stage.since(&local("a"))), (Some(start + seconds(1.0)), None));
        assert!(stage.settled(&local("b"), start + seconds(4.0)));
        assert_eq!(stage.waiting_since(), None);
    }

    #[test]
    fn a_file_that_we_read_for_long_is_not_overdue_for_that() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("huge"), None, start);
        assert!(!stage.take_due(start + seconds(2.0), 9)[0].overdue);
        let read = start + LIMITS.max_wait * 2;
        stage.moving(&local("huge"), None, read);
        assert!(!stage.take_due(read + seconds(2.0), 9)[0].overdue);
    }

    #[test]
    fn what_a_scan_finds_during_an_examination_voids_it() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        stage.touch(&local("a"), None, start);
        assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
        stage.found(&local("a"), Some(signature), start + seconds(2.1));
        assert!(!stage.settled(&local("a"), start + seconds(2.2)));
    }

    #[test]
    fn a_scan_that_finds_a_file_as_it_is_examined_does_not_void_that() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let signature = Some(Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 });
        stage.touch(&local("a"), signature, start);
        assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
        // Else a file that takes longer to read than everything takes to scan would never be taken in a flood.
        stage.found(&local("a"), signature, start + seconds(2.1));
        assert!(stage.settled(&local("a"), start + seconds(2.2)));
    }

    #[test]
    fn a_snapshot_holds_although_its_file_is_touched_meanwhile() {
        let mut now = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let mut snapshots = Vec::new();
        stage.touch(&local("log"), None, now);
        for _ in 0..1_000 {
            now += seconds(0.5);
            stage.touch(&local("log"), None, now);
            for due in stage.take_due(now, 9) {
                // Reading it takes longer than the writer pauses.
                now += seconds(3.0);
                stage.touch(&due.path, None, now);
                snapshots.push((due.overdue, stage.settled(&due.path, now)));
            }
        }
        assert!(snapshots.len() > 3 && snapshots.len() < 20, "one each minute: {snapshots:?}");
        assert!(snapshots.iter().all(|snapshot| *snapshot == (true, true)), "{snapshots:?}");
    }

    #[test]
    fn a_touch_during_the_examination_voids_what_it_found() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        stage.touch(&local("a"), None, start);
        assert_eq!(stage.take_due(start + seconds(2.0), 9).len(), 1);
        stage.touch(&local("a"), None, start + seconds(2.1));
        assert!(!stage.settled(&local("a"), start + seconds(2.2)));
        assert_eq!(stage.take_due(start + seconds(4.2), 9).len(), 1);
        assert!(stage.settled(&local("a"), start + seconds(4.3)));
    }

    #[test]
    fn a_later_look_at_the_same_file_does_not_make_it_wait_longer() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        stage.found(&local("a"), Some(signature), start);
        stage.found(&local("a"), Some(signature), start + seconds(1.0));
        assert_eq!(stage.next_due(), Some(start + seconds(2.0)));
        stage.found(&local("a"), Some(Signature { size: 2, ..signature }), start + seconds(1.0));
        assert_eq!(stage.next_due(), Some(start + seconds(3.0)));
    }

    #[test]
    fn a_file_that_is_known_to_be_at_rest_is_due_at_once_unless_it_waits_for_a_reason() {
        let start = Instant::now();
        let mut stage = SettleStage::new(LIMITS);
        let signature = Signature { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 };
        stage.found_at_rest(&local("a"), signature, start);
        let due = stage.take_due(start, 9);
        assert_eq!(due, [Due { path: local("a"), seen: Some(signature), overdue: false }]);
        stage.touch(&local("b"), None, start);
        stage.found_at_rest(&local("b"), signature, start);
        assert_eq!(stage.next_due(), Some(start + seconds(2.0)), "an event spoke of it");
    }

    proptest! {
        #[test]
        fn every_touched_path_is_looked_at_after_its_last_touch(
            steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..3000_u64), 1..120)
        ) {
            let start = Instant::now();
            let mut stage = SettleStage::new(LIMITS);
            let (mut now, mut out, mut fresh) = (start, Vec::new(), std::collections::HashSet::new());
            for (what, name, millis) in steps {
                let path = local(&name.to_string());
                now += Duration::from_millis(millis);
                match what {
                    0 => { stage.touch(&path, None, now); fresh.insert(path); }
                    1 => out.extend(stage.take_due(now, 2).into_iter().map(|due| due.path)),
                    2 => if let Some(path) = out.pop()
                        && stage.settled(&path, now) { fresh.remove(&path); },
                    _ => if let Some(path) = out.pop() { stage.moving(&path, None, now); },
                }
                prop_assert!(stage.by_due.len() + out.len() == stage.len());
                prop_assert!(stage.by_age.len() == stage.len() && stage.by_age.values().is_sorted());
            }
            for path in out { if stage.settled(&path, now) { fresh.remove(&path); } }
            for _ in 0..20 {
                now += LIMITS.max_wait;
                for due in stage.take_due(now, 99) {
                    if stage.settled(&due.path, now) { fresh.remove(&due.path); }
                }
            }
            prop_assert!(fresh.is_empty() && stage.is_empty() && stage.busy() == 0);
        }
    }
}
