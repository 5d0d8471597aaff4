use std::collections::HashSet;
use std::sync::Arc;

use super::batch::Batch;
use super::pusher::{Failure, Pusher};
use super::verdict::Verdict;
use crate::content::{OpenFile, RootDir, is_absent, read_small};
use crate::oxen::FileBody;
use crate::path::{LocalPath, printable};
use crate::state::{Change, ChangeKind};

/// The folder that content is read from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub root: Arc<RootDir>,
}

impl Pusher {
    /// Opens the folder, if it still is the directory that was looked at.
    pub(super) async fn open_source(&self) -> Result<Source, Failure> {
        self.folder_answers().await?;
        let (path, folder) = (self.options.path.clone(), self.options.folder);
        let calls = Arc::clone(&self.options.calls);
        let opened = self
            .in_folder(move |state| {
                let known = state.root_id(folder)?;
                Ok(RootDir::open_counted(&path, &calls)
                    .map(|root| (known.is_none_or(|id| id.is_same(&root.id())), root)))
            })
            .await?;
        let unusable = |reason: String| {
            let path = printable(&self.options.path);
            Failure::of_surroundings(Verdict::Again, format!("the folder {path} cannot be read: {reason}"))
        };
        match opened {
            Ok((true, root)) => Ok(Source { root: Arc::new(root) }),
            Ok((false, _)) => Err(unusable("it is not the directory that was looked at".to_owned())),
            Err(error) => Err(unusable(error.to_string())),
        }
    }
}

/// A file that is open for its upload.
#[derive(Debug)]
pub(super) struct HeldFile(Option<OpenFile>);

impl HeldFile {
    /// Fills `buffer` from `offset` on.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |file| file.read_exact_at(buffer, offset))
    }
}

/// Some filesystems ask their server before a file is closed, and whoever lets go of this must not wait for that.
impl Drop for HeldFile {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            tokio::task::spawn_blocking(move || drop(file));
        }
    }
}

impl Source {
    /// Keeps a file open for its upload.
    pub(super) fn hold(file: OpenFile) -> HeldFile {
        HeldFile(Some(file))
    }

    /// Reads small files whole, each checked against the content that was hashed. What is not that any more is left
    /// out and hinted at.
    pub(super) async fn read(
        &self,
        pusher: &Pusher,
        batch: &Batch,
        indices: &[usize],
    ) -> Result<Vec<(usize, FileBody)>, Failure> {
        let wanted: Vec<_> = indices
            .iter()
            .filter_map(|index| {
                let (change, path) = (batch.changes.get(*index)?, batch.paths.get(*index)?);
                let ChangeKind::Put { signature, digests, .. } = change.kind else { return None };
                Some((*index, change.path.clone(), path.as_str().to_owned(), signature.size, digests))
            })
            .collect();
        let root = Arc::clone(&self.root);
        let read = pusher
            .in_folder(move |_| {
                let read = wanted.into_iter().map(|(index, local, name, size, digests)| {
                    (index, local.clone(), name, read_small(&root, &local, size, &digests))
                });
                Ok(read.collect::<Vec<_>>())
            })
            .await?;
        let mut bodies = Vec::with_capacity(read.len());
        for (index, local, name, read) in read {
            match read {
                Ok(bytes) => bodies.push((index, FileBody { name, bytes })),
                Err(error) => pusher.drop_change(&local, &error),
            }
        }
        Ok(bodies)
    }

    /// Indices of all changes but the removals whose file is there again.
    pub(super) async fn confirm_removals(
        &self,
        pusher: &Pusher,
        changes: &[Change],
    ) -> Result<Vec<usize>, Failure> {
        let removals: Vec<_> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.kind == ChangeKind::Remove)
            .map(|(index, change)| (index, change.path.clone()))
            .collect();
        let root = Arc::clone(&self.root);
        let still_there = pusher
            .in_folder(move |_| {
                let is_there = |path: &LocalPath| !is_absent(&root.look(path));
                Ok(removals.into_iter().filter(|(_, path)| is_there(path)).collect::<Vec<_>>())
            })
            .await?;
        for (_, path) in &still_there {
            pusher.drop_change(path, &"it is there again");
        }
        let still_there: HashSet<usize> = still_there.into_iter().map(|(index, _)| index).collect();
        Ok((0..changes.len()).filter(|index| !still_there.contains(index)).collect())
    }
}
