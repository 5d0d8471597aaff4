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
    /// Directories that a file took the place of without their removal: the listing shows the file, and every
    /// look-up by path still finds the directory.
    pub(crate) ghosts: BTreeMap<String, Arc<Dir>>,
}

impl CommitMade {
    /// What a look-up of a path finds; `None` for the root as for nothing.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        match self.ghost(path) {
            Some((dir, rest)) => dir.node(rest),
            None => self.root.node(path),
        }
    }

    /// The directory that a look-up of a path finds. A commit that holds nothing has no root either, if it is
    /// the first.
    pub(crate) fn dir(&self, path: &str) -> Option<&Dir> {
        if path.is_empty() && self.parent.is_none() && self.root.children.is_empty() {
            return None;
        }
        match self.ghost(path) {
            Some((dir, rest)) => dir.dir(rest),
            None => self.root.dir(path),
        }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        match self.node(path)? {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        }
    }

    /// The deepest ghost at or above a path, and the rest of the path.
    fn ghost<'a>(&self, path: &'a str) -> Option<(&Dir, &'a str)> {
        self.ghosts.iter().rev().find_map(|(ghost, dir)| {
            let rest = path.strip_prefix(ghost.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (&**dir, rest.trim_start_matches('/')))
        })
    }
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
    /// Pairs of contents of one size that were stored in the same tick of the clock: staging takes the one for
    /// the other.
    pub(crate) twins: Vec<(u128, u128)>,
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

    /// Stages a file that is stored, unless the workspace's commit holds it already, or seems to. An earlier
    /// change of the path then stays staged.
    pub(crate) fn stage(&mut self, id: &str, path: &str, hash: u128, size: u64) -> Result<(), Reply> {
        let workspace = self.workspaces.get_mut(id).ok_or_else(|| answer::no_workspace(id))?;
        let seems = |held: u128| {
            held == hash || self.twins.contains(&(held, hash)) || self.twins.contains(&(hash, held))
        };
        if workspace.base.root.file(path).is_none_or(|file| !seems(file.hash)) {
            workspace.staged.insert(path.to_owned(), Change::Put { hash, size });
        }
        Ok(())
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
                dir.each_dir(path, &mut |path| {
                    workspace.staged.insert(path.to_owned(), Change::RemoveDir);
                });
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
        let mut ghosts = parent.as_ref().map(|parent| parent.ghosts.clone()).unwrap_or_default();
        root.commit = id.clone();
        let (mut put, mut removed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (path, change) in staged.iter().rev().filter(|(_, change)| !matches!(change, Change::Put { .. }))
        {
            root.remove(path, &id);
            if *change == Change::RemoveFile {
                removed.push(path.clone());
            }
        }
        for (path, change) in staged {
            let Change::Put { hash, size } = *change else { continue };
            let file = File { hash, size, commit: id.clone() };
            if holds_below(staged, path) {
                // The directory that those changes need wins over the file, which is lost.
                root.put(path, Node::Dir(Arc::new(Dir { commit: id.clone(), ..Dir::default() })));
            } else {
                place(&mut root, &mut ghosts, path, file);
            }
            put.push(path.clone());
            bytes += size;
        }
        removed.reverse();
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
            ghosts,
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

/// Whether something is staged below a path.
fn holds_below(staged: &Staged, path: &str) -> bool {
    let below = format!("{path}/");
    staged.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
}

/// Puts a file into a tree, with what goes wrong on the way.
fn place(root: &mut Dir, ghosts: &mut BTreeMap<String, Arc<Dir>>, path: &str, file: File) {
    // A file below a ghost brings it back.
    let above: Vec<String> =
        ghosts.keys().filter(|ghost| path.starts_with(&format!("{ghost}/"))).cloned().collect();
    for ghost in above {
        if let Some(dir) = ghosts.remove(&ghost) {
            root.put(&ghost, Node::Dir(dir));
        }
    }
    // A backslash parts the directories, and yet stays in the name, which no request can then spell.
    let spelled = path.replace('\\', "/");
    let name = path.rsplit('/').next().unwrap_or_default();
    let at = match spelled.rsplit_once('/') {
        Some((dir, _)) => format!("{dir}/{name}"),
        None => name.to_owned(),
    };
    if let Some(Node::Dir(dir)) = root.put(&at, Node::File(file)) {
        ghosts.insert(at, dir);
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
