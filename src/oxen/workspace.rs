//! Workspaces: changes of any number of directories, staged in several requests, committed at once.

use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::answer::{CommitAnswer, PathsAnswer, WorkspaceAnswer, WorkspaceBody, WorkspacesAnswer};
use super::fits_multipart_path;
use super::multipart::Form;
use super::route::Route;
use super::send::{ANSWER_LEN_MAX, Body, LIST_LEN_MAX, is_absent};
use super::{BranchName, Client, Commit, CommitInfo, Error, FileBody, Kind, Op, Reason, RepoName, Workspace};
use crate::path::is_reserved_name;
use crate::path::printable;

/// The largest list of removals in one request; the server reads 2 MiB of JSON.
const REMOVALS_LEN_MAX: usize = 1 << 20;

#[derive(Serialize)]
struct NewWorkspace<'a> {
    workspace_id: &'a str,
    branch_name: &'a str,
}

#[derive(Serialize)]
struct NewCommit<'a> {
    author: &'a str,
    email: &'a str,
    message: &'a str,
}

impl Client {
    /// Opens a workspace on a branch's head, or finds the one of this id, on the commit it was opened on.
    ///
    /// In a repository without commits this makes an empty first commit on `branch`, of any name.
    ///
    /// # Errors
    /// [`Reason::BranchNotFound`] where there are commits and no such branch; any other [`Error`].
    pub async fn open_workspace(
        &self,
        repo: &RepoName,
        id: &str,
        branch: &BranchName,
    ) -> Result<Workspace, Error> {
        let body = Body::json(&NewWorkspace { workspace_id: id, branch_name: branch.as_str() });
        let answer =
            self.send(Op::OpenWorkspace, Method::PUT, Route::repo(repo, "/workspaces"), body).await?;
        let opened = answer.json::<WorkspaceAnswer>(ANSWER_LEN_MAX).await?.workspace.into_workspace();
        opened.filter(|opened| opened.id == id).ok_or_else(|| {
            self.error(Op::OpenWorkspace, Kind::Malformed, "another workspace than was asked for".to_owned())
        })
    }

    /// All workspaces of the repository, of whoever made them, but for those with an id that no address can carry.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn workspaces(&self, repo: &RepoName) -> Result<Vec<Workspace>, Error> {
        let answer =
            self.send(Op::ListWorkspaces, Method::GET, Route::repo(repo, "/workspaces"), Body::Empty).await?;
        let answer = answer.json::<WorkspacesAnswer>(LIST_LEN_MAX).await?;
        Ok(answer.workspaces.into_iter().filter_map(WorkspaceBody::into_workspace).collect())
    }

    /// Deletes a workspace and all that is staged in it; says whether it was there.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that it is missing.
    pub async fn delete_workspace(&self, repo: &RepoName, id: &str) -> Result<bool, Error> {
        let route = Route::repo(repo, "/workspaces").path(id);
        match self.send(Op::DeleteWorkspace, Method::DELETE, route, Body::Empty).await {
            Ok(answer) => {
                answer.json::<serde::de::IgnoredAny>(ANSWER_LEN_MAX).await?;
                Ok(true)
            }
            Err(error) if is_absent(&error, Reason::WorkspaceNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stages files; each [`FileBody::name`] is a whole path. Answers the paths that the server took.
    ///
    /// A file that the server could not store is only missing in the answer. One that the workspace's commit
    /// holds already, or seems to hold (see the [module](super)), is in the answer and not staged.
    ///
    /// # Errors
    /// [`Kind::Unsendable`](super::Kind) for a path that a form cannot carry ([`fits_multipart_path`]), that holds a
    /// backslash, or that the server keeps for itself ([`is_reserved_name`]); any other [`Error`].
    pub async fn stage_files(
        &self,
        repo: &RepoName,
        id: &str,
        files: Vec<FileBody>,
    ) -> Result<Vec<String>, Error> {
        let mut form = Form::new();
        for file in files {
            let refuse =
                |why: &str| self.unsendable(Op::StageFiles, format!("{} {why}", printable(&file.name)));
            if !fits_multipart_path(&file.name) {
                return Err(refuse("holds a character that no form can carry; upload it in parts"));
            }
            if file.name.contains('\\') {
                return Err(refuse("holds a backslash, after which nobody could read it; rename the file"));
            }
            if file.name.split('/').any(is_reserved_name) {
                return Err(refuse("is a path that the server keeps for itself; rename the file"));
            }
            form = form.file("file[]", &file.name, file.bytes);
        }
        let (content_type, chunks) = form.finish();
        let route = Route::repo(repo, "/workspaces").path(id).then("/files/");
        let answer =
            self.send(Op::StageFiles, Method::POST, route, Body::Chunks(content_type, chunks)).await?;
        Ok(answer.json::<PathsAnswer>(LIST_LEN_MAX).await?.paths)
    }

    /// Stages removals and answers the paths where nothing was. A long list goes out in several requests.
    ///
    /// With oxen-server 0.65.2, a directory's removal takes with it what is staged below it already, so stage
    /// removals first. A file never takes a directory's place in the commit that empties or removes it: it would
    /// be lost, or listed and never found. Remove the directory itself, with what is left of it, in a commit
    /// before.
    ///
    /// # Errors
    /// Any [`Error`]; then some of the removals may be staged.
    pub async fn stage_removals(
        &self,
        repo: &RepoName,
        id: &str,
        paths: &[&str],
    ) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        for paths in batches(paths) {
            let route = Route::repo(repo, "/workspaces").path(id).then("/files");
            let answer = self.send(Op::StageRemovals, Method::DELETE, route, Body::json(&paths)).await?;
            // 206 lists what was not there, and says "error" although the rest is staged.
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                missing.extend(answer.any_json::<PathsAnswer>(LIST_LEN_MAX).await?.paths);
            } else {
                answer.json::<serde::de::IgnoredAny>(LIST_LEN_MAX).await?;
            }
        }
        Ok(missing)
    }

    /// Commits all that is staged in a workspace onto a branch, all or none. The workspace is gone afterwards.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when a staged path changed on the branch since the workspace was opened,
    /// [`Reason::NoChanges`], [`Reason::WorkspaceNotFound`] (it may have been committed by a request whose
    /// answer was lost), or any other [`Error`].
    pub async fn merge_workspace(
        &self,
        repo: &RepoName,
        id: &str,
        branch: &BranchName,
        info: &CommitInfo,
    ) -> Result<Commit, Error> {
        let body = Body::json(&NewCommit { author: &info.name, email: &info.email, message: &info.message });
        let route = Route::repo(repo, "/workspaces").path(id).then("/merge").path(branch.as_str());
        let answer = self.send(Op::MergeWorkspace, Method::POST, route, body).await?;
        self.commit_of(Op::MergeWorkspace, answer.json::<CommitAnswer>(ANSWER_LEN_MAX).await?)
    }
}

/// The paths in groups that one request can carry.
fn batches<'a>(paths: &'a [&'a str]) -> impl Iterator<Item = &'a [&'a str]> {
    let mut rest = paths;
    std::iter::from_fn(move || {
        let mut len = 0;
        let fits = |path: &&&str| {
            // A character of one byte takes at most six in JSON.
            len += path.len() * 6 + 3;
            len <= REMOVALS_LEN_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (batch, left) = rest.split_at(count);
        rest = left;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_removals_are_split_and_nothing_is_lost() {
        let path = "p".repeat(1000);
        let paths = vec![path.as_str(); 1000];
        let batches: Vec<_> = batches(&paths).collect();
        assert!(batches.len() > 1);
        assert_eq!(batches.concat(), paths);
        assert!(batches.iter().all(|batch| serde_json::to_vec(batch).unwrap().len() <= REMOVALS_LEN_MAX));
    }

    #[test]
    fn no_paths_need_no_request_and_a_huge_one_needs_one() {
        assert_eq!(batches(&[]).count(), 0);
        let huge = "p".repeat(REMOVALS_LEN_MAX);
        assert_eq!(batches(&[&huge]).count(), 1);
    }
}
