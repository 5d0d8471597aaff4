//! Whether a folder can be used, and is the one it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::filter::IgnoreFileError;
use super::intake::IntakeOptions;
use super::remote::remote_filesystem;
use super::scan::ScanError;
use super::{Coverage, Filter, Inbox, TreeWatch};
use crate::content::{FileClock, Mounts, OpenError, RootDir};
use crate::path::{LocalPath, printable};
use crate::state::{State, StateError};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the folder {} cannot be opened: {reason}", printable(path))]
    Root { path: PathBuf, reason: String },
    #[error("there is no folder {}; it is used as soon as it is there", printable(.0))]
    Missing(PathBuf),
    #[error("the folder {} is gone or has been replaced", printable(.0))]
    Replaced(PathBuf),
    #[error(
        "the folder {} is empty and not the directory it was; is a disk not mounted? nothing is done until it is back",
        printable(.0)
    )]
    Unmounted(PathBuf),
    #[error(
        "the folder {} is not the directory it was; is a disk not mounted, or another one? with on_delete = \"mirror\" \
         nothing is done, so that nothing is removed from the branch by mistake; if this is the right one, set \
         on_delete = \"keep\" for the folder, wait until it is watched, and set it back",
        printable(.0)
    )]
    Another(PathBuf),
    #[error("its .oxenignore cannot be used, so nothing is pushed: {0}")]
    Ignore(#[from] IgnoreFileError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<ScanError> for Broken {
    fn from(ScanError::State(error): ScanError) -> Self {
        Self::State(error)
    }
}

/// A folder that can be used.
pub(super) struct OpenedRoot {
    pub root: RootDir,
    pub filter: Filter,
    pub watch: Option<TreeWatch>,
    /// What is known of it before anything is watched.
    pub coverage: Coverage,
    /// Whether its files carry the times of this machine's clock.
    pub is_dated_here: bool,
}

/// Opens the folder, and makes sure that it is the one that was there before.
pub(super) fn open_root(
    options: &IntakeOptions,
    state: &State,
    inbox: &Arc<Inbox>,
    cancel: &CancellationToken,
) -> Result<OpenedRoot, Broken> {
    let path = &options.path;
    let known = state.root_id(options.folder)?;
    let root = RootDir::open_counted(path, &options.calls).map_err(|error| match OpenError::from(error) {
        OpenError::Gone if known.is_none() => Broken::Missing(path.clone()),
        error => Broken::Root { path: path.clone(), reason: error.to_string() },
    })?;
    if known.is_some_and(|known| !known.is_same(&root.id())) {
        let is_empty =
            root.read_dir(&LocalPath::root(), &Mounts::below(&root)).is_ok_and(|entries| entries.is_empty());
        let would_remove = options.mirror && state.has_mirrored(options.folder)?;
        verdict(path, is_empty, would_remove)?;
    }
    let filter = Filter::of_folder(&options.exclude, &options.include, &root)?;
    // A folder that answers after its work has ended tells nothing to the work that came after it.
    if !cancel.is_cancelled() {
        state.set_root_id(options.folder, root.id())?;
    }
    let (watch, coverage) = if options.lasting { watcher_for(&root, inbox) } else { (None, Coverage::Full) };
    if let Coverage::None { reason } = &coverage {
        warn!(folder = %printable(path), "the folder is not watched: {reason}");
    }
    let is_dated_here = root.filesystem_magic().is_ok_and(FileClock::dates);
    Ok(OpenedRoot { root, filter, watch, coverage, is_dated_here })
}

/// A watcher for the folder, or why there is none.
pub(super) fn watcher_for(root: &RootDir, inbox: &Arc<Inbox>) -> (Option<TreeWatch>, Coverage) {
    let unwatched = |reason: String| (None, Coverage::None { reason });
    if let Some(name) = remote_filesystem(root.filesystem_magic().unwrap_or(0)) {
        return unwatched(format!("{name} tells of no changes made elsewhere; it is scanned on a timer"));
    }
    match TreeWatch::new(root, Arc::clone(inbox)) {
        Ok(watch) => (Some(watch), Coverage::Full),
        Err(error) => unwatched(format!(
            "the kernel gives no watcher ({error}); it is scanned on a timer; raise fs.inotify.max_user_instances, or \
             the limit of open files (ulimit -n)"
        )),
    }
}

/// What to do with a directory that is not the one that stood at the folder's path before.
fn verdict(path: &Path, is_empty: bool, would_remove: bool) -> Result<(), Broken> {
    match (is_empty, would_remove) {
        (true, _) => Err(Broken::Unmounted(path.to_path_buf())),
        (false, true) => Err(Broken::Another(path.to_path_buf())),
        (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_directory_is_taken_only_where_it_can_do_no_harm() {
        let path = Path::new("/data");
        assert!(matches!(verdict(path, true, false), Err(Broken::Unmounted(_))));
        assert!(matches!(verdict(path, true, true), Err(Broken::Unmounted(_))));
        assert!(matches!(verdict(path, false, true), Err(Broken::Another(_))));
        assert!(verdict(path, false, false).is_ok());
    }
}
