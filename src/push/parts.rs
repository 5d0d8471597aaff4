//! The parts of a large file on their way, a few at once, each in memory that the one before it had.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::FutureExt;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use xxhash_rust::xxh3::Xxh3;

use super::Target;
use super::memory::SHARED_MIB;
use super::pusher::{Failure, Pusher};
use super::source::HeldFile;
use crate::content::{Calls, OpenError, ReadError};
use crate::fault_point::{Point, passed};
use crate::oxen::{Error, PartBody, Upload};
use crate::state::UploadRow;

/// Parts of one file under way at once.
const PARTS_IN_FLIGHT: usize = 2;
/// How long the server keeps the parts of an upload that no further one comes for (oxen-server 0.65.2): a connection that is
/// back within this time goes on where it broke off.
const UPLOAD_KEPT: Duration = Duration::from_secs(60);
/// A larger part is not held in memory as a whole: two of this size must fit.
const PART_HELD_MAX: u64 = (SHARED_MIB as u64) << 19;
/// How much of a larger one is held.
const PIECE_LEN: u64 = 1 << 20;

/// What is to be sent, and what of it the server has.
pub(super) struct Sending<'a> {
    pub(super) upload: &'a Upload,
    pub(super) opened: &'a Arc<HeldFile>,
    pub(super) size: u64,
    pub(super) xxh3: u128,
    /// Parts from the first one on that the server has; nothing of these is read again.
    pub(super) sent: u64,
    /// Where it is written down how many it has by then.
    pub(super) noted: Option<UploadRow>,
}

impl Pusher {
    /// Sends the parts that the server does not have. All that goes out is what was hashed, or the last part does not go
    /// out; where some parts went out in an earlier life, the server alone checks that.
    pub(super) async fn send_parts(&self, sending: Sending<'_>) -> Result<(), PartsError> {
        let Sending { upload, opened, size, xxh3, sent: sent_before, mut noted } = sending;
        let in_flight_max = usize::try_from(upload.part_window).unwrap_or(1).clamp(1, PARTS_IN_FLIGHT);
        let mut in_flight = FuturesUnordered::new();
        let mut hash = Xxh3::new();
        let (mut completed, mut spare) = (false, None);
        let mut arrived = Arrived { first_missing: sent_before + 1, beyond: BTreeSet::new() };
        for number in sent_before + 1..=upload.num_parts {
            let is_last = number == upload.num_parts;
            while in_flight.len() >= in_flight_max || (is_last && !in_flight.is_empty()) {
                if let Some(sent) = in_flight.next().await {
                    let Sent { number, is_complete, held } = sent?;
                    completed |= is_complete;
                    spare = spare.or(held);
                    self.note_part(&mut noted, arrived.add(number)).await?;
                }
            }
            let offset = (number - 1) * upload.part_size;
            let part = Part { file: Arc::clone(opened), offset, len: upload.part_size.min(size - offset) };
            let expected = (is_last && sent_before == 0).then_some(xxh3);
            let held = loop {
                if let Some(held) = spare.take().or_else(|| self.hold(part.len)) {
                    break Some(held);
                }
                // What holds memory goes out first.
                let Some(sent) = in_flight.next().await else { break None };
                let Sent { number, is_complete, held } = sent?;
                completed |= is_complete;
                spare = held;
                self.note_part(&mut noted, arrived.add(number)).await?;
            };
            let Some(Held { permit, buffer }) = held else {
                let permit = self.memory.some(PIECE_LEN * 2).await;
                let sent = self.stream_part(upload, number, part, hash, expected).await;
                drop(permit);
                let (by_now, is_complete) = sent?;
                hash = by_now;
                completed |= is_complete;
                self.note_part(&mut noted, arrived.add(number)).await?;
                continue;
            };
            let (bytes, by_now) = self
                .in_folder(move |_| Ok(part.read(hash, expected, buffer)))
                .await
                .map_err(PartsError::Internal)?
                .map_err(PartsError::Source)?;
            hash = by_now;
            in_flight.push(self.put_part(upload, number, bytes, permit).boxed());
        }
        while let Some(sent) = in_flight.next().await {
            completed |= sent?.is_complete;
        }
        if completed { Ok(()) } else { Err(PartsError::Unfinished) }
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u64,
        bytes: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Result<Sent, Error> {
        let Target { client, repo, .. } = &self.target;
        let len = bytes.len() as u64;
        let body = || PartBody::Whole(bytes.clone());
        let is_complete =
            self.tries_for(UPLOAD_KEPT, || client.put_part(repo, &upload.id, number, body())).await?;
        passed(Point::PartSent);
        self.sent(0, len);
        // Where the connection has not let go of it yet, the next part gets new memory.
        let held = bytes.try_into_mut().ok().map(|buffer| Held { permit, buffer });
        Ok(Sent { number, is_complete, held })
    }

    /// Writes down that the server has all parts below the first missing one.
    async fn note_part(&self, noted: &mut Option<UploadRow>, first_missing: u64) -> Result<(), PartsError> {
        let Some(row) = noted.as_mut().filter(|row| row.sent + 1 < first_missing) else { return Ok(()) };
        row.sent = first_missing - 1;
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
        hash: Xxh3,
        expected: Option<u128>,
    ) -> Result<(Xxh3, bool), PartsError> {
        let Target { client, repo, .. } = &self.target;
        let len = part.len;
        let ended: Arc<Mutex<Option<Result<Xxh3, ReadError>>>> = Arc::default();
        let body = || {
            let calls = Arc::clone(&self.options.calls);
            let pieces = part.clone().pieces(hash.clone(), expected, calls, Arc::clone(&ended));
            PartBody::Pieces(len, pieces.boxed())
        };
        let sent = self.tries_for(UPLOAD_KEPT, || client.put_part(repo, &upload.id, number, body())).await;
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

/// A part that the server has taken.
struct Sent {
    number: u64,
    is_complete: bool,
    /// What it was in.
    held: Option<Held>,
}

/// Which parts the server has.
struct Arrived {
    first_missing: u64,
    beyond: BTreeSet<u64>,
}

impl Arrived {
    /// Returns the first part that is missing then.
    fn add(&mut self, number: u64) -> u64 {
        self.beyond.insert(number);
        while self.beyond.remove(&self.first_missing) {
            self.first_missing += 1;
        }
        self.first_missing
    }
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
        mut hash: Xxh3,
        expected: Option<u128>,
        mut bytes: BytesMut,
    ) -> Result<(Bytes, Xxh3), ReadError> {
        bytes.resize(usize::try_from(self.len).unwrap_or(usize::MAX), 0);
        match self.file.read_exact_at(&mut bytes, self.offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(ReadError::Changed);
            }
            read => read?,
        }
        hash.update(&bytes);
        if expected.is_some_and(|xxh3| hash.digest128() != xxh3) {
            return Err(ReadError::Changed);
        }
        Ok((bytes.freeze(), hash))
    }

    /// The same in pieces; the last one comes only when the check is passed, and `ended` says how that went.
    fn pieces(
        self,
        hash: Xxh3,
        expected: Option<u128>,
        calls: Arc<Calls>,
        ended: Arc<Mutex<Option<Result<Xxh3, ReadError>>>>,
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
