use std::sync::Arc;

use super::Target;
use super::pusher::{Failure, Pusher};
use super::verdict::Verdict;
use crate::folder::Hint;
use crate::oxen::Commit;
use crate::path::{LocalPath, RepoPath, printable};
use crate::state::{Listed, Listing};

const PAGE_SIZE: usize = 2_000;
const HISTORY_PAGE_SIZE: usize = 500;
/// Further back nobody looks for a commit of ours: the branch is listed instead.
const HISTORY_PAGES_MAX: usize = 10_000;
/// A tree that takes more requests to list has no end.
const LIST_REQUESTS_MAX: usize = 1_000_000;
/// The names of directories that are still to be listed, together. A tree is listed in depth, so these are few.
const DIRS_LEN_MAX: usize = 64 << 20;
/// No file system of ours holds a longer name, and nobody a longer path: a directory that holds itself ends here.
const NAME_LEN_MAX: usize = 255;
const PATH_LEN_MAX: usize = 16 << 10;

impl Pusher {
    /// Compares the branch with what is known of it, so that what it holds already is not sent again and what it has
    /// lost is.
    ///
    /// The service asks only whether its last commit is in the branch's history: what other writers did since then is
    /// theirs. One shot makes sure of every file, and lists the branch whenever others have written to it.
    pub(super) async fn survey(&self) -> Result<(), Failure> {
        let folder = self.options.folder;
        let known = self.blocking(move |state| state.listing(folder)).await?;
        let head = self.target.head().await?;
        if known.is_whole {
            if known.head.as_ref() == Some(&head) {
                return Ok(());
            }
            if self.options.lasting && self.has_ours(&head, &known).await? {
                return Ok(());
            }
        }
        let knew_files = self.blocking(move |state| Ok(state.summary(folder)?.files > 0)).await?;
        let (files, lost) = self.list(&head).await?;
        let path = printable(&self.options.path);
        if lost > 0 {
            tracing::warn!(
                folder = %path, files = lost,
                "the branch has lost files that it held; what the folder still has of them is pushed again"
            );
        } else if files > 0 {
            tracing::info!(folder = %path, files, "the branch was listed; what it holds already is not sent again");
        }
        // What was compared with the folder before may differ from it now.
        if knew_files {
            self.inbox.add(Hint::Tree(LocalPath::root()));
        }
        Ok(())
    }

    /// Whether our last commit, or the one at which the branch was last listed, is `head` or one before it.
    async fn has_ours(&self, head: &str, known: &Listing) -> Result<bool, Failure> {
        let ours = [&known.last_commit, &known.head];
        let is_ours = |commit: &Commit| ours.iter().any(|ours| ours.as_ref() == Some(&commit.id));
        let Target { client, repo, .. } = &self.target;
        for page in 1..=HISTORY_PAGES_MAX {
            let commits = client.history(repo, head, page, HISTORY_PAGE_SIZE).await?;
            if commits.iter().any(is_ours) {
                return Ok(true);
            }
            if commits.is_empty() {
                break;
            }
        }
        Ok(false)
    }

    /// Lists what the branch holds at the folder's place into the state. Memory holds one page. Returns how many files
    /// there are, and how many are not that were known.
    async fn list(&self, head: &str) -> Result<(usize, usize), Failure> {
        let folder = self.options.folder;
        self.blocking(move |state| state.begin_listing(folder)).await?;
        let Target { client, repo, .. } = &self.target;
        let mut dirs = vec![self.options.places.layout().fixed_dir().clone()];
        let mut files = 0_usize;
        let (mut requests, mut dirs_len) = (0, 0_usize);
        while let Some(dir) = dirs.pop() {
            dirs_len = dirs_len.saturating_sub(dir.as_str().len());
            for page in 1.. {
                requests += 1;
                if requests > LIST_REQUESTS_MAX || dirs_len > DIRS_LEN_MAX {
                    let reason = "the server's list of the branch does not end; look at the server";
                    return Err(Failure::of_surroundings(Verdict::Again, reason));
                }
                let listed = self.tries(|| client.list_dir(repo, head, &dir, page, PAGE_SIZE)).await?;
                let Some(listed) = listed.filter(|listed| !listed.entries.is_empty()) else { break };
                let mut found = Vec::new();
                for entry in &listed.entries {
                    let Some(path) = path_below(&dir, &entry.name) else { continue };
                    match entry.xxh3 {
                        Some(xxh3) if !entry.is_dir => found.push((path, entry.size, xxh3)),
                        _ if entry.is_dir => {
                            dirs_len += path.as_str().len();
                            dirs.push(path);
                        }
                        _ => {}
                    }
                }
                let places = Arc::clone(&self.options.places);
                let taking_in = self.blocking(move |state| {
                    let mut rows = Vec::with_capacity(found.len());
                    for (path, size, xxh3) in found {
                        let files = places.files_at(&path)?;
                        // What no folder of ours can have put there is left out.
                        rows.extend((!files.is_empty()).then_some(Listed { files, size, xxh3 }));
                    }
                    state.list_files(folder, &rows)?;
                    Ok(rows.len())
                });
                let count = taking_in.await?;
                files += count;
                self.status.send_modify(|status| status.listed += count as u64);
                if page >= listed.total_pages {
                    break;
                }
            }
        }
        let head = head.to_owned();
        let lost = self.blocking(move |state| state.end_listing(folder, &head)).await?;
        Ok((files, lost))
    }
}

/// A listed name as a path on the branch; `None` for names that no file of ours could have.
pub(super) fn path_below(dir: &RepoPath, name: &str) -> Option<RepoPath> {
    let is_too_long = name.len() > NAME_LEN_MAX || dir.as_str().len() + name.len() > PATH_LEN_MAX;
    if is_too_long || name.contains('/') {
        return None;
    }
    let path = if dir.is_root() { name.to_owned() } else { format!("{dir}/{name}") };
    RepoPath::parse(&path).ok().filter(|parsed| parsed.as_str() == path)
}
