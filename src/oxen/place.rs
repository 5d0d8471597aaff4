//! The server itself, its repositories and their branches.

use reqwest::Method;
use serde::Serialize;

use super::answer::{BranchAnswer, BranchesAnswer, User};
use super::route::Route;
use super::send::{ANSWER_LEN_MAX, Body, LIST_LEN_MAX, is_absent};
use super::{Branch, BranchName, Client, Created, Error, Op, Reason, RepoName, ServerInfo};

/// Who makes a repository or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A name for people.
    pub name: String,
    /// Their address.
    pub email: String,
}

#[derive(Serialize)]
struct NewRepo<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
}

#[derive(Serialize)]
struct NewBranch<'a> {
    new_name: &'a str,
    from_name: &'a str,
}

impl Client {
    /// Whether a server answers, and which.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn health(&self) -> Result<ServerInfo, Error> {
        #[derive(serde::Deserialize)]
        struct Health {
            oxen_version: Option<String>,
        }
        let answer = self.send(Op::Health, Method::GET, Route::api("/health"), Body::Empty).await?;
        let header = answer.headers().get("oxen-version").and_then(|value| value.to_str().ok());
        let header = header.map(super::reason::one_line);
        let date = answer.headers().get("date").and_then(|value| value.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let body: Health = answer.json(ANSWER_LEN_MAX).await?;
        Ok(ServerInfo {
            version: header.or_else(|| body.oxen_version.as_deref().map(super::reason::one_line)),
            date,
        })
    }

    /// Whether the repository is there, with commits or without.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that it is missing.
    pub async fn repo_exists(&self, repo: &RepoName) -> Result<bool, Error> {
        let sent = self.send(Op::FindRepo, Method::GET, Route::repo(repo, ""), Body::Empty).await;
        match sent {
            Ok(answer) => {
                answer.json::<serde::de::IgnoredAny>(ANSWER_LEN_MAX).await?;
                Ok(true)
            }
            Err(error) if is_absent(&error, Reason::RepoNotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a repository without commits and branches. One that is there stays as it is.
    ///
    /// # Errors
    /// Any [`Error`] but 409.
    pub async fn create_repo(
        &self,
        repo: &RepoName,
        description: Option<&str>,
        author: Option<&Author>,
    ) -> Result<Created, Error> {
        let body = Body::json(&NewRepo {
            namespace: repo.namespace(),
            name: repo.name(),
            description,
            user: author.map(|author| User { name: &author.name, email: &author.email }),
        });
        match self.send(Op::CreateRepo, Method::POST, Route::api("/repos"), body).await {
            Ok(answer) => {
                answer.json::<serde::de::IgnoredAny>(ANSWER_LEN_MAX).await?;
                Ok(Created::New)
            }
            Err(error) if error.code() == Some(409) => Ok(Created::Existed),
            Err(error) => Err(error),
        }
    }

    /// The branch of exactly this name.
    ///
    /// # Errors
    /// Any [`Error`] but the server's own word that the branch is missing.
    pub async fn branch(&self, repo: &RepoName, branch: &BranchName) -> Result<Option<Branch>, Error> {
        // The server reads `…/branches/a/versions/b` as the versions of a path `b` on a branch `a`.
        if branch.as_str().contains("/versions/") {
            let branches = self.branches(repo).await?;
            return Ok(branches.into_iter().find(|found| found.name == branch.as_str()));
        }
        let route = Route::repo(repo, "/branches").path(branch.as_str());
        match self.send(Op::ReadBranch, Method::GET, route, Body::Empty).await {
            Ok(answer) => Ok(Some(answer.json::<BranchAnswer>(ANSWER_LEN_MAX).await?.branch)),
            Err(error) if is_absent(&error, Reason::BranchNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All branches; none for a repository without commits.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn branches(&self, repo: &RepoName) -> Result<Vec<Branch>, Error> {
        let answer =
            self.send(Op::ListBranches, Method::GET, Route::repo(repo, "/branches"), Body::Empty).await?;
        Ok(answer.json::<BranchesAnswer>(LIST_LEN_MAX).await?.branches)
    }

    /// Makes the branch `new` where `from` points to, or finds `new` as it is. `None`: `from` is missing.
    ///
    /// # Errors
    /// Any other [`Error`].
    pub async fn create_branch(
        &self,
        repo: &RepoName,
        new: &BranchName,
        from: &BranchName,
    ) -> Result<Option<Branch>, Error> {
        let body = Body::json(&NewBranch { new_name: new.as_str(), from_name: from.as_str() });
        match self.send(Op::CreateBranch, Method::POST, Route::repo(repo, "/branches"), body).await {
            Ok(answer) => Ok(Some(answer.json::<BranchAnswer>(ANSWER_LEN_MAX).await?.branch)),
            Err(error) if is_absent(&error, Reason::BranchNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
