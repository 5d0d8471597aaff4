//! Content sent in parts and checked by the server against its hash.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use reqwest::Method;
use serde::Serialize;

use super::answer::{PartAnswer, UploadAnswer};
use super::route::Route;
use super::send::{ANSWER_LEN_MAX, Body};
use super::{Client, Error, Kind, Op, RepoName};
use crate::path::RepoPath;

/// More parts than any upload has: with those of oxen-server 0.65.2, 10 MiB each, they hold 10 TiB.
const PARTS_MAX: u64 = 1 << 20;

/// How an upload begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStart {
    /// The server holds the content; it is staged at the destination.
    AlreadyStored,
    /// The server waits for the content.
    AwaitingParts(Upload),
}

/// An upload that waits for its parts. It lives in the server's memory, and ends after 60 s without a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The server's name for it.
    pub id: String,
    /// The length of each part but the last, in bytes; never 0.
    pub part_size: u64,
    /// How many parts there are; they count from 1.
    pub num_parts: u64,
    /// How many parts from the first missing one on may be under way at once; never 0.
    pub part_window: u64,
}

/// The content of a part.
pub enum PartBody {
    /// In memory.
    Whole(Bytes),
    /// So many bytes that come piece by piece; an error among them cuts the request off.
    Pieces(u64, BoxStream<'static, std::io::Result<Bytes>>),
}

impl From<Bytes> for PartBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl std::fmt::Debug for PartBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "PartBody({} bytes)", bytes.len()),
            Self::Pieces(len, _) => write!(f, "PartBody({len} bytes in pieces)"),
        }
    }
}

#[derive(Serialize)]
struct NewUpload<'a> {
    hash: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Destination<'a>>,
}

#[derive(Serialize)]
struct Destination<'a> {
    workspace_id: &'a str,
    path: &'a str,
}

impl Client {
    /// Begins to upload content of `size` bytes whose XXH3-128 is `xxh3`, to be staged at `destination`, a
    /// workspace and a path, which may hold every character.
    ///
    /// # Errors
    /// [`Kind::Unsendable`] for empty content, which the server takes only in forms; any other [`Error`].
    pub async fn begin_upload(
        &self,
        repo: &RepoName,
        xxh3: u128,
        size: u64,
        destination: Option<(&str, &RepoPath)>,
    ) -> Result<UploadStart, Error> {
        if size == 0 {
            let message = "an empty file has no parts; send it in a form".to_owned();
            return Err(self.unsendable(Op::BeginUpload, message));
        }
        let body = Body::json(&NewUpload {
            hash: format!("{xxh3:x}"),
            size,
            destination: destination
                .map(|(workspace_id, path)| Destination { workspace_id, path: path.as_str() }),
        });
        let route = Route::repo(repo, "/versions/uploads");
        let answer = self.send(Op::BeginUpload, Method::POST, route, body).await?;
        match answer.json(ANSWER_LEN_MAX).await? {
            UploadAnswer::AlreadyStored => Ok(UploadStart::AlreadyStored),
            UploadAnswer::AwaitingParts { upload_id, part_size, num_parts, part_window } => {
                if part_size == 0 || size.div_ceil(part_size) != num_parts || num_parts > PARTS_MAX {
                    let message = format!("{num_parts} parts of {part_size} bytes for {size} bytes");
                    return Err(self.error(Op::BeginUpload, Kind::Malformed, message));
                }
                let part_window = part_window.max(1);
                Ok(UploadStart::AwaitingParts(Upload { id: upload_id, part_size, num_parts, part_window }))
            }
        }
    }

    /// Sends one part, counted from 1; says whether it completed the upload. Sending a part again is harmless.
    ///
    /// # Errors
    /// [`Reason::HashMismatch`](super::Reason) when the last part is in and the content is not what was
    /// announced; [`Reason::UploadNotFound`](super::Reason) once the upload is complete, expired or forgotten;
    /// any other [`Error`].
    pub async fn put_part(
        &self,
        repo: &RepoName,
        upload_id: &str,
        number: u64,
        body: impl Into<PartBody>,
    ) -> Result<bool, Error> {
        let route =
            Route::repo(repo, "/versions/uploads").path(upload_id).then("/parts").path(&number.to_string());
        let content_type = "application/octet-stream".to_owned();
        let body = match body.into() {
            PartBody::Whole(bytes) => Body::Chunks(content_type, vec![bytes]),
            PartBody::Pieces(len, pieces) => Body::Stream(content_type, len, pieces),
        };
        let answer = self.send(Op::PutPart, Method::PUT, route, body).await?;
        Ok(answer.json::<PartAnswer>(ANSWER_LEN_MAX).await?.completed)
    }

    /// Asks whether a part, counted from 1, has arrived, for the price of a request without a body: oxen-server 0.65.2 takes
    /// a part that it has again without a look at it, and refuses an empty one that it has not, with no harm to the upload.
    ///
    /// # Errors
    /// [`Reason::PartDeferred`](super::Reason) while the part is being received or stored;
    /// [`Reason::UploadNotFound`](super::Reason) once the upload is complete, expired or forgotten; any other [`Error`].
    pub async fn has_part(&self, repo: &RepoName, upload_id: &str, number: u64) -> Result<bool, Error> {
        match self.put_part(repo, upload_id, number, Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(400) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
