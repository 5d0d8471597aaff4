//! Runs: the files of a directory count as finished together, once a file of a set name lies beside or above them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::path::LocalPath;

/// Which runs of a folder are finished.
#[derive(Debug)]
pub struct Runs {
    marker: OsString,
    /// Directories whose marker is finished, and not known to be on the branch yet.
    finished: Mutex<BTreeSet<LocalPath>>,
}

impl Runs {
    /// No run is finished yet. A file of the name `marker` finishes one.
    pub fn new(marker: impl Into<OsString>) -> Self {
        Self { marker: marker.into(), finished: Mutex::default() }
    }

    /// What finishes a run.
    pub fn marker(&self) -> &OsStr {
        &self.marker
    }

    /// Whether the file at `path` finishes a run.
    pub fn is_marker(&self, path: &LocalPath) -> bool {
        path.name() == self.marker
    }

    /// The marker of the directory is finished.
    pub fn finish(&self, dir: LocalPath) {
        self.lock().insert(dir);
    }

    /// The marker of the directory has gone: what comes there from now on is of another run.
    pub fn begin(&self, dir: &LocalPath) {
        self.lock().remove(dir);
    }

    /// Whether the file at `path` waits for its run to be finished. `is_pushed` says whether a marker is on the branch and
    /// still here.
    ///
    /// # Errors
    /// Those of `is_pushed`.
    pub fn holds_back<E>(
        &self,
        path: &LocalPath,
        is_pushed: impl Fn(&LocalPath) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if self.is_marker(path) {
            return Ok(false);
        }
        let mut above = path.parent();
        while let Some(dir) = above {
            if is_pushed(&dir.join(&self.marker))? {
                // What the state knows need not be known here.
                self.lock().remove(&dir);
                return Ok(false);
            }
            if self.lock().contains(&dir) {
                return Ok(false);
            }
            above = dir.parent();
        }
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<LocalPath>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;

    use super::*;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    fn waits(runs: &Runs, path: &str, pushed: &str) -> bool {
        let is_pushed = |marker: &LocalPath| Ok::<_, Infallible>(*marker == local(pushed));
        let Ok(waits) = runs.holds_back(&local(path), is_pushed);
        waits
    }

    #[test]
    fn a_run_is_finished_by_a_marker_beside_or_above() {
        let runs = Runs::new("DONE");
        for (path, pushed, expected) in [
            ("run/a", "nothing", true),
            ("run/a", "run/DONE", false),
            ("run/deep/er/a", "run/DONE", false),
            ("run/a", "DONE", false),
            ("a", "DONE", false),
            ("run/a", "other/DONE", true),
            ("run/a", "run/a/DONE", true),
            ("run/DONE", "nothing", false),
            ("run/DONE.txt", "nothing", true),
        ] {
            assert_eq!(waits(&runs, path, pushed), expected, "{path}, {pushed}");
        }
    }

    #[test]
    fn a_run_is_finished_before_its_marker_is_on_the_branch_and_not_after_it_has_gone() {
        let runs = Runs::new("DONE");
        runs.finish(local("run"));
        assert!(!waits(&runs, "run/a", "nothing") && waits(&runs, "other/a", "nothing"));
        // Known to be pushed, then gone.
        assert!(!waits(&runs, "run/a", "run/DONE"));
        assert!(waits(&runs, "run/a", "nothing"));
        runs.finish(local("run"));
        runs.begin(&local("run"));
        assert!(waits(&runs, "run/a", "nothing"));
    }
}
