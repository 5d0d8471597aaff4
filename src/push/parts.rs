//! The parts of a large file on their way, one behind the other, each read while the one before it goes out, in memory that
//! an earlier one had.
//!
//! Never two at once, though the server would take them: what has gone out of a part is lost with its connection, and so a
//! connection that breaks off costs one part at most.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::Target;
use super::memory::SHARED_MIB;
use super::pusher::{Failure, Pusher};
use super::source::HeldFile;
use crate::content::{Calls, Digester, Digests, OpenError, ReadError, Wanted};
use crate::fault_point::{Point, passed};
use crate::oxen::{Error, PartBody, Upload};
use crate::state::UploadRow;

/// How long the server keeps the parts of an upload that no further one comes for (oxen-server 0.65.2): a connection that is
/// back within this time goes on where it broke off.
const UPLOAD_KEPT: Duration = Duration::from_secs(60);
/// A larger part is not held in memory as a whole: two of this size must fit.
const PART_HELD_MAX: u64 = (SHARED_MIB as u64) << 19;
/// How much of a larger one is held.
const PIECE_LEN: u64 = 256 << 10;

/// What is to be sent, and what of it the server has.
pub(super) struct Sending<'a> {
    pub(super) upload: &'a Upload,
    pub(super) opened: &'a Arc<HeldFile>,
    pub(super) size: u64,
    pub(super) digests: Digests,
    /// Parts from the first one on that the server has; nothing of these is read again.
    pub(super) sent: u64,
    /// Whether an earlier life may have sent some more of them.
    pub(super) goes_on: bool,
    /// Where it is written down how many it has by then.
    pub(super) noted: Option<UploadRow>,
}

impl Pusher {
    /// Sends the parts that the server does not have. All that goes out is what was hashed, or the last part does not go
    /// out; where some parts went out in an earlier life, the server alone checks that.
    ///
    /// Returns the SHA-256 of the file where nobody knew it and all of it was read here: computed while the parts go out,
    /// it costs no time of its own.
    pub(super) async fn send_parts(&self, sending: Sending<'_>) -> Result<Option<[u8; 32]>, PartsError> {
        let Sending { upload, opened, size, digests, sent: sent_before, goes_on, mut noted } = sending;
        let part = |number: u64| {
            let offset = (number - 1) * upload.part_size;
            Part { file: Arc::clone(opened), offset, len: upload.part_size.min(size - offset) }
        };
        let is_whole = sent_before == 0;
        let expected = |number| (number == upload.num_parts && is_whole).then_some(digests.xxh3);
        let wanted = if is_whole && digests.sha256.is_none() { Wanted::Both } else { Wanted::Oxens };
        let (mut hash, mut is_complete) = (Digester::new(wanted), false);
        let (mut ahead, mut spare) = (None, None);
        for number in sent_before + 1..=upload.num_parts {
            let read = match ahead.take() {
                None => match spare.take().or_else(|| self.hold(part(number).len)) {
                    Some(held) => {
                        Some(self.read_part(part(number), hash.clone(), expected(number), held).await?)
                    }
                    None => None,
                },
                read => read,
            };
            let Some(Read { bytes, permit, hash: by_now }) = read else {
                let permit = self.memory.some(PIECE_LEN * 2).await;
                let sent = self.stream_part(upload, number, part(number), hash, expected(number)).await;
                drop(permit);
                (hash, is_complete) = sent?;
                self.note_part(&mut noted, number).await?;
                continue;
            };
            hash = by_now;
            let reading = async {
                let next = (number < upload.num_parts).then_some(number + 1);
                let held = next.and_then(|next| spare.take().or_else(|| self.hold(part(next).len)));
                let Some((next, held)) = next.zip(held) else { return Ok(None) };
                self.read_part(part(next), hash.clone(), expected(next), held).await.map(Some)
            };
            let is_doubtful = goes_on && number == sent_before + 1;
            let sending = async {
                let sent = self.put_part(upload, number, bytes, permit, is_doubtful).await?;
                self.note_part(&mut noted, number).await?;
                Ok(sent)
            };
            let (sent, read) = tokio::try_join!(sending, reading)?;
            (is_complete, spare, ahead) = (sent.is_complete, sent.held, read);
        }
        if is_complete { Ok(hash.finish().sha256) } else { Err(PartsError::Unfinished) }
    }

    async fn read_part(
        &self,
        part: Part,
        hash: Digester,
        expected: Option<u128>,
        held: Held,
    ) -> Result<Read, PartsError> {
        let Held { permit, buffer } = held;
        let read = self.in_folder(move |_| Ok(part.read(hash, expected, buffer))).await;
        let (bytes, hash) = read.map_err(PartsError::Internal)?.map_err(PartsError::Source)?;
        Ok(Read { bytes, permit, hash })
    }

    /// Sends a part. One that may have arrived before is asked for first, as is every one whose answer was lost.
    async fn put_part(
        &self,
        upload: &Upload,
        number: u64,
        bytes: Bytes,
        permit: OwnedSemaphorePermit,
        is_doubtful: bool,
    ) -> Result<Sent, Error> {
        let Target { client, repo, .. } = &self.target;
        let len = bytes.len() as u64;
        let is_doubtful = AtomicBool::new(is_doubtful);
        let put = || async {
            if is_doubtful.swap(true, Ordering::Relaxed) && client.has_part(repo, &upload.id, number).await? {
                return Ok(false);
            }
            client.put_part(repo, &upload.id, number, bytes.clone()).await
        };
        let is_complete = self.tries_for(UPLOAD_KEPT, put).await?;
        passed(Point::PartSent);
        self.sent(0, len);
        // Where the connection has not let go of it yet, the next part gets new memory.
        let held = bytes.try_into_mut().ok().map(|buffer| Held { permit, buffer });
        Ok(Sent { is_complete, held })
    }

    /// Writes down that the server has all parts up to this one. After the last one there is nothing to go on with.
    async fn note_part(&self, noted: &mut Option<UploadRow>, number: u64) -> Result<(), PartsError> {
        let Some(row) = noted.as_mut().filter(|row| number < row.num_parts) else { return Ok(()) };
        row.sent = number;
        let (folder, row) = (self.options.folder, row.clone());
        self.blocking(move |state| state.note_upload(folder, &row)).await.map_err(PartsError::Internal)?;
        passed(Point::PartNoted);
        Ok(())
    }

    /// Memory for a part that is held as a whole, if there is some.
    fn hold(&self, len: u64) -> Option<Held> {
        let permit = if len <= PART_HELD_MAX { self.memory.spare(len) } else { None };
        Some(Held { permit: permit?, buffer: BytesMut::new() })
    }

    /// Sends a part that is too large to be held, piece by piece. Returns the hash of all up to its end.
    async fn stream_part(
        &self,
        upload: &Upload,
        number: u64,
        part: Part,
        hash: Digester,
        expected: Option<u128>,
    ) -> Result<(Digester, bool), PartsError> {
        let Target { client, repo, .. } = &self.target;
        let len = part.len;
        let ended: Arc<Mutex<Option<Result<Digester, ReadError>>>> = Arc::default();
        let was_tried = AtomicBool::new(false);
        let put = || async {
            if was_tried.swap(true, Ordering::Relaxed) && client.has_part(repo, &upload.id, number).await? {
                return Ok(false);
            }
            let calls = Arc::clone(&self.options.calls);
            let pieces = part.clone().pieces(hash.clone(), expected, calls, Arc::clone(&ended));
            client.put_part(repo, &upload.id, number, PartBody::Pieces(len, pieces.boxed())).await
        };
        let sent = self.tries_for(UPLOAD_KEPT, put).await;
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (sent, ended) {
            (_, Some(Err(error))) => Err(PartsError::Source(error)),
            (Err(error), _) => Err(PartsError::Request(error)),
            (Ok(is_complete), Some(Ok(hash))) => {
                self.sent(0, len);
                Ok((hash, is_complete))
            }
            // An answer before the end of the part.
            (Ok(_), None) => Err(PartsError::Unfinished),
        }
    }
}

/// A part that is read.
struct Read {
    bytes: Bytes,
    permit: OwnedSemaphorePermit,
    /// Of all up to its end.
    hash: Digester,
}

/// A part that the server has taken.
struct Sent {
    is_complete: bool,
    /// What it was in.
    held: Option<Held>,
}

/// Memory for a part. Parts of a file are of one size, so the next one goes into what the one before it was in: fresh memory
/// would cost the kernel more than the reading.
#[derive(Debug)]
struct Held {
    permit: OwnedSemaphorePermit,
    buffer: BytesMut,
}

/// A part of an open file.
#[derive(Debug, Clone)]
struct Part {
    file: Arc<HeldFile>,
    offset: u64,
    len: u64,
}

impl Part {
    /// Reads all of it. The last part makes the upload whole: it goes out only when all that was sent is what was
    /// hashed, which is what `expected` names.
    fn read(
        &self,
        mut hash: Digester,
        expected: Option<u128>,
        mut bytes: BytesMut,
    ) -> Result<(Bytes, Digester), ReadError> {
        bytes.resize(usize::try_from(self.len).unwrap_or(usize::MAX), 0);
        match self.file.read_exact_at(&mut bytes, self.offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(ReadError::Changed);
            }
            read => read?,
        }
        hash.update(&bytes);
        if expected.is_some_and(|xxh3| hash.xxh3() != xxh3) {
            return Err(ReadError::Changed);
        }
        Ok((bytes.freeze(), hash))
    }

    /// The same in pieces; the last one comes only when the check is passed, and `ended` says how that went.
    fn pieces(
        self,
        hash: Digester,
        expected: Option<u128>,
        calls: Arc<Calls>,
        ended: Arc<Mutex<Option<Result<Digester, ReadError>>>>,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        let end = self.offset + self.len;
        stream::unfold(Some((self, hash)), move |state| {
            let (calls, ended) = (Arc::clone(&calls), Arc::clone(&ended));
            async move {
                let (mut part, hash) = state?;
                let piece = Part { len: PIECE_LEN.min(end - part.offset), ..part.clone() };
                let is_last = piece.offset + piece.len == end;
                part.offset += piece.len;
                let read = tokio::task::spawn_blocking(move || {
                    piece.read(hash, if is_last { expected } else { None }, BytesMut::new())
                });
                let read = match calls.answered(read).await {
                    Ok(read) => read.unwrap_or(Err(ReadError::Changed)),
                    Err(silence) => Err(OpenError::Io(std::io::Error::other(silence.to_string())).into()),
                };
                let end = |how| *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
                match read {
                    Ok((bytes, hash)) if is_last => {
                        end(Ok(hash));
                        Some((Ok(bytes), None))
                    }
                    Ok((bytes, hash)) => Some((Ok(bytes), Some((part, hash)))),
                    Err(error) => {
                        end(Err(error));
                        Some((Err(std::io::Error::other("the file changed")), None))
                    }
                }
            }
        })
    }
}

/// Why not all parts are on the server.
pub(super) enum PartsError {
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
