use std::collections::HashSet;

use super::prove::look_up;
use super::pusher::{Failure, Pusher};
use super::{PushPhase, Target, prove};
use crate::path::{LocalPath, printable};
use crate::state::{Change, ChangeKind, Confirmed, FolderKey, Presence, State, StateError};

/// Changes sorted by what is known of their paths.
#[derive(Debug, Default)]
struct Sorted {
    /// Each with whether the branch is not known to hold a file there.
    needed: Vec<(Change, bool)>,
    /// On the branch already, as we proved ourselves.
    confirmed: Vec<Confirmed>,
    /// On the branch already, as far as somebody's listing said, or as it was when the folder had the file last.
    doubtful: Vec<Change>,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub changes: Vec<Change>,
    /// Paths where the branch is not known to hold a file.
    pub new: HashSet<LocalPath>,
}

impl Pusher {
    /// Makes sure of the target, settles what is open, and leaves out what needs no sending.
    pub(super) async fn prepare(&self, changes: &[Change]) -> Result<Needed, Failure> {
        self.make_sure().await?;
        self.needed(changes).await
    }

    /// Leaves out what needs no sending, and clears the way on the branch for the rest.
    pub(super) async fn needed(&self, changes: &[Change]) -> Result<Needed, Failure> {
        if changes.is_empty() {
            return Ok(Needed::default());
        }
        let (folder, changes) = (self.options.folder, changes.to_vec());
        let mut sorted = self.blocking(move |state| sort(state, folder, changes)).await?;
        self.look_into(&mut sorted).await?;
        let Sorted { mut needed, confirmed, .. } = sorted;
        // Batches are in the order of their paths.
        needed.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        let (needed, is_new): (Vec<Change>, Vec<bool>) = needed.into_iter().unzip();
        if !confirmed.is_empty() {
            tracing::debug!(
                folder = %printable(&self.options.path), files = confirmed.len(), "on the branch already"
            );
            let as_pushed = confirmed.iter().map(|file| (file.path.clone(), Some(file.signature))).collect();
            self.blocking(move |state| state.confirm_files(folder, &confirmed)).await?;
            self.look_again(as_pushed).await;
        }
        if needed.is_empty() {
            return Ok(Needed::default());
        }
        let new = needed.iter().zip(&is_new).filter(|(_, is_new)| **is_new);
        let new = new.map(|(change, _)| change.path.clone()).collect();
        let changes = self.clear_the_way(needed, &is_new).await?;
        self.remove_unproved(&changes).await?;
        Ok(Needed { changes, new })
    }

    /// Sees to it that the branch is there and holds what it is known to hold, and that nothing of ours is under way.
    async fn make_sure(&self) -> Result<(), Failure> {
        use std::sync::atomic::Ordering::Relaxed;
        self.phase(PushPhase::Connecting);
        let first = format!("{}-first", self.workspace_prefix());
        if self.target.ensure(&first).await.map_err(Failure::before_content)? {
            self.surveyed.store(false, Relaxed);
        }
        self.recover().await?;
        if !self.surveyed.load(Relaxed) {
            self.sweep().await.map_err(Failure::before_content)?;
            self.phase(PushPhase::Listing);
            self.survey().await.map_err(Failure::before_content)?;
            self.surveyed.store(true, Relaxed);
        }
        Ok(())
    }

    /// Asks the branch about the doubtful ones.
    async fn look_into(&self, sorted: &mut Sorted) -> Result<(), Failure> {
        let doubtful = std::mem::take(&mut sorted.doubtful);
        if doubtful.is_empty() {
            return Ok(());
        }
        let (mut changes, mut paths) = (Vec::new(), Vec::new());
        for change in doubtful {
            if let Some(path) = self.path_of(&change)? {
                changes.push(change);
                paths.push(path);
            }
        }
        let Target { client, repo, .. } = &self.target;
        let head = self.target.head().await?;
        let found = look_up(client, repo, &head, &paths, self.options.concurrency).await?;
        let mut holds = vec![false; changes.len()];
        for (index, entry) in found {
            if let (Some(change), Some(slot)) = (changes.get(index), holds.get_mut(index)) {
                *slot = prove::holds(change, entry.as_ref());
            }
        }
        for (change, holds) in changes.into_iter().zip(holds) {
            match change.kind {
                ChangeKind::Put { signature, mut digests, racy } if holds => {
                    if digests.sha256.is_none() {
                        let source = self.open_source().await?;
                        digests.sha256 = self.hash_late(&source, &change).await?;
                        if digests.sha256.is_none() {
                            continue;
                        }
                    }
                    sorted.confirmed.push(Confirmed { path: change.path, signature, digests, racy });
                }
                _ => sorted.needed.push((change, true)),
            }
        }
        Ok(())
    }

    /// A workspace takes a file for unchanged when the size and the time of storing are those of the content that the
    /// branch holds at its path, whatever its bytes (oxen-server 0.65.2). Files that were found missing once are
    /// therefore removed in a commit before: what is not there is not taken for unchanged.
    async fn remove_unproved(&self, changes: &[Change]) -> Result<(), Failure> {
        let (mut again, mut paths) = (Vec::new(), Vec::new());
        for change in changes.iter().filter(|change| change.kind != ChangeKind::Remove) {
            let is_unproved = self.lock_unproved().contains(&change.path);
            if is_unproved && let Some(path) = self.path_of(change)? {
                again.push(change.path.clone());
                paths.push(path);
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        // Should we end in between, the files must be found to differ.
        let (folder, forgotten) = (self.options.folder, again.clone());
        self.blocking(move |state| state.forget_files(folder, &forgotten)).await?;
        self.remove_files(&paths).await?;
        self.lock_unproved().retain(|path| !again.contains(path));
        Ok(())
    }
}

fn sort(state: &State, folder: FolderKey, changes: Vec<Change>) -> Result<Sorted, StateError> {
    let mut sorted = Sorted::default();
    for mut change in changes {
        let row = state.file(folder, &change.path)?;
        if let Some(row) = &row {
            change.place = row.place;
        }
        match (&change.kind, row) {
            (ChangeKind::Put { signature, digests, racy }, Some(row))
                if row.holds(signature.size, digests) =>
            {
                if row.is_proved() {
                    let (signature, digests, racy) = (*signature, *digests, *racy);
                    sorted.confirmed.push(Confirmed { path: change.path, signature, digests, racy });
                } else {
                    sorted.doubtful.push(change);
                }
            }
            // A listing has shown meanwhile that the branch holds another's file there, or none.
            (ChangeKind::Remove, row)
                if row.as_ref().is_none_or(|row| row.known.presence != Presence::Released) => {}
            (_, row) => sorted.needed.push((change, row.is_none())),
        }
    }
    Ok(sorted)
}
