use std::sync::Arc;

use super::Target;
use super::batch::Batch;
use super::parts::{PartsError, Sending};
use super::pusher::{Failure, Pusher};
use super::source::{HeldFile, Source};
use super::stage::{Staged, TRIES};
use super::verdict::{Verdict, verdict};
use crate::content::{Digests, ReadError, Wanted, hash_first};
use crate::fault_point::{Point, passed};
use crate::oxen::{Reason, Upload, UploadStart};
use crate::path::RepoPath;
use crate::state::{Change, ChangeKind, RESUMED_MIN, UploadRow};

/// An upload to go on with.
struct Begun {
    upload: Upload,
    /// Parts from the first one on that the server has.
    sent: u64,
    /// Whether an earlier life began it.
    goes_on: bool,
    /// Whether the server stages the file by itself once it has all of it.
    is_bound: bool,
}

impl Pusher {
    /// Sends a file in parts, or without a byte where the server has its content. The server checks the whole against
    /// the hash that the upload began with; we check it before the last part goes out.
    ///
    /// A large file is stored first and staged then (oxen-server 0.65.2 stages what it has at once): its parts are bound to
    /// no workspace, and count for the next process too. None of which we do not know both hashes is staged.
    pub(super) async fn stage_upload(
        &self,
        source: &Source,
        batch: &Batch,
        index: usize,
    ) -> Result<Staged, Failure> {
        let (Some(change), Some(path)) = (batch.changes.get(index), batch.paths.get(index)) else {
            return Ok(Staged::default());
        };
        let ChangeKind::Put { signature, digests, .. } = change.kind else { return Ok(Staged::default()) };
        self.turn().await;
        // Where all share a low rate, one file that is on the branch is worth more than many that are half there.
        let _turn = if self.target.client.is_limited() { Some(self.upload_turn.lock().await) } else { None };
        let is_resumed = signature.size >= RESUMED_MIN;
        let mut known = if is_resumed { self.known_upload(change).await? } else { None };
        let (mut is_stored, mut was_sent) = (!is_resumed, false);
        let mut hashed = None;
        let staged = |hashed: Option<[u8; 32]>| Staged {
            indices: vec![index],
            hashed: hashed.map(|sha256| (index, sha256)).into_iter().collect(),
        };
        // An upload lives in the server's memory: one that is lost begins again.
        let mut lost = 0;
        while lost < TRIES {
            if is_stored && digests.sha256.or(hashed).is_none() {
                hashed = self.hash_late(source, change).await?;
                if hashed.is_none() {
                    self.forget_upload(change).await?;
                    return Ok(Staged::default());
                }
            }
            let destination = is_stored.then_some((batch.row.workspace.as_str(), path));
            let begun = match known.take() {
                Some(known) => known,
                None => match self.begin(change, destination).await? {
                    Start::Stored if destination.is_some() => {
                        if is_resumed {
                            self.forget_upload(change).await?;
                        }
                        self.sent(1, if was_sent { 0 } else { signature.size });
                        return Ok(staged(hashed));
                    }
                    Start::Stored => {
                        is_stored = true;
                        continue;
                    }
                    Start::Refused => return Ok(Staged::default()),
                    Start::Begun(begun) => begun,
                },
            };
            let Some(opened) = self.open_for(source, change).await? else { return Ok(Staged::default()) };
            let Begun { upload, sent, goes_on, is_bound } = begun;
            let noted = (!is_bound).then(|| upload_row(change, &upload, sent)).flatten();
            self.sent(0, sent * upload.part_size);
            let size = signature.size;
            let sending = Sending { upload: &upload, opened: &opened, size, digests, sent, goes_on, noted };
            match self.send_parts(sending).await {
                Ok(_) if is_bound => {
                    passed(Point::UploadStaged);
                    self.sent(1, 0);
                    return Ok(staged(hashed));
                }
                Ok(found) => (is_stored, was_sent, hashed) = (true, true, found.or(hashed)),
                Err(PartsError::Source(error)) => {
                    if is_resumed {
                        // Or its hashes would be taken for true once more.
                        self.forget_upload(change).await?;
                    }
                    self.drop_change(&change.path, &error);
                    return Ok(Staged::default());
                }
                Err(PartsError::Request(error)) if error.reason() == Reason::UploadNotFound => lost += 1,
                // A connection that the server does not know to be gone holds the part for ever.
                Err(PartsError::Request(error)) if error.reason() == Reason::PartDeferred => {
                    self.forget_upload(change).await?;
                    lost += 1;
                }
                // Nobody here has looked at all of what an earlier life sent.
                Err(PartsError::Request(error)) if goes_on && error.reason() == Reason::HashMismatch => {
                    self.forget_upload(change).await?;
                    lost += 1;
                }
                Err(PartsError::Request(error)) if verdict(&error) == Verdict::Split => {
                    self.quarantine(change, &error.to_string()).await?;
                    return Ok(Staged::default());
                }
                Err(PartsError::Request(error)) => return Err(error.into()),
                Err(PartsError::Unfinished) => lost += 1,
                Err(PartsError::Internal(failure)) => return Err(failure),
            }
        }
        Err(Failure {
            verdict: Verdict::Again,
            reason: format!("the server lost the upload of {} again and again", change.path),
            retry_after: None,
            may_be_content: true,
        })
    }

    /// Begins an upload, staged at once where `destination` names a workspace.
    async fn begin(&self, change: &Change, destination: Option<(&str, &RepoPath)>) -> Result<Start, Failure> {
        let ChangeKind::Put { signature, digests, .. } = change.kind else { return Ok(Start::Refused) };
        let Target { client, repo, .. } = &self.target;
        let begun = self.tries(|| client.begin_upload(repo, digests.xxh3, signature.size, destination)).await;
        match begun {
            Ok(UploadStart::AlreadyStored) => Ok(Start::Stored),
            Ok(UploadStart::AwaitingParts(upload)) => {
                if destination.is_none()
                    && let Some(row) = upload_row(change, &upload, 0)
                {
                    let folder = self.options.folder;
                    self.blocking(move |state| state.note_upload(folder, &row)).await?;
                    passed(Point::UploadBegun);
                }
                Ok(Start::Begun(Begun { upload, sent: 0, goes_on: false, is_bound: destination.is_some() }))
            }
            Err(error) if verdict(&error) == Verdict::Split => {
                self.quarantine(change, &error.to_string()).await?;
                Ok(Start::Refused)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file that is to be sent; `None` where it is not what it was, which is hinted at.
    async fn open_for(&self, source: &Source, change: &Change) -> Result<Option<Arc<HeldFile>>, Failure> {
        let ChangeKind::Put { signature, .. } = change.kind else { return Ok(None) };
        let (root, local) = (Arc::clone(&source.root), change.path.clone());
        let open = move || -> Result<HeldFile, ReadError> {
            let opened = root.open_file(&local)?;
            // One that has grown since it was hashed holds what was hashed all the same.
            let is_whole = opened.signature.size >= signature.size;
            if is_whole { Ok(Source::hold(opened)) } else { Err(ReadError::Changed) }
        };
        let opened = self.in_folder(move |_| Ok(open())).await?;
        Ok(self.or_left_out(change, opened).map(Arc::new))
    }

    /// What was had of a file; one that is not what it was is left out.
    fn or_left_out<T>(&self, change: &Change, had: Result<T, ReadError>) -> Option<T> {
        had.inspect_err(|error| self.drop_change(&change.path, error)).ok()
    }

    /// An upload of this very content that an earlier life began.
    async fn known_upload(&self, change: &Change) -> Result<Option<Begun>, Failure> {
        let ChangeKind::Put { signature, digests, .. } = change.kind else { return Ok(None) };
        let (folder, path) = (self.options.folder, change.path.clone());
        let row = self.blocking(move |state| state.upload(folder, &path)).await?;
        let same = row.filter(|row| row.signature.size == signature.size && row.digests.agrees(&digests));
        Ok(same.map(|row| {
            let UploadRow { upload_id: id, part_size, num_parts, part_window, sent, .. } = row;
            let upload = Upload { id, part_size, num_parts, part_window };
            Begun { upload, sent: sent.min(num_parts), goes_on: true, is_bound: false }
        }))
    }

    /// The SHA-256 of a file of which it is not known and which is not to be read for sending; `None` where it is not
    /// what it was, which is hinted at.
    pub(super) async fn hash_late(
        &self,
        source: &Source,
        change: &Change,
    ) -> Result<Option<[u8; 32]>, Failure> {
        let ChangeKind::Put { signature, digests, .. } = change.kind else { return Ok(None) };
        let (root, local) = (Arc::clone(&source.root), change.path.clone());
        let read = move || -> Result<Digests, ReadError> {
            let found = hash_first(&mut root.open_file(&local)?, signature.size, Wanted::Both)?;
            if found.agrees(&digests) { Ok(found) } else { Err(ReadError::Changed) }
        };
        let found = self.in_folder(move |_| Ok(read())).await?;
        Ok(self.or_left_out(change, found).and_then(|found| found.sha256))
    }

    async fn forget_upload(&self, change: &Change) -> Result<(), Failure> {
        let (folder, path) = (self.options.folder, change.path.clone());
        self.blocking(move |state| state.forget_upload(folder, &path)).await
    }
}

/// What the server said to the beginning of an upload.
enum Start {
    Stored,
    Begun(Begun),
    /// The file is in quarantine.
    Refused,
}

fn upload_row(change: &Change, upload: &Upload, sent: u64) -> Option<UploadRow> {
    let ChangeKind::Put { signature, digests, racy } = change.kind else { return None };
    let Upload { id, part_size, num_parts, part_window } = upload.clone();
    let path = change.path.clone();
    Some(UploadRow { path, signature, digests, racy, upload_id: id, part_size, num_parts, part_window, sent })
}
