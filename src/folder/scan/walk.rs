use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::path::LocalPath;

/// The directories that threads still have to list together. Each is handed out once, the last found first.
#[derive(Debug)]
pub(super) struct Walk {
    left: Mutex<Left>,
    changed: Condvar,
}

#[derive(Debug)]
struct Left {
    stack: Vec<LocalPath>,
    /// Directories handed out; more may be found in each.
    under_way: usize,
    ended: bool,
}

/// A directory that is being listed until this goes.
#[derive(Debug)]
pub(super) struct Handed<'a> {
    walk: &'a Walk,
    dir: LocalPath,
    found: Vec<LocalPath>,
}

impl From<LocalPath> for Walk {
    fn from(start: LocalPath) -> Self {
        let left = Left { stack: vec![start], under_way: 0, ended: false };
        Self { left: Mutex::new(left), changed: Condvar::new() }
    }
}

impl Walk {
    /// The next directory; waits while others may find one. `None` where none is left, or the walk has ended.
    pub(super) fn next(&self) -> Option<Handed<'_>> {
        let mut left = self.lock();
        loop {
            if left.ended {
                return None;
            }
            if let Some(dir) = left.stack.pop() {
                left.under_way += 1;
                return Some(Handed { walk: self, dir, found: Vec::new() });
            }
            if left.under_way == 0 {
                return None;
            }
            left = self.changed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands out no more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Whether it ended before all was listed.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handed<'_> {
    /// Which directory it is.
    pub(super) fn path(&self) -> &LocalPath {
        &self.dir
    }

    /// Those found in it are handed out once this goes, the last of them first.
    pub(super) fn found(&mut self, dirs: Vec<LocalPath>) {
        self.found = dirs;
    }
}

/// Also where a thread panics: the others must not wait for it.
impl Drop for Handed<'_> {
    fn drop(&mut self) {
        let mut left = self.walk.lock();
        left.under_way -= 1;
        left.stack.append(&mut self.found);
        drop(left);
        self.walk.changed.notify_all();
    }
}
