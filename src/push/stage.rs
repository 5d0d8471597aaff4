use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use xxhash_rust::xxh3::Xxh3;

use super::deliver::{Batch, Failure, Pusher, bytes_of};
use super::prove::look_up;
use super::verdict::{Verdict, verdict};
use super::{Target, worker};
use crate::content::{EntryKind, OpenError, OpenFile, ReadError, RootDir, read_small};
use crate::oxen::{Entry, Error, FileBody, Reason, Upload, UploadStart};
use crate::path::RepoPath;
use crate::plan::{self, SMALL_FILE_MAX};
use crate::state::{Change, ChangeKind};

/// The folder that content is read from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub root: Arc<RootDir>,
}

/// Parts of one file under way at once.
const PARTS_IN_FLIGHT: usize = 2;
/// Tries of one request before the whole batch steps back.
const TRIES: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_millis(300);

/// Indices of a batch's changes that a request staged.
type Staged = Vec<usize>;

impl Source {
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
                let ChangeKind::Put { digests, .. } = change.kind else { return None };
                Some((*index, change.path.clone(), path.as_str().to_owned(), digests))
            })
            .collect();
        let root = Arc::clone(&self.root);
        let limit =
            usize::try_from(SMALL_FILE_MAX.max(crate::oxen::PUT_FORM_MAX as u64)).unwrap_or(usize::MAX);
        let read = pusher
            .blocking(move |_| {
                let read = wanted.into_iter().map(|(index, local, name, digests)| {
                    (index, local.clone(), name, read_small(&root, &local, limit, &digests))
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
    pub(super) async fn confirm_removals(&self, pusher: &Pusher, changes: &[Change]) -> Vec<usize> {
        let removals: Vec<_> = changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.kind == ChangeKind::Remove)
            .map(|(index, change)| (index, change.path.clone()))
            .collect();
        let root = Arc::clone(&self.root);
        let still_there = tokio::task::spawn_blocking(move || {
            let is_gone = |kind: Result<EntryKind, OpenError>| {
                matches!(
                    kind,
                    Err(OpenError::Gone)
                        | Ok(EntryKind::Dir { .. } | EntryKind::Symlink | EntryKind::Special)
                )
            };
            removals.into_iter().filter(|(_, path)| !is_gone(root.look(path))).collect::<Vec<_>>()
        });
        let still_there = still_there.await.unwrap_or_default();
        for (_, path) in &still_there {
            pusher.drop_change(path, &"it is there again");
        }
        (0..changes.len()).filter(|index| !still_there.iter().any(|(there, _)| there == index)).collect()
    }
}

impl Pusher {
    /// Stages a batch in its workspace and returns the changes that are staged. What cannot be is dropped or in
    /// quarantine by then.
    pub(super) async fn stage(&self, source: &Source, batch: &Batch) -> Result<Staged, Failure> {
        let (state, folder) = (self.state.clone(), self.options.folder);
        let knows = |xxh3| state.holds_content(folder, xxh3).unwrap_or(false);
        let requests = plan::requests(&batch.changes, &batch.paths, knows);
        for index in &requests.unsendable {
            if let Some(change) = batch.changes.get(*index) {
                self.quarantine(
                    change,
                    "it is empty and its name holds a control character, which no request of Oxen carries; rename it",
                )
                .await?;
            }
        }
        let mut staged: Staged = (0..batch.changes.len())
            .filter(|index| batch.changes.get(*index).is_some_and(|change| change.kind == ChangeKind::Remove))
            .collect();
        self.stage_removals(batch, &requests.removals).await?;
        let forms = requests.forms.into_iter().map(|form| self.stage_form(source, batch, form));
        let uploads =
            requests.uploads.into_iter().map(|index| self.stage_upload(source, batch, index).boxed());
        let requests: Vec<BoxFuture<'_, Result<Staged, Failure>>> = forms.chain(uploads).collect();
        let done: Vec<Staged> =
            stream::iter(requests).buffer_unordered(self.options.concurrency).try_collect().await?;
        staged.extend(done.into_iter().flatten());
        Ok(staged)
    }

    async fn stage_removals(&self, batch: &Batch, removals: &[usize]) -> Result<(), Failure> {
        if removals.is_empty() {
            return Ok(());
        }
        let Target { client, repo, .. } = &self.target;
        let wanted: Vec<_> = removals.iter().filter_map(|index| batch.paths.get(*index)).cloned().collect();
        // The name of a directory would take all with it that lies below, whoever put it there.
        let head = self.target.head().await?;
        let found = look_up(client, repo, &head, &wanted, self.options.concurrency).await?;
        let is_file = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| !entry.is_dir);
        let paths: Vec<_> = found
            .iter()
            .filter(|(_, entry)| is_file(entry))
            .filter_map(|(at, _)| wanted.get(*at))
            .map(RepoPath::as_str)
            .collect();
        if !paths.is_empty() {
            self.tries(|| client.stage_removals(repo, &batch.row.workspace, &paths)).await?;
        }
        self.sent(removals.len() as u64, 0);
        Ok(())
    }

    /// Sends small files in one form; where the server will not have it, in ever smaller ones until the file that is
    /// at fault stands alone.
    fn stage_form<'a>(
        &'a self,
        source: &'a Source,
        batch: &'a Batch,
        indices: Vec<usize>,
    ) -> BoxFuture<'a, Result<Staged, Failure>> {
        async move {
            let bytes = indices.iter().filter_map(|index| batch.changes.get(*index)).map(bytes_of).sum();
            let permit = self.memory(bytes).await;
            let bodies = source.read(self, batch, &indices).await?;
            if bodies.is_empty() {
                return Ok(Vec::new());
            }
            let (mut present, files): (Vec<usize>, Vec<FileBody>) = bodies.into_iter().unzip();
            let Target { client, repo, .. } = &self.target;
            let sent = self.tries(|| client.stage_files(repo, &batch.row.workspace, files.clone())).await;
            drop(permit);
            match sent {
                Ok(paths) => {
                    let paths: HashSet<&str> = paths.iter().map(String::as_str).collect();
                    let is_staged = |index: &usize| {
                        batch.paths.get(*index).is_some_and(|path| paths.contains(path.as_str()))
                    };
                    let missing: Vec<_> = present.extract_if(.., |index| !is_staged(index)).collect();
                    self.sent(present.len() as u64, bytes);
                    if !missing.is_empty() {
                        present.extend(self.stage_rest(source, batch, missing, indices.len() == 1).await?);
                    }
                    Ok(present)
                }
                Err(error) if verdict(&error) == Verdict::Split => {
                    if let [index] = present[..] {
                        if let Some(change) = batch.changes.get(index) {
                            self.quarantine(change, &error.to_string()).await?;
                        }
                        return Ok(Vec::new());
                    }
                    let second = present.split_off(present.len() / 2);
                    let mut staged = self.stage_form(source, batch, present).await?;
                    staged.extend(self.stage_form(source, batch, second).await?);
                    Ok(staged)
                }
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }

    /// Files that the server left out of a form although it said yes: each is tried once more alone.
    async fn stage_rest(
        &self,
        source: &Source,
        batch: &Batch,
        missing: Vec<usize>,
        was_alone: bool,
    ) -> Result<Staged, Failure> {
        let mut staged = Vec::new();
        for index in missing {
            if !was_alone {
                staged.extend(self.stage_form(source, batch, vec![index]).await?);
            } else if let Some(change) = batch.changes.get(index) {
                self.quarantine(change, "the server said yes and did not stage it").await?;
            }
        }
        Ok(staged)
    }

    /// Sends a file in parts, or without a byte where the server has its content. The server checks the whole against
    /// the hash that the upload began with; we check it before the last part goes out.
    async fn stage_upload(&self, source: &Source, batch: &Batch, index: usize) -> Result<Staged, Failure> {
        let (Some(change), Some(path)) = (batch.changes.get(index), batch.paths.get(index)) else {
            return Ok(Vec::new());
        };
        let ChangeKind::Put { signature, digests, .. } = change.kind else { return Ok(Vec::new()) };
        let Target { client, repo, .. } = &self.target;
        let destination = Some((batch.row.workspace.as_str(), path));
        // An upload lives in the server's memory: one that is lost begins again.
        for _ in 0..TRIES {
            let begun =
                self.tries(|| client.begin_upload(repo, digests.xxh3, signature.size, destination)).await;
            let upload = match begun {
                Ok(UploadStart::AlreadyStored) => {
                    self.sent(1, signature.size);
                    return Ok(vec![index]);
                }
                Ok(UploadStart::AwaitingParts(upload)) => upload,
                Err(error) if verdict(&error) == Verdict::Split => {
                    self.quarantine(change, &error.to_string()).await?;
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error.into()),
            };
            let root = Arc::clone(&source.root);
            let local = change.path.clone();
            let opened = self.blocking(move |_| Ok(root.open_file(&local))).await?;
            let opened = match opened {
                Ok(opened) if opened.signature == signature => Arc::new(opened),
                Ok(_) => {
                    self.drop_change(&change.path, &ReadError::Changed);
                    return Ok(Vec::new());
                }
                Err(error) => {
                    self.drop_change(&change.path, &error);
                    return Ok(Vec::new());
                }
            };
            match self.send_parts(&upload, &opened, digests.xxh3).await {
                Ok(()) => {
                    self.sent(1, 0);
                    return Ok(vec![index]);
                }
                Err(PartsError::Source(error)) => {
                    self.drop_change(&change.path, &error);
                    return Ok(Vec::new());
                }
                Err(PartsError::Request(error)) if error.reason() == Reason::UploadNotFound => {}
                Err(PartsError::Request(error)) if verdict(&error) == Verdict::Split => {
                    self.quarantine(change, &error.to_string()).await?;
                    return Ok(Vec::new());
                }
                Err(PartsError::Request(error)) => return Err(error.into()),
                Err(PartsError::Unfinished) => {}
                Err(PartsError::Internal(failure)) => return Err(failure),
            }
        }
        Err(Failure {
            verdict: Verdict::Again,
            reason: format!("the server lost the upload of {} again and again", change.path),
            retry_after: None,
            is_server_fault: true,
        })
    }

    async fn send_parts(
        &self,
        upload: &Upload,
        opened: &Arc<OpenFile>,
        xxh3: u128,
    ) -> Result<(), PartsError> {
        let Target { client, repo, .. } = &self.target;
        let size = opened.signature.size;
        let in_flight_max = PARTS_IN_FLIGHT.min(usize::try_from(upload.part_window).unwrap_or(1)).max(1);
        let mut in_flight = FuturesUnordered::new();
        let mut hash = Xxh3::new();
        let mut completed = false;
        for number in 1..=upload.num_parts {
            while in_flight.len() >= in_flight_max || (number == upload.num_parts && !in_flight.is_empty()) {
                if let Some(sent) = in_flight.next().await {
                    completed |= sent?;
                }
            }
            let offset = (number - 1) * upload.part_size;
            let len = upload.part_size.min(size - offset);
            let permit = self.memory(len).await;
            let file = Arc::clone(opened);
            let (bytes, after) = self
                .blocking(move |_| {
                    let read = read_part(&file.file, offset, len)
                        .and_then(|bytes| Ok((bytes, hashed(hash, &file)?)));
                    Ok(read.map(|(bytes, (mut hash, is_still))| {
                        hash.update(&bytes);
                        (Bytes::from(bytes), (hash, is_still))
                    }))
                })
                .await
                .map_err(PartsError::Internal)?
                .map_err(|error| PartsError::Source(error.into()))?;
            let (by_now, is_still) = after;
            hash = by_now;
            // The last part makes the upload whole: it goes out only when all that was sent is what was hashed.
            if !is_still || number == upload.num_parts && hash.digest128() != xxh3 {
                return Err(PartsError::Source(ReadError::Changed));
            }
            let sending = async move {
                let sent = self.tries(|| client.put_part(repo, &upload.id, number, bytes.clone())).await?;
                drop(permit);
                self.sent(0, len);
                Ok::<bool, Error>(sent)
            };
            in_flight.push(sending.boxed());
        }
        while let Some(sent) = in_flight.next().await {
            completed |= sent?;
        }
        if completed { Ok(()) } else { Err(PartsError::Unfinished) }
    }

    /// Sends a request again a few times while that is all it takes.
    async fn tries<T, F: Future<Output = Result<T, Error>>>(&self, send: impl Fn() -> F) -> Result<T, Error> {
        let mut tries = 1;
        loop {
            match send().await {
                Err(error) if tries < TRIES && verdict(&error) == Verdict::Again && !is_final(&error) => {
                    let pause = worker::REQUEST_BACKOFF.wait(tries, fastrand::f64(), error.retry_after());
                    tokio::time::sleep(pause.max(TRY_PAUSE)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }
}

/// Whether sending the same request again is pointless.
fn is_final(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::UploadNotFound
            | Reason::WorkspaceNotFound
            | Reason::RepoNotFound
            | Reason::BranchNotFound
            | Reason::NotFound
    )
}

enum PartsError {
    /// The file is not what it was.
    Source(ReadError),
    Request(Error),
    /// All parts were taken and the server did not say that the file is whole.
    Unfinished,
    Internal(Failure),
}

impl From<Error> for PartsError {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}

fn read_part(file: &File, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The hash so far, and whether the file is still what it was when it was opened.
fn hashed(hash: Xxh3, opened: &OpenFile) -> std::io::Result<(Xxh3, bool)> {
    Ok((hash, opened.look()? == EntryKind::File(opened.signature)))
}
