//! Repositories in memory: branches, commits, workspaces, content.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use jiff::Timestamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::answer::{self, Reply};
use super::tree::{Dir, File, Node};

/// A commit as it was made.
pub(crate) struct CommitMade {
    pub(crate) repo: String,
    /// The branch it was made on.
    pub(crate) branch: String,
    pub(crate) id: Arc<str>,
    pub(crate) parent: Option<Arc<str>>,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) email: String,
    pub(crate) time: Timestamp,
    /// The paths put by it.
    pub(crate) put: Vec<String>,
    /// The paths removed by it.
    pub(crate) removed: Vec<String>,
    /// The content put by it, in bytes.
    pub(crate) bytes: u64,
    pub(crate) root: Arc<Dir>,
}

/// What a commit says of itself.
pub(crate) struct Info {
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) email: String,
}

/// A repository.
#[derive(Default)]
pub(crate) struct Repo {
    pub(crate) name: String,
    pub(crate) branches: BTreeMap<String, Arc<str>>,
    pub(crate) commits: HashMap<Arc<str>, Arc<CommitMade>>,
    pub(crate) workspaces: BTreeMap<String, Workspace>,
    pub(crate) content: HashMap<u128, Bytes>,
}

/// Changes that wait for their commit.
pub(crate) struct Workspace {
    pub(crate) base: Arc<CommitMade>,
    pub(crate) staged: Staged,
}

pub(crate) type Staged = BTreeMap<String, Change>;

/// What a commit will do to a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Put { hash: u128, size: u64 },
    RemoveFile,
    RemoveDir,
}

impl Repo {
    pub(crate) fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    pub(crate) fn head(&self, branch: &str) -> Option<&Arc<CommitMade>> {
        self.commits.get(self.branches.get(branch)?)
    }

    /// Keeps content and answers its hash.
    pub(crate) fn store(&mut self, content: Bytes) -> u128 {
        let hash = xxh3_128(&content);
        self.content.entry(hash).or_insert(content);
        hash
    }

    /// Stages a file that is stored, unless the workspace's commit holds it already. An earlier change of
    /// the path then stays staged.
    pub(crate) fn stage(workspace: &mut Workspace, path: &str, hash: u128, size: u64) {
        if workspace.base.root.file(path).is_none_or(|file| file.hash != hash) {
            workspace.staged.insert(path.to_owned(), Change::Put { hash, size });
        }
    }

    /// Stages a removal; says whether there was something to remove.
    pub(crate) fn stage_removal(workspace: &mut Workspace, path: &str) -> bool {
        let below = format!("{path}/");
        match workspace.base.root.node(path) {
            Some(Node::File(_)) => {
                workspace.staged.insert(path.to_owned(), Change::RemoveFile);
                true
            }
            Some(Node::Dir(dir)) => {
                workspace.staged.retain(|staged, _| !staged.starts_with(&below));
                dir.each_file(path, &mut |path, _| {
                    workspace.staged.insert(path.to_owned(), Change::RemoveFile);
                });
                workspace.staged.insert(path.to_owned(), Change::RemoveDir);
                true
            }
            None => {
                let before = workspace.staged.len();
                workspace.staged.retain(|staged, _| staged != path && !staged.starts_with(&below));
                workspace.staged.len() < before
            }
        }
    }

    /// Commits a workspace onto a branch.
    pub(crate) fn merge(&mut self, id: &str, branch: &str, info: Info) -> Result<Arc<CommitMade>, Reply> {
        let workspace = self.workspaces.get(id).ok_or_else(|| answer::no_workspace(id))?;
        let head = self.head(branch).ok_or_else(|| answer::described(404, branch))?;
        if workspace.staged.is_empty() {
            return Err(answer::message(422, "NoChanges"));
        }
        let conflict = head.id != workspace.base.id
            && workspace.staged.iter().any(|(path, change)| {
                let [base, head] = [&workspace.base.root, &head.root].map(|root| hash_at(root, path));
                let staged = match change {
                    Change::Put { hash, .. } => Some(*hash),
                    Change::RemoveFile | Change::RemoveDir => None,
                };
                base != head && head != staged
            });
        if conflict {
            let detail = format!("workspace {id} was made before the head of {branch}");
            return Err(answer::error(409, "conflict", "Workspace is behind", &detail));
        }
        let staged = workspace.staged.clone();
        let commit = self.commit(branch, &staged, info)?;
        self.workspaces.remove(id);
        Ok(commit)
    }

    /// Makes a commit on a branch and moves the branch.
    pub(crate) fn commit(
        &mut self,
        branch: &str,
        staged: &Staged,
        info: Info,
    ) -> Result<Arc<CommitMade>, Reply> {
        let parent = self.head(branch).cloned();
        let time = Timestamp::now();
        let id: Arc<str> = commit_id(parent.as_deref(), &info, time).into();
        if self.commits.contains_key(&id) {
            return Err(answer::too_many("commit_id_taken", &format!("{id} is taken"), 1));
        }
        let mut root = parent.as_ref().map_or_else(Dir::default, |parent| (*parent.root).clone());
        root.commit = id.clone();
        let (mut put, mut removed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (path, change) in staged {
            if *change == Change::RemoveFile {
                root.remove(path, &id);
                removed.push(path.clone());
            }
        }
        for (path, change) in staged {
            if let Change::Put { hash, size } = *change {
                // Whichever request carries it, a backslash parts directories in the tree.
                let path = path.replace('\\', "/");
                root.put(&path, File { hash, size, commit: id.clone() });
                put.push(path);
                bytes += size;
            }
        }
        // A removed directory takes with it what the same commit puts there.
        for (path, _) in staged.iter().filter(|(_, change)| **change == Change::RemoveDir) {
            root.remove(path, &id);
        }
        let commit = Arc::new(CommitMade {
            repo: self.name.clone(),
            branch: branch.to_owned(),
            id: id.clone(),
            parent: parent.map(|parent| parent.id.clone()),
            message: info.message,
            author: info.author,
            email: info.email,
            time,
            put,
            removed,
            bytes,
            root: Arc::new(root),
        });
        self.commits.insert(id.clone(), commit.clone());
        self.branches.insert(branch.to_owned(), id);
        Ok(commit)
    }

    /// The commits from one back to the first.
    pub(crate) fn history(&self, from: &Arc<CommitMade>) -> Vec<Arc<CommitMade>> {
        std::iter::successors(Some(from.clone()), |commit| self.commits.get(commit.parent.as_ref()?).cloned())
            .collect()
    }

    /// Splits what stands behind `/file/` and the like into a commit, a branch if it named one, and a path: a
    /// commit's id first, then the longest prefix that is a branch.
    pub(crate) fn resolve(&self, resource: &str) -> Option<(Arc<CommitMade>, Option<String>, String)> {
        let segments: Vec<_> = resource.split('/').filter(|segment| !segment.is_empty()).collect();
        let first = *segments.first()?;
        if let Some(commit) = self.commits.get(first) {
            return Some((commit.clone(), None, segments[1..].join("/")));
        }
        // The whole of it comes last, so a branch `a` hides a branch `a/b`'s root.
        let lens = (1..segments.len()).rev().chain([segments.len()]);
        for len in lens {
            let branch = segments[..len].join("/");
            if let Some(commit) = self.head(&branch) {
                return Some((commit.clone(), Some(branch), segments[len..].join("/")));
            }
        }
        let workspace = self.workspaces.get(first)?;
        Some((workspace.base.clone(), None, segments[1..].join("/")))
    }
}

fn hash_at(root: &Dir, path: &str) -> Option<u128> {
    root.file(path).map(|file| file.hash)
}

fn commit_id(parent: Option<&CommitMade>, info: &Info, time: Timestamp) -> String {
    let mut hasher = Xxh3::new();
    for text in [parent.map_or("", |parent| &parent.id), &info.message, &info.author, &info.email] {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&time.as_second().to_le_bytes());
    format!("{:x}", hasher.digest128())
}
