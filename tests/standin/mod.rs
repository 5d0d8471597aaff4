//! A server that speaks Oxen's API as oxen-server 0.65.2 does, from memory, with faults on demand; and the gate with
//! the same faults before the real one.
//!
//! The server from memory passes the contract tests that the real server passes. What it does not have: data frames,
//! other people's requests, and anything on disk.

mod answer;
mod call;
mod conn;
mod faults;
mod form;
mod gate;
mod memory;
mod put;
mod read;
mod repo;
mod tree;
mod uploads;
mod upstream;
mod work;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, MutexGuard};

use axum::body::Bytes;
use xxhash_rust::xxh3::xxh3_128;

pub(crate) use conn::Port;
pub(crate) use faults::{Action, Rule};
use gate::Backend;
pub(crate) use gate::Gate;
use memory::{Inside, Memory};
pub(crate) use repo::CommitMade;
use upstream::Upstream;

/// A running server from memory. It stops when this is dropped.
pub(crate) struct StandIn {
    gate: Arc<Gate>,
    memory: Arc<Memory>,
}

impl Deref for StandIn {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.gate
    }
}

/// A gate before the server at `url`.
pub(crate) fn gate_before(url: &str) -> Gate {
    Gate::open(Backend::Upstream(Upstream::new(url)))
}

impl StandIn {
    /// Starts an empty server on a free port.
    pub(crate) async fn start() -> Self {
        let memory = Arc::<Memory>::default();
        Self { gate: Arc::new(Gate::open(Backend::Memory(Arc::clone(&memory)))), memory }
    }

    /// Its faults and counts.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Another way in, without faults.
    pub(crate) fn side_door(&self) -> Gate {
        Gate::open(Backend::Memory(Arc::clone(&self.memory)))
    }

    /// Answers 401 to requests without this bearer key.
    pub(crate) fn require_key(&self, key: &str) {
        self.state().key = Some(key.to_owned());
    }

    /// Makes uploads of parts of this size, of which so many may be under way.
    pub(crate) fn set_parts(&self, part_size: u64, part_window: u64) {
        let mut state = self.state();
        (state.store.part_size, state.store.part_window) = (part_size, part_window);
    }

    /// Forgets all uploads, as a restart does.
    pub(crate) fn forget_uploads(&self) {
        self.state().store.uploads.clear();
    }

    /// Makes two contents of one size pass for each other when they are staged, as the real server does with
    /// contents that it stored in the same tick of its clock. A PUT tells them apart.
    pub(crate) fn make_twins(&self, repo: &str, one: &[u8], other: &[u8]) {
        let mut state = self.state();
        let repo = state.store.repos.get_mut(repo).expect("the repository is there");
        repo.twins.push((xxh3_128(one), xxh3_128(other)));
    }

    /// The commits of a branch, the oldest first.
    pub(crate) fn commits(&self, repo: &str, branch: &str) -> Vec<Arc<CommitMade>> {
        let state = self.state();
        let Some(repo) = state.store.repos.get(repo) else { return Vec::new() };
        let mut commits = repo.head(branch).map(|head| repo.history(head)).unwrap_or_default();
        commits.reverse();
        commits
    }

    /// All commits that were made, of all repositories and branches, in their order.
    pub(crate) fn all_commits(&self) -> Vec<Arc<CommitMade>> {
        self.state().store.commits.clone()
    }

    /// Takes the last commits from a branch, as a server does that comes back from an older backup.
    pub(crate) fn lose_commits(&self, repo: &str, branch: &str, count: usize) {
        let mut state = self.state();
        let repo = state.store.repos.get_mut(repo).expect("the repository is there");
        let history = repo.history(repo.head(branch).expect("the branch is there"));
        repo.branches.insert(branch.to_owned(), Arc::clone(&history[count].id));
    }

    /// Every file of a branch with its content; empty where there is no such branch.
    pub(crate) fn tree(&self, repo: &str, branch: &str) -> BTreeMap<String, Bytes> {
        let state = self.state();
        let mut files = BTreeMap::new();
        if let Some(repo) = state.store.repos.get(repo)
            && let Some(head) = repo.head(branch)
        {
            head.root.each_file("", &mut |path, file| {
                files.insert(path.to_owned(), repo.content.get(&file.hash).cloned().unwrap_or_default());
            });
        }
        files
    }

    /// The ids of the workspaces that are there.
    pub(crate) fn workspaces(&self, repo: &str) -> Vec<String> {
        let state = self.state();
        state.store.repos.get(repo).map(|repo| repo.workspaces.keys().cloned().collect()).unwrap_or_default()
    }

    /// Waits until `done` holds, looking whenever something has happened.
    ///
    /// # Panics
    /// After 30 s, with `what`.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        self.wait_for(what, || done(self)).await;
    }

    /// Waits until so many commits have been made in all.
    pub(crate) async fn commits_made(&self, count: usize) {
        let done = |standin: &Self| standin.state().store.commits.len() >= count;
        self.until(&format!("{count} commits are made"), done).await;
    }

    fn state(&self) -> MutexGuard<'_, Inside> {
        self.memory.lock()
    }
}
