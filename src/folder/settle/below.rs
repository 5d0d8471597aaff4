use std::collections::HashMap;

use crate::path::LocalPath;

/// Counts paths by the directories that they lie below.
#[derive(Debug, Default)]
pub(super) struct Below(HashMap<LocalPath, usize>);

impl Below {
    pub(super) fn add(&mut self, path: &LocalPath) {
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            *self.0.entry(dir).or_default() += 1;
        }
    }

    /// Takes one out that was added.
    pub(super) fn remove(&mut self, path: &LocalPath) {
        let mut above = path.parent();
        while let Some(dir) = above {
            if let Some(count) = self.0.get_mut(&dir) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&dir);
                }
            }
            above = dir.parent();
        }
    }

    /// Whether any lies below `dir`.
    pub(super) fn has(&self, dir: &LocalPath) -> bool {
        self.0.contains_key(dir)
    }
}
