use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

use super::Target;
use super::prove::{Found, look_up};
use super::pusher::{Failure, Pusher};
use super::worker;
use crate::oxen::CommitInfo;
use crate::path::{RepoPath, printable};
use crate::state::{Change, ChangeKind, Presence};

const PAGE_SIZE: usize = 1_000;
/// Empty directories looked through for a file.
const EMPTY_DIRS_MAX: usize = 10_000;
/// With more directories than this above them, paths are looked up from the top down.
const DIRS_ASKED_DIRECTLY: usize = 8;

impl Pusher {
    /// Sees to it that no file of `changes` is put where a directory stands. oxen-server 0.65.2 would say yes, list the
    /// file, and be unable to hand it out, for an empty directory too. An empty directory is cleared away; a file that
    /// cannot have its place goes into quarantine. `is_new` says which paths the branch is not known to hold a file
    /// at. Returns what is left to be sent.
    pub(super) async fn clear_the_way(
        &self,
        changes: Vec<Change>,
        is_new: &[bool],
    ) -> Result<Vec<Change>, Failure> {
        let mut indices = Vec::new();
        let mut paths = Vec::new();
        for (index, (change, is_new)) in changes.iter().zip(is_new).enumerate() {
            if *is_new
                && matches!(change.kind, ChangeKind::Put { .. })
                && let Some(path) = self.path_of(change)?
            {
                indices.push(index);
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Ok(changes);
        }
        let head = self.target.head().await?;
        let found = self.look_up_new(&head, &paths).await?;
        let folder = self.options.folder;
        let is_any_dir = found.iter().any(|(_, entry)| entry.as_ref().is_some_and(|entry| entry.is_dir));
        let is_holding =
            is_any_dir && self.options.mirror && self.blocking(move |state| state.is_holding(folder)).await?;
        let mut blocked = vec![false; changes.len()];
        for (at, entry) in found {
            let (Some(index), Some(path)) = (indices.get(at), paths.get(at)) else { continue };
            let Some(change) = changes.get(*index).filter(|_| entry.is_some_and(|entry| entry.is_dir)) else {
                continue;
            };
            let Some(file) = self.a_file_below(&head, path).await? else {
                self.remove_directory(path).await?;
                continue;
            };
            let known = if self.options.mirror { self.known(&file)? } else { None };
            let is_held = is_holding && known == Some(Presence::Waiting);
            if known.is_some() && !is_held {
                // Its removal is on the way; until then the file waits.
                self.drop_change(&change.path, &"the directory in its place is not cleared yet");
                if let Some(slot) = blocked.get_mut(*index) {
                    *slot = true;
                }
                continue;
            }
            let file = printable(file.as_str());
            let reason = if is_held {
                format!(
                    "the branch has a directory of this name with {file} in it, whose removal is held; to let it go: {}",
                    self.options.release_command
                )
            } else {
                let why =
                    if self.options.mirror { "is not ours to remove" } else { "on_delete = \"keep\" keeps" };
                format!(
                    "the branch has a directory of this name with {file} in it, which {why}; rename the file, or remove \
                     the directory on the branch"
                )
            };
            self.quarantine(change, &reason).await?;
            if let Some(slot) = blocked.get_mut(*index) {
                *slot = true;
            }
        }
        Ok(changes
            .into_iter()
            .zip(blocked)
            .filter(|(_, blocked)| !blocked)
            .map(|(change, _)| change)
            .collect())
    }

    /// What stands at paths that are mostly new. Where they lie in many directories, it is asked from the top down, and
    /// nothing is asked below what is not there: each question costs oxen-server 0.65.2 the more, the more directories
    /// the branch has.
    pub(super) async fn look_up_new(&self, head: &str, paths: &[RepoPath]) -> Result<Vec<Found>, Failure> {
        let Target { client, repo, .. } = &self.target;
        let concurrency = self.options.concurrency;
        let above: BTreeSet<&str> = paths.iter().flat_map(RepoPath::ancestors).collect();
        if above.len() <= DIRS_ASKED_DIRECTLY {
            return Ok(look_up(client, repo, head, paths, concurrency).await?);
        }
        let mut by_depth = BTreeMap::<usize, Vec<RepoPath>>::new();
        for dir in above.into_iter().filter_map(|dir| RepoPath::parse(dir).ok()) {
            by_depth.entry(dir.ancestors().count()).or_default().push(dir);
        }
        let mut there = HashSet::from([String::new()]);
        for mut dirs in by_depth.into_values() {
            dirs.retain(|dir| there.contains(dir.dir()));
            for (at, entry) in look_up(client, repo, head, &dirs, concurrency).await? {
                if let Some(dir) = dirs.get(at).filter(|_| entry.is_some_and(|entry| entry.is_dir)) {
                    there.insert(dir.as_str().to_owned());
                }
            }
        }
        let (indices, known): (Vec<usize>, Vec<RepoPath>) =
            paths.iter().cloned().enumerate().filter(|(_, path)| there.contains(path.dir())).unzip();
        let found = look_up(client, repo, head, &known, concurrency).await?;
        Ok(found.into_iter().filter_map(|(at, entry)| Some((*indices.get(at)?, entry))).collect())
    }

    /// What became of a file of the branch that was in our folder and is not for the branch to keep; `None` for others.
    fn known(&self, file: &RepoPath) -> Result<Option<Presence>, Failure> {
        for (place, local) in self.options.places.files_at(file)? {
            let row = self.state.file(self.options.folder, &local)?;
            if let Some(row) = row.filter(|row| row.known.signature.is_some() && row.place == place) {
                return Ok(Some(row.known.presence).filter(|presence| *presence != Presence::Kept));
            }
        }
        Ok(None)
    }

    /// Some file that lies below the directory on the branch, if any does.
    async fn a_file_below(&self, head: &str, dir: &RepoPath) -> Result<Option<RepoPath>, Failure> {
        let Target { client, repo, .. } = &self.target;
        let mut dirs = vec![dir.clone()];
        let mut looked_at = 0;
        while let Some(dir) = dirs.pop() {
            looked_at += 1;
            if looked_at > EMPTY_DIRS_MAX {
                // Nothing is removed that has no end.
                return Ok(Some(dir));
            }
            let mut page = 1;
            while let Some(listed) = client.list_dir(repo, head, &dir, page, PAGE_SIZE).await? {
                for entry in &listed.entries {
                    match RepoPath::parse(&format!("{dir}/{}", entry.name)) {
                        Ok(below) if entry.is_dir => dirs.push(below),
                        Ok(below) => return Ok(Some(below)),
                        // Nothing is removed that is not understood.
                        Err(_) => return Ok(Some(dir)),
                    }
                }
                if page >= listed.total_pages || listed.entries.is_empty() {
                    break;
                }
                page += 1;
            }
        }
        Ok(None)
    }

    /// Removes an empty directory from the branch: a file put in its place by the same commit would be lost.
    async fn remove_directory(&self, dir: &RepoPath) -> Result<(), Failure> {
        let message = format!("remove the empty directory {}", printable(dir.as_str()));
        self.remove_paths(&[dir.as_str()], message).await
    }

    /// Removes files from the branch where they stand, before they are put again.
    pub(super) async fn remove_files(&self, paths: &[RepoPath]) -> Result<(), Failure> {
        let Target { client, repo, .. } = &self.target;
        if paths.is_empty() {
            return Ok(());
        }
        let head = self.target.head().await?;
        let found = look_up(client, repo, &head, paths, self.options.concurrency).await?;
        let standing: Vec<_> = found
            .iter()
            .filter(|(_, entry)| entry.as_ref().is_some_and(|entry| !entry.is_dir))
            .filter_map(|(at, _)| paths.get(*at).map(RepoPath::as_str))
            .collect();
        if standing.is_empty() {
            return Ok(());
        }
        let message = format!("make way for {} files that the server took for unchanged", standing.len());
        self.remove_paths(&standing, message).await
    }

    /// A commit of its own that removes paths. Repeating it does no harm, so it needs no journal.
    async fn remove_paths(&self, paths: &[&str], message: String) -> Result<(), Failure> {
        let Target { client, repo, branch, author, .. } = &self.target;
        let workspace = format!("{}-clear-{:x}", self.workspace_prefix(), worker::now_ms());
        self.clearings.fetch_add(1, Ordering::Relaxed);
        let info = CommitInfo { message, name: author.name.clone(), email: author.email.clone() };
        let removing = async {
            client.open_workspace(repo, &workspace, branch).await?;
            client.stage_removals(repo, &workspace, paths).await?;
            client.merge_workspace(repo, &workspace, branch, &info).await
        };
        match removing.await {
            Ok(commit) => self.advance(&commit).await,
            Err(error) => {
                // The next try sweeps it away.
                self.target.doubt();
                Err(error.into())
            }
        }
    }
}
