use super::{Pusher, worker};
use crate::folder::Hint;
use crate::path::{LocalPath, printable};
use crate::state::{Change, ChangeKind, ProblemKind, ProblemRow};

use super::pusher::Failure;

impl Pusher {
    /// Writes down that the server would not take this version of the file.
    pub(super) async fn quarantine(&self, change: &Change, reason: &str) -> Result<(), Failure> {
        let signature = match change.kind {
            ChangeKind::Put { signature, .. } => Some(signature),
            ChangeKind::Remove => None,
        };
        let row = ProblemRow {
            path: change.path.clone(),
            kind: ProblemKind::Quarantined,
            reason: reason.to_owned(),
            since_ms: worker::now_ms(),
            signature,
        };
        tracing::warn!(
            folder = %printable(&self.options.path), path = %row.path,
            "not pushed: {reason}; it is tried again when it changes, at a reload, and once a day"
        );
        self.status.send_modify(|status| status.quarantined += 1);
        let folder = self.options.folder;
        self.blocking(move |state| state.set_problem(folder, &row).map(|_| ())).await
    }

    /// Drops a change whose file is not what it was; whoever watches the folder looks at it again.
    pub(super) fn drop_change(&self, path: &LocalPath, reason: &dyn std::fmt::Display) {
        tracing::debug!(folder = %printable(&self.options.path), %path, "left out of the batch: {reason}");
        self.status.send_modify(|status| status.dropped += 1);
        if self.options.marker.is_set() {
            self.lock_left_out().push(path.clone());
        }
        self.inbox.add(Hint::Path(path.clone()));
    }
}
