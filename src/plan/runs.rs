use std::ffi::OsString;

use crate::path::LocalPath;
use crate::state::{Change, ChangeKind};

/// The name of the file that finishes a run, where files are taken by runs. Such a file says that its run is complete, so it
/// is committed with the last of its run and never before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marker(Option<OsString>);

impl Marker {
    /// A file of this name finishes a run; without one, there are no runs.
    pub fn new(name: Option<impl Into<OsString>>) -> Self {
        Self(name.map(Into::into))
    }

    /// Whether there are runs.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the change puts a marker.
    pub fn is(&self, change: &Change) -> bool {
        change.kind != ChangeKind::Remove && self.0.as_ref().is_some_and(|name| change.path.name() == *name)
    }

    /// Whether the change puts a marker that finishes the run which `path` belongs to.
    pub fn finishes(&self, change: &Change, path: &LocalPath) -> bool {
        self.is(change) && *path != change.path && {
            let dir = change.path.parent().unwrap_or_default();
            *path != dir && path.starts_with(&dir)
        }
    }

    /// Where the markers would lie that finish the run which `path` belongs to.
    pub fn places(&self, path: &LocalPath) -> impl Iterator<Item = LocalPath> {
        let above = std::iter::successors(path.parent(), LocalPath::parent);
        above.filter_map(|dir| self.0.as_ref().map(|name| dir.join(name)))
    }

    /// Parts the markers from all else.
    pub fn part(&self, changes: Vec<Change>) -> (Vec<Change>, Vec<Change>) {
        changes.into_iter().partition(|change| self.is(change))
    }
}

#[cfg(test)]
mod tests {
    use super::super::planner::tests::{put, remove};
    use super::*;

    #[test]
    fn a_marker_finishes_what_lies_beside_and_below_it() {
        let marker = Marker::new(Some("DONE"));
        let finishes = |path: &str, other: &str| marker.finishes(&put(path, 0), &put(other, 0).path);
        assert!(
            finishes("run/DONE", "run/a") && finishes("run/DONE", "run/deep/a") && finishes("DONE", "run/a")
        );
        assert!(finishes("run/DONE", "run/deep/DONE"), "a run within a run");
        assert!(
            !finishes("run/DONE", "run/DONE")
                && !finishes("run/DONE", "run2/a")
                && !finishes("run/a", "run/b")
        );
        assert!(!marker.is(&remove("run/DONE")) && !Marker::default().is(&put("DONE", 0)));
        let (markers, rest) = marker.part(vec![put("run/DONE", 0), put("run/a", 1)]);
        assert_eq!((markers, rest), (vec![put("run/DONE", 0)], vec![put("run/a", 1)]));
    }
}
