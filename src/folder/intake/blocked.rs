use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::super::{Hint, Inbox};
use crate::content::{EntryKind, Mounts, OpenError, RootDir};
use crate::path::LocalPath;

/// Paths remembered; what is beyond waits for the next scan of everything.
const BLOCKED_MAX: usize = 64;

/// What a scan could not come to: directories with another filesystem mounted over them, and what the kernel would not
/// let us read. No event says when that is over, so they are looked at now and then.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    paths: BTreeSet<LocalPath>,
    /// The look under way. What is mounted may hang, and must not hold up anything else.
    look: Option<JoinHandle<Vec<LocalPath>>>,
}

impl Blocked {
    pub(super) fn add(&mut self, path: LocalPath) {
        if self.paths.len() < BLOCKED_MAX {
            self.paths.insert(path);
        }
    }

    /// Has `inbox` told of everything that can be come to by now. Returns at once.
    pub(super) async fn look_again(&mut self, root: &Arc<RootDir>, inbox: &Arc<Inbox>) {
        if let Some(look) = self.look.take_if(|look| look.is_finished()) {
            // A panic in there is a bug that the rescan makes good.
            look.await.unwrap_or_default().into_iter().for_each(|path| self.add(path));
        }
        if self.look.is_some() || self.paths.is_empty() {
            return;
        }
        let (paths, root, inbox) = (mem::take(&mut self.paths), Arc::clone(root), Arc::clone(inbox));
        self.look = Some(tokio::task::spawn_blocking(move || {
            let mounts = Mounts::below(&root);
            let (still, over) = paths.into_iter().partition(|path| is_blocked(&root, &mounts, path));
            let over: Vec<LocalPath> = over;
            over.into_iter().for_each(|path| inbox.add(Hint::Path(path)));
            still
        }));
    }
}

fn is_blocked(root: &RootDir, mounts: &Mounts, path: &LocalPath) -> bool {
    // What is mounted may hang, and the kernel knows without it.
    if mounts.has(path) {
        return true;
    }
    match root.look(path) {
        Ok(EntryKind::Dir { device }) => device != root.id().device || root.read_dir(path, mounts).is_err(),
        Ok(EntryKind::Unknown) | Err(OpenError::Io(_) | OpenError::Mounted) => true,
        _ => false,
    }
}
