use tokio::time::Instant;

use super::Pusher;
use super::batch::bytes_of;
use crate::state::Change;

/// What the pushing is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PushPhase {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// It makes sure of repository and branch.
    Connecting,
    /// It settles what was under way.
    Recovering,
    /// It lists what the branch holds.
    Listing,
    /// It sends content.
    Staging,
    /// The request that commits is under way.
    Committing,
    /// It compares the branch with what was sent.
    Proving,
    /// A try failed; the next comes by itself.
    Waiting {
        /// Why, and what to do.
        reason: String,
        /// When the next try is due, in milliseconds since the epoch.
        next_ms: i64,
        /// Tries that failed in a row.
        attempts: u32,
    },
    /// Someone has paused it.
    Paused,
    /// Nothing is sent at this time of the week.
    OutsideWindow,
    /// Nobody is let in; tried again now and then, and at once after a reload.
    Stopped {
        /// Why, and what to do.
        reason: String,
        /// When the next try is due, in milliseconds since the epoch.
        next_ms: i64,
    },
}

impl PushPhase {
    /// Whether it is at work at the server.
    pub fn is_active(&self) -> bool {
        !matches!(
            self,
            Self::Idle | Self::Paused | Self::OutsideWindow | Self::Waiting { .. } | Self::Stopped { .. }
        )
    }
}

/// How far the batch under way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchProgress {
    /// Changes in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Changes staged.
    pub files_sent: u64,
    /// Bytes that the server has.
    pub bytes_sent: u64,
}

/// The pushing as it is at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushStatus {
    /// What it is doing.
    pub phase: PushPhase,
    /// The batch under way, or the last one.
    pub batch: BatchProgress,
    /// Why a request of the batch under way is sent again, while it is.
    pub hitch: Option<String>,
    /// Whether it waits while a folder of a higher priority delivers.
    pub is_behind: bool,
    /// Changes that wait for a batch.
    pub pending: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// When the oldest of all that waits or is under way here was first seen to have changed.
    pub waiting_since: Option<Instant>,
    /// Whether there are more changes than are counted in `pending`.
    pub has_more: bool,
    /// Whether removals are held.
    pub is_holding: bool,
    /// Commits proved since the start.
    pub commits: u64,
    /// Files in them.
    pub files_pushed: u64,
    /// Removals in them.
    pub files_removed: u64,
    /// Bytes in them.
    pub bytes_pushed: u64,
    /// Tries that failed since the start.
    pub failures: u64,
    /// Files put in quarantine since the start.
    pub quarantined: u64,
    /// Changes left out because their file was not what it was.
    pub dropped: u64,
    /// Files that are on the branch and were taken off the machine since the start.
    pub taken_off: u64,
    /// Their bytes.
    pub taken_off_bytes: u64,
    /// Why files that were to be taken off stay until somebody does something; empty where none does.
    pub staying: String,
    /// Files that the branch was listed with.
    pub listed: u64,
}

impl Pusher {
    /// Says what is being done.
    pub(super) fn phase(&self, phase: PushPhase) {
        self.status.send_if_modified(|status| {
            let is_new = status.phase != phase;
            status.phase = phase;
            is_new
        });
    }

    /// A batch sets out.
    pub(super) fn start_progress(&self, phase: PushPhase, changes: &[Change]) {
        self.status.send_modify(|status| {
            status.phase = phase;
            status.batch = BatchProgress {
                files: changes.len() as u64,
                bytes: changes.iter().map(bytes_of).sum(),
                files_sent: 0,
                bytes_sent: 0,
            };
        });
    }

    /// More changes join the batch that is being staged.
    pub(super) fn extend_progress(&self, changes: &[Change]) {
        self.status.send_modify(|status| {
            status.phase = PushPhase::Staging;
            status.batch.files += changes.len() as u64;
            status.batch.bytes += changes.iter().map(bytes_of).sum::<u64>();
        });
    }

    /// A request is sent again, for this reason, or need not be any more.
    pub(super) fn hitch(&self, hitch: Option<String>) {
        self.status.send_if_modified(|status| {
            let is_new = status.hitch != hitch;
            status.hitch = hitch;
            is_new
        });
    }

    /// So many files are staged, and so many bytes are with the server.
    pub(super) fn sent(&self, files: u64, bytes: u64) {
        self.status.send_modify(|status| {
            status.batch.files_sent += files;
            // What the server has lost is sent again.
            status.batch.bytes_sent = (status.batch.bytes_sent + bytes).min(status.batch.bytes);
        });
    }
}
