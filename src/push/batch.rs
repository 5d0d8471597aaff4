use std::collections::HashSet;

use super::stage::Staged;
use super::{Pusher, worker};
use crate::config::MessageFacts;
use crate::oxen::CommitInfo;
use crate::path::{LocalPath, RepoPath};
use crate::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceError, StateError};

/// A batch on its way, with everything that its steps need.
#[derive(Debug)]
pub(super) struct Batch {
    pub row: BatchRow,
    pub changes: Vec<Change>,
    /// Where each of the changes stands on the branch.
    pub paths: Vec<RepoPath>,
    pub info: CommitInfo,
}

impl Batch {
    /// Keeps only the changes at `indices`, which are in any order.
    pub(super) fn retain(&mut self, indices: &[usize]) {
        let mut keep = vec![false; self.changes.len()];
        for index in indices {
            if let Some(slot) = keep.get_mut(*index) {
                *slot = true;
            }
        }
        let mut at = keep.iter();
        self.changes.retain(|_| *at.next().unwrap_or(&false));
        let mut at = keep.iter();
        self.paths.retain(|_| *at.next().unwrap_or(&false));
    }

    /// Keeps only what is staged, with all that is known of it by now. Returns what was not known before.
    pub(super) fn keep(&mut self, staged: &Staged) -> Vec<(LocalPath, [u8; 32])> {
        let mut hashed = Vec::with_capacity(staged.hashed.len());
        for (index, found) in &staged.hashed {
            let Some(change) = self.changes.get_mut(*index) else { continue };
            if let ChangeKind::Put { digests, .. } = &mut change.kind {
                digests.sha256 = Some(*found);
                hashed.push((change.path.clone(), *found));
            }
        }
        self.retain(&staged.indices);
        hashed
    }

    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.changes.iter().map(bytes_of).sum()
    }
}

/// Bytes that a change puts on the branch.
pub(super) fn bytes_of(change: &Change) -> u64 {
    match change.kind {
        ChangeKind::Put { signature, .. } => signature.size,
        ChangeKind::Remove => 0,
    }
}

impl Pusher {
    /// Where a change takes effect on the branch.
    /// `None` for a name that cannot stand there; it was refused when it was looked at.
    pub(super) fn path_of(&self, change: &Change) -> Result<Option<RepoPath>, StateError> {
        match self.options.places.path_of(change.place, &change.path) {
            Ok(path) => Ok(Some(path)),
            Err(PlaceError::Refused(_)) => Ok(None),
            Err(PlaceError::State(error)) => Err(error),
        }
    }

    /// A batch of `changes` under a number of its own.
    pub(super) fn new_batch(&self, changes: Vec<Change>, message: String) -> Result<Batch, StateError> {
        let id = self.state.next_batch_id()?;
        let row = BatchRow {
            id,
            phase: Phase::Staging,
            transport: BatchTransport::Workspace,
            // Never one that was used before, also not by a state that was lost: it might hold what was staged then.
            workspace: format!("{}-{id}-{:x}", self.workspace_prefix(), worker::now_ms()),
            message,
        };
        self.batch_of(row, changes)
    }

    /// A batch that the journal knows.
    pub(super) fn batch_of(&self, row: BatchRow, changes: Vec<Change>) -> Result<Batch, StateError> {
        let mut placed = Vec::with_capacity(changes.len());
        for change in changes {
            placed.extend(self.path_of(&change)?.map(|path| (change, path)));
        }
        // In the order of the branch's tree, which is the folder's unless times are part of it.
        placed.sort_by(|(_, one), (_, other)| one.as_str().split('/').cmp(other.as_str().split('/')));
        let (changes, paths) = placed.into_iter().unzip();
        let author = &self.target.author;
        let info = CommitInfo {
            message: row.message.clone(),
            name: author.name.clone(),
            email: author.email.clone(),
        };
        Ok(Batch { row, changes, paths, info })
    }

    /// The commit's message; `new` are the paths where the branch is not known to hold a file.
    pub(super) fn message(&self, changes: &[Change], new: &HashSet<LocalPath>) -> String {
        let is_put = |change: &&Change| change.kind != ChangeKind::Remove;
        let puts = changes.iter().filter(is_put).count() as u64;
        let added = changes.iter().filter(is_put).filter(|change| new.contains(&change.path)).count() as u64;
        let facts = MessageFacts {
            host: &self.options.host,
            folder: &self.options.path,
            added,
            changed: puts - added,
            removed: changes.len() as u64 - puts,
            bytes: changes.iter().map(bytes_of).sum(),
            at: &jiff::Zoned::now(),
        };
        self.options.message.render(&facts)
    }
}
