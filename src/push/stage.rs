use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use tokio::time::Instant;

use super::Target;
use super::batch::{Batch, bytes_of};
use super::prove::look_up;
use super::pusher::{Failure, Pusher};
use super::source::Source;
use super::tries::REQUEST_BACKOFF;
use super::verdict::{Verdict, verdict};
use crate::fault_point::{Point, passed};
use crate::oxen::{Entry, Error, FileBody, Reason};
use crate::path::{LocalPath, printable};
use crate::plan::{self, Requests};
use crate::state::FileRow;

/// Tries of one request before the whole batch steps back.
pub(super) const TRIES: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_millis(300);
/// A server that wants a longer pause than this gets it between two tries of the batch, while no memory is held.
const RETRY_AFTER_HELD_MAX: Duration = Duration::from_secs(5);

/// What requests have staged.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// A batch's changes, by index.
    pub(super) indices: Vec<usize>,
    /// The SHA-256 of those of them of which it was not known before.
    pub(super) hashed: Vec<(usize, [u8; 32])>,
}

impl Staged {
    fn extend(&mut self, other: Self) {
        self.indices.extend(other.indices);
        self.hashed.extend(other.hashed);
    }
}

impl From<Vec<usize>> for Staged {
    fn from(indices: Vec<usize>) -> Self {
        Self { indices, hashed: Vec::new() }
    }
}

impl Pusher {
    /// Stages a batch in its workspace and returns what is staged. What cannot be is dropped or in
    /// quarantine by then.
    pub(super) async fn stage(&self, source: &Source, batch: &Batch) -> Result<Staged, Failure> {
        let (state, folder) = (self.state.clone(), self.options.folder);
        let knows = |xxh3| state.holds_content(folder, xxh3).unwrap_or(false);
        let mut requests = plan::requests(&batch.changes, &batch.paths, knows);
        let marker = &self.options.marker;
        let mut markers =
            requests.split_off(|index| batch.changes.get(index).is_some_and(|change| marker.is(change)));
        for index in &requests.unsendable {
            if let Some(change) = batch.changes.get(*index) {
                self.quarantine(
                    change,
                    "it is empty and its name holds a control character, which no request of Oxen carries; rename it",
                )
                .await?;
            }
        }
        let mut staged = Staged::from(self.stage_removals(batch, &requests.removals).await?);
        let replaced = std::mem::take(&mut requests.replaced);
        staged.extend(self.stage_files(source, batch, requests).await?);
        self.look_at_replaced(batch, &replaced, &staged.indices);
        markers.leave_out(|index| self.is_torn(batch, index));
        staged.extend(self.stage_files(source, batch, markers).await?);
        Ok(staged)
    }

    /// Whether something was left out of the run that a file finishes: the file comes again behind it then.
    fn is_torn(&self, batch: &Batch, marker: usize) -> bool {
        let Some(marker) = batch.changes.get(marker) else { return false };
        let is_torn = self.lock_left_out().iter().any(|path| self.options.marker.finishes(marker, path));
        if is_torn {
            self.drop_change(&marker.path, &"its run is not complete any more");
        }
        is_torn
    }

    async fn stage_files(
        &self,
        source: &Source,
        batch: &Batch,
        requests: Requests,
    ) -> Result<Staged, Failure> {
        let forms = requests
            .forms
            .into_iter()
            .map(|form| async move { self.stage_form(source, batch, form).await.map(Staged::from) }.boxed());
        let uploads =
            requests.uploads.into_iter().map(|index| self.stage_upload(source, batch, index).boxed());
        let requests: Vec<BoxFuture<'_, Result<Staged, Failure>>> = forms.chain(uploads).collect();
        let sum = |mut all: Staged, staged| async move {
            all.extend(staged);
            Ok(all)
        };
        stream::iter(requests)
            .buffer_unordered(self.options.concurrency)
            .try_fold(Staged::default(), sum)
            .await
    }

    /// A file that was to give way to what is put below it stays on the branch where in the end nothing was; its removal
    /// goes with a later batch then.
    fn look_at_replaced(&self, batch: &Batch, replaced: &[usize], staged: &[usize]) {
        if replaced.is_empty() {
            return;
        }
        let staged: HashSet<usize> = staged.iter().copied().collect();
        for index in replaced {
            let (Some(change), Some(path)) = (batch.changes.get(*index), batch.paths.get(*index)) else {
                continue;
            };
            // They are in the order of their paths.
            let mut below =
                batch.paths.iter().enumerate().skip(index + 1).take_while(|(_, at)| at.starts_with(path));
            if !below.any(|(at, _)| staged.contains(&at)) {
                self.drop_change(&change.path, &"nothing is put below it any more");
            }
        }
    }

    /// Stages removals, but of files alone that are still ours: what another writer has put there since is theirs, and is
    /// not known here any more.
    async fn stage_removals(&self, batch: &Batch, removals: &[usize]) -> Result<Vec<usize>, Failure> {
        if removals.is_empty() {
            return Ok(Vec::new());
        }
        let Target { client, repo, .. } = &self.target;
        let wanted: Vec<_> = removals.iter().filter_map(|index| batch.paths.get(*index)).cloned().collect();
        // The name of a directory would take all with it that lies below, whoever put it there.
        let head = self.target.head().await?;
        let found = look_up(client, repo, &head, &wanted, self.options.concurrency).await?;
        let locals: Vec<LocalPath> = removals
            .iter()
            .filter_map(|index| batch.changes.get(*index))
            .map(|change| change.path.clone())
            .collect();
        let (folder, asked) = (self.options.folder, locals.clone());
        let rows: Vec<Option<FileRow>> =
            self.blocking(move |state| asked.iter().map(|path| state.file(folder, path)).collect()).await?;
        let (mut paths, mut staged, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for (at, entry) in &found {
            let (Some(index), Some(path)) = (removals.get(*at), wanted.get(*at)) else { continue };
            match entry.as_ref().filter(|entry| !entry.is_dir) {
                Some(entry) if rows.get(*at).is_some_and(|row| is_of(entry, row.as_ref())) => {
                    paths.push(path.as_str());
                    staged.push(*index);
                }
                Some(_) => theirs.extend(locals.get(*at).cloned()),
                // It is gone already.
                None => staged.push(*index),
            }
        }
        if !theirs.is_empty() {
            tracing::info!(
                folder = %printable(&self.options.path), files = theirs.len(),
                "files that are gone from the folder stay on the branch: another writer has changed them there"
            );
            self.blocking(move |state| state.forget_files(folder, &theirs)).await?;
        }
        if !paths.is_empty() {
            self.tries(|| client.stage_removals(repo, &batch.row.workspace, &paths)).await?;
            passed(Point::RemovalsStaged);
        }
        self.sent(removals.len() as u64, 0);
        Ok(staged)
    }

    /// Sends small files in one form; where the server will not have it, in ever smaller ones until the file that is
    /// at fault stands alone.
    fn stage_form<'a>(
        &'a self,
        source: &'a Source,
        batch: &'a Batch,
        indices: Vec<usize>,
    ) -> BoxFuture<'a, Result<Vec<usize>, Failure>> {
        async move {
            self.turn().await;
            let bytes = indices.iter().filter_map(|index| batch.changes.get(*index)).map(bytes_of).sum();
            let permit = self.memory.some(bytes).await;
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
                    passed(Point::FormStaged);
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
    ) -> Result<Vec<usize>, Failure> {
        let mut staged = Vec::new();
        for index in missing {
            if !was_alone {
                staged.extend(self.stage_form(source, batch, vec![index]).await?);
            } else if let Some(change) = batch.changes.get(index) {
                // Its disk may be full, or the file not to its liking.
                return Err(Failure {
                    verdict: Verdict::Again,
                    reason: format!(
                        "the server said yes and did not stage {}; is its disk full?",
                        change.path
                    ),
                    retry_after: None,
                    may_be_content: true,
                });
            }
        }
        Ok(staged)
    }

    /// Sends a request again a few times while that is all it takes.
    pub(super) async fn tries<T, F: Future<Output = Result<T, Error>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<T, Error> {
        self.tries_for(Duration::ZERO, send).await
    }

    /// The same, and for as long as `span` at least.
    pub(super) async fn tries_for<T, F: Future<Output = Result<T, Error>>>(
        &self,
        span: Duration,
        send: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut tries = 1;
        let mut until = None;
        loop {
            let sent = send().await;
            if tries > 1 {
                self.hitch(None);
            }
            let error = match sent {
                Err(error) if verdict(&error) == Verdict::Again && !is_final(&error) => error,
                done => return done,
            };
            let until = *until.get_or_insert_with(|| Instant::now() + span);
            if tries >= TRIES && Instant::now() >= until {
                return Err(error);
            }
            self.hitch(Some(format!("a request is sent again: {error}")));
            let pause = REQUEST_BACKOFF.wait(tries, fastrand::f64(), error.retry_after());
            tokio::time::sleep(pause.max(TRY_PAUSE)).await;
            tries = tries.saturating_add(1);
        }
    }
}

/// Whether a file on the branch is the one that is known.
fn is_of(entry: &Entry, row: Option<&FileRow>) -> bool {
    row.is_some_and(|row| row.size == entry.size && Some(row.xxh3) == entry.xxh3)
}

/// Whether sending the same request again at once is pointless.
fn is_final(error: &Error) -> bool {
    error.retry_after().is_some_and(|wait| wait > RETRY_AFTER_HELD_MAX)
        || matches!(
            error.reason(),
            Reason::UploadNotFound
                | Reason::WorkspaceNotFound
                | Reason::RepoNotFound
                | Reason::BranchNotFound
                | Reason::NotFound
        )
}
