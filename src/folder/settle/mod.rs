mod below;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use self::below::Below;
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
    below: Option<Below>,
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
            below: None,
            by_due: BTreeSet::new(),
            busy: 0,
            by_age: BTreeMap::new(),
            came: 0,
        }
    }

    /// The same stage, still without paths, for someone who often asks what is [`below`](Self::has_below) directories.
    #[must_use]
    pub fn by_dirs(self) -> Self {
        Self { below: Some(Below::default()), ..self }
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

    /// Whether something at or below `dir` waits, or is examined.
    pub fn has_below(&self, dir: &LocalPath) -> bool {
        match &self.below {
            Some(below) => below.has(dir) || self.entries.contains_key(dir),
            None => self.entries.keys().any(|path| path.starts_with(dir)),
        }
    }

    /// The same of what had come by `then` and may still get quiet: what failed its looks past the maximum wait may never.
    pub fn has_hope_below(&self, dir: &LocalPath, then: Instant) -> bool {
        let is_old = |entry: &Entry| self.by_age.get(&entry.number).is_some_and(|since| *since <= then);
        self.entries.iter().any(|(path, entry)| entry.failed == 0 && path.starts_with(dir) && is_old(entry))
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
        if let Some(below) = &mut self.below {
            below.remove(path);
        }
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
            if let Some(below) = &mut self.below {
                below.add(path);
            }
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
mod tests;
