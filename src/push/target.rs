use std::sync::atomic::{AtomicBool, Ordering};

use super::pusher::Failure;
use super::verdict::Verdict;
use crate::fault_point::{Point, passed};
use crate::oxen::{Author, BranchName, Client, Error, Reason, RepoName};

/// A branch of a repository on a server, and what may be done to have it.
#[derive(Debug)]
pub struct Target {
    /// The server.
    pub client: Client,
    /// The repository.
    pub repo: RepoName,
    /// The branch.
    pub branch: BranchName,
    /// Whether a missing repository is made.
    pub create_repo: bool,
    /// The branch that a missing one is made from, where the repository has commits.
    pub create_branch_from: Option<BranchName>,
    /// The description of a repository that is made.
    pub description: Option<String>,
    /// Who makes it.
    pub author: Author,
    /// Set once the branch was seen; cleared when the server says that it is missing.
    ready: AtomicBool,
    /// Whether a PUT to this branch can reach no other.
    put_safe: AtomicBool,
}

/// What is missing and may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("the repository {0} is not on the server; make it there, or set create_repo = true")]
    Repo(RepoName),
    #[error(
        "the repository {0} has no branch {1}; make it there, or set create_branch_from = \"main\" to make it from another"
    )]
    Branch(RepoName, BranchName),
    #[error("the repository {0} has neither the branch {1} nor the branch {2} to make it from")]
    From(RepoName, BranchName, BranchName),
}

impl Target {
    /// A target that was not looked at yet.
    pub fn new(client: Client, repo: RepoName, branch: BranchName, author: Author) -> Self {
        Self {
            client,
            repo,
            branch,
            create_repo: true,
            create_branch_from: None,
            description: None,
            author,
            ready: AtomicBool::new(false),
            put_safe: AtomicBool::new(false),
        }
    }

    /// Makes sure that the branch is there, making what is missing where that is allowed. Asks the server only once
    /// until [`Target::doubt`], and says whether it had to.
    pub(super) async fn ensure(&self, workspace: &str) -> Result<bool, Failure> {
        if self.ready.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if !self.is_there().await? {
            self.make(workspace).await?;
        }
        // The server looks for the branch in the address of a PUT by trying its beginnings (oxen-server 0.65.2): one
        // branch must not be the beginning of another.
        let below = format!("{}/", self.branch);
        let branches = self.client.branches(&self.repo).await?;
        let is_safe = !self.branch.as_str().contains('/')
            && !branches.iter().any(|branch| branch.name.starts_with(&below));
        self.put_safe.store(is_safe, Ordering::Relaxed);
        self.ready.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether a PUT to this branch reaches this branch.
    pub(super) fn is_put_safe(&self) -> bool {
        self.put_safe.load(Ordering::Relaxed)
    }

    /// The branch's head commit. Reading goes by commit: in an address that begins with a branch's name, the server may
    /// take more of it for the name of another branch.
    pub(super) async fn head(&self) -> Result<String, Failure> {
        match self.client.branch(&self.repo, &self.branch).await? {
            Some(branch) => Ok(branch.commit_id),
            None => {
                self.doubt();
                Err(Failure::of_surroundings(
                    Verdict::Again,
                    format!("the branch {} of {} has gone from the server", self.branch, self.repo),
                ))
            }
        }
    }

    /// The next [`Target::ensure`] asks again.
    pub(super) fn doubt(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    async fn is_there(&self) -> Result<bool, Error> {
        match self.client.branch(&self.repo, &self.branch).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if matches!(error.reason(), Reason::RepoNotFound | Reason::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn make(&self, workspace: &str) -> Result<(), Failure> {
        let Self { client, repo, branch, .. } = self;
        // Another folder of the same repository may be about to make it.
        let _making = client.making().await;
        if !client.repo_exists(repo).await? {
            if !self.create_repo {
                return Err(missing(&Missing::Repo(repo.clone())));
            }
            client.create_repo(repo, self.description.as_deref(), Some(&self.author)).await?;
            passed(Point::RepoMade);
            tracing::info!(%repo, "repository made");
        }
        let branches = client.branches(repo).await.map_err(|error| match error.reason() {
            // oxen-server 0.65.2 was seen to say so where it had ended while it made the repository, and while it makes
            // one for another client.
            Reason::RepoNotFound => Failure::of_surroundings(
                Verdict::Again,
                format!(
                    "the server says that {repo} is there and does not find it: another client may be making it; should \
                     this go on, the server ended while it made it: delete the repository there, or name another one"
                ),
            ),
            _ => error.into(),
        })?;
        if branches.is_empty() {
            // A workspace on an empty repository makes a first commit on a branch of any name; a PUT would take only
            // the name's part before the first slash (oxen-server 0.65.2).
            match client.open_workspace(repo, workspace, branch).await {
                Ok(_) => {
                    passed(Point::BranchMade);
                    client.delete_workspace(repo, workspace).await?;
                    tracing::info!(%repo, %branch, "branch made in the empty repository");
                    return Ok(());
                }
                // Another client was quicker with another branch.
                Err(error) if error.reason() == Reason::BranchNotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_there().await? {
            return Ok(());
        }
        let Some(from) = &self.create_branch_from else {
            return Err(missing(&Missing::Branch(repo.clone(), branch.clone())));
        };
        if client.create_branch(repo, branch, from).await?.is_none() {
            return Err(missing(&Missing::From(repo.clone(), branch.clone(), from.clone())));
        }
        tracing::info!(%repo, %branch, %from, "branch made");
        Ok(())
    }
}

fn missing(what: &Missing) -> Failure {
    Failure::of_surroundings(Verdict::Stop, what.to_string())
}
