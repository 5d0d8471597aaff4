//! Committing files of one directory in one request.

use bytes::Bytes;
use reqwest::Method;

use super::answer::CommitAnswer;
use super::multipart::Form;
use super::route::Route;
use super::send::{ANSWER_LEN_MAX, Body};
use super::{BranchName, Client, Commit, Error, Kind, Op, RepoName, fits_put_name};
use crate::path::{RepoPath, printable};

/// The largest [`put_form_len`] that oxen-server 0.65.2 takes; above, it answers 400 "Payload error". Others,
/// such as hub.oxen.ai, may take more.
pub const PUT_FORM_MAX: usize = 2 << 20;

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Any text. The server reads at most 256 KiB together with name and address.
    pub message: String,
    /// The author's name.
    pub name: String,
    /// The author's address.
    pub email: String,
}

/// A file as it goes into a form.
#[derive(Clone, PartialEq, Eq)]
pub struct FileBody {
    /// A name for [`Client::put_files`], a whole path for [`Client::stage_files`].
    pub name: String,
    /// The content.
    pub bytes: Bytes,
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileBody({}, {} bytes)", printable(&self.name), self.bytes.len())
    }
}

/// The length of a PUT's form as the server counts it against [`PUT_FORM_MAX`]: the files' content and the
/// text fields, without names and headers.
pub fn put_form_len(file_lens: impl IntoIterator<Item = usize>, info: &CommitInfo) -> usize {
    let text = info.message.len() + info.name.len() + info.email.len();
    file_lens.into_iter().fold(text, usize::saturating_add)
}

impl Client {
    /// Commits `files` into the directory `dir` of a branch, all or none.
    ///
    /// # Errors
    /// [`Kind::Unsendable`] for a name that the server would change, [`fits_put_name`] says which; any other
    /// [`Error`]. [`Reason::NoChanges`](super::Reason) when the branch holds all of it already.
    pub async fn put_files(
        &self,
        repo: &RepoName,
        branch: &BranchName,
        dir: &RepoPath,
        files: Vec<FileBody>,
        info: &CommitInfo,
    ) -> Result<Commit, Error> {
        if let Some(file) = files.iter().find(|file| !fits_put_name(&file.name)) {
            let message =
                format!("the server would rename {}; send it through a workspace", printable(&file.name));
            return Err(self.unsendable(Op::PutFiles, message));
        }
        let mut form =
            Form::new().text("message", &info.message).text("name", &info.name).text("email", &info.email);
        for file in files {
            form = form.file("files[]", &file.name, file.bytes);
        }
        let (content_type, chunks) = form.finish();
        let route = Route::repo(repo, "/file").path(branch.as_str()).path(dir.as_str());
        let answer = self.send(Op::PutFiles, Method::PUT, route, Body::Chunks(content_type, chunks)).await?;
        self.commit_of(Op::PutFiles, answer.json(ANSWER_LEN_MAX).await?)
    }

    pub(super) fn commit_of(&self, op: Op, answer: CommitAnswer) -> Result<Commit, Error> {
        answer.into_commit().ok_or_else(|| self.error(op, Kind::Malformed, "no commit in it".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forms_length_counts_content_and_text() {
        let info = CommitInfo { message: "ü".into(), name: "rig".into(), email: "a@b".into() };
        assert_eq!(put_form_len([10, 0, 5], &info), 23);
        assert_eq!(put_form_len([usize::MAX, 1], &info), usize::MAX);
    }
}
