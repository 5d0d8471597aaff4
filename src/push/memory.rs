use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for content that is read or sent, shared by all folders of one server, in MiB.
pub const SHARED_MIB: u32 = 24;
/// What each folder has for itself besides, in MiB: enough for the largest form, and for a part that goes piece by piece.
const OWN_MIB: u32 = 4;

/// Memory for one folder's content. What is shared is only ever taken while there is some; nobody queues for it, so that no
/// folder waits for another one's upload. Memory grows with the folders that send, and not with those that are configured.
#[derive(Debug)]
pub(super) struct Memory {
    shared: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Memory {
    /// A folder's memory, with its part of what is `shared`.
    pub(super) fn new(shared: Arc<Semaphore>) -> Self {
        Self { shared, own: Arc::new(Semaphore::new(OWN_MIB as usize)) }
    }

    /// Takes memory for `bytes` at once if there is some to share.
    pub(super) fn spare(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared).try_acquire_many_owned(mib(bytes)).ok()
    }

    /// Memory for `bytes`, and where that is more than a folder has for itself, for as much as it has. Waits for this folder's
    /// own requests at most.
    pub(super) async fn some(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        match self.spare(bytes) {
            Some(permit) => Some(permit),
            None => Arc::clone(&self.own).acquire_many_owned(mib(bytes).min(OWN_MIB)).await.ok(),
        }
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_folder_waits_for_its_own_requests_alone() {
        let shared = Arc::new(Semaphore::new(SHARED_MIB as usize));
        let (one, other) = (Memory::new(Arc::clone(&shared)), Memory::new(shared));
        let large = one.spare(20 << 20).unwrap();
        assert!(one.spare(5 << 20).is_none() && other.spare(5 << 20).is_none());
        let mine = one.some(5 << 20).now_or_never().flatten().unwrap();
        assert!(one.some(5 << 20).now_or_never().is_none(), "its own is taken");
        let others = other.some(5 << 20).now_or_never().flatten().unwrap();
        assert!(other.some(1).now_or_never().flatten().is_some(), "something small is to be shared still");
        drop((large, mine, others));
        assert!(other.spare(u64::from(SHARED_MIB) << 20).is_some(), "all of it comes back");
    }
}
