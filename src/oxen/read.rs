//! Reading what a branch holds.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::Method;

use super::answer::{DirAnswer, EntryAnswer, HistoryAnswer};
use super::route::Route;
use super::send::{ANSWER_LEN_MAX, Answer, Body, LIST_LEN_MAX, is_absent};
use super::{Client, Commit, DirPage, Entry, Error, Kind, Op, Reason, RepoName};
use crate::path::RepoPath;

/// More pages than any directory has; whoever reads them all comes to an end.
const PAGES_MAX: usize = 100_000;

/// A file's content as it arrives. It ends with an error if the connection breaks before the last byte.
pub struct Download {
    size: Option<u64>,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
}

impl Download {
    fn new(answer: Answer) -> Self {
        let size = answer.content_length();
        let chunks = stream::unfold(Some(answer), async |answer| {
            let mut answer = answer?;
            match answer.chunk().await {
                Ok(chunk) => chunk.map(|chunk| (Ok(chunk), Some(answer))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Self { size, chunks: Box::pin(chunks) }
    }

    /// The content's length in bytes, if the server announced it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}

impl Stream for Download {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.as_mut().poll_next(cx)
    }
}

/// `revision` is a commit's id or a branch's name. Prefer the id: a name is matched by its longest prefix that
/// is a branch, together with the path (see the [module](super)).
impl Client {
    /// What stands at a path. `None`: nothing, or there is no such revision.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that nothing is there.
    pub async fn entry(
        &self,
        repo: &RepoName,
        revision: &str,
        path: &RepoPath,
    ) -> Result<Option<Entry>, Error> {
        let answer =
            self.read(Op::ReadEntry, Route::repo(repo, "/meta").path(revision).path(path.as_str())).await?;
        match answer {
            Some(answer) => Ok(Some(answer.json::<EntryAnswer>(ANSWER_LEN_MAX).await?.entry.into())),
            None => Ok(None),
        }
    }

    /// One page, counted from 1, of a directory's own entries. `None`: no such directory or revision.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that nothing is there.
    pub async fn list_dir(
        &self,
        repo: &RepoName,
        revision: &str,
        dir: &RepoPath,
        page: usize,
        page_size: usize,
    ) -> Result<Option<DirPage>, Error> {
        let route = Route::repo(repo, "/dir").path(revision).path(dir.as_str()).page(page, page_size);
        let Some(answer) = self.read(Op::ListDir, route).await? else { return Ok(None) };
        let page = DirPage::from(answer.json::<DirAnswer>(LIST_LEN_MAX).await?);
        if page.total_pages > PAGES_MAX {
            let message = format!("a directory of {} pages", page.total_pages);
            return Err(self.error(Op::ListDir, Kind::Malformed, message));
        }
        Ok(Some(page))
    }

    /// A file's content. `None`: no such file or revision.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that nothing is there.
    pub async fn file(
        &self,
        repo: &RepoName,
        revision: &str,
        path: &RepoPath,
    ) -> Result<Option<Download>, Error> {
        let route = Route::repo(repo, "/file").path(revision).path(path.as_str());
        Ok(self.read(Op::ReadFile, route).await?.map(Download::new))
    }

    /// One page, counted from 1, of the commits from a revision back, the newest first. Empty in a repository
    /// without commits.
    ///
    /// # Errors
    /// [`Reason::NotFound`] where there are commits and no such revision; any other [`Error`].
    pub async fn history(
        &self,
        repo: &RepoName,
        revision: &str,
        page: usize,
        page_size: usize,
    ) -> Result<Vec<Commit>, Error> {
        let route = Route::repo(repo, "/commits/history").path(revision).page(page, page_size);
        let answer = self.send(Op::ReadHistory, Method::GET, route, Body::Empty).await?;
        Ok(answer.json::<HistoryAnswer>(LIST_LEN_MAX).await?.commits)
    }

    async fn read(&self, op: Op, route: Route) -> Result<Option<Answer>, Error> {
        match self.send(op, Method::GET, route, Body::Empty).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_absent(&error, Reason::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
