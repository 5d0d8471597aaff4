use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::oxen::{Client, Entry, Error, RepoName};
use crate::path::RepoPath;
use crate::state::{Change, ChangeKind};

/// What a branch or commit was found to hold of some changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// For each change, whether it stands there: the same size and hash, or nothing where something was removed.
    pub holds: Vec<bool>,
    /// The commit that brought the last of them, if the server tells.
    pub commit_id: Option<String>,
}

impl Proof {
    pub(super) fn is_whole(&self) -> bool {
        self.holds.iter().all(|holds| *holds)
    }
}

/// What stands at a path, by the path's index.
pub(super) type Found = (usize, Option<Entry>);

/// Asked for one by one up to this many in a directory; beyond, the directory is listed, which costs oxen-server 0.65.2
/// as much as four look-ups in it.
const SINGLE_MAX: usize = 3;
const PAGE_SIZE: usize = 2_000;

/// Compares every change with what stands at its path at `revision`, a branch or a commit.
pub(super) async fn prove(
    client: &Client,
    repo: &RepoName,
    revision: &str,
    changes: &[Change],
    paths: &[RepoPath],
    concurrency: usize,
) -> Result<Proof, Error> {
    let found = look_up(client, repo, revision, paths, concurrency).await?;
    let mut proof = Proof { holds: vec![false; changes.len()], commit_id: None };
    for (index, entry) in found {
        let Some(change) = changes.get(index) else { continue };
        let holds = holds(change, entry.as_ref());
        if holds && let Some(commit_id) = entry.and_then(|entry| entry.last_commit_id) {
            proof.commit_id = Some(commit_id);
        }
        if let Some(slot) = proof.holds.get_mut(index) {
            *slot = holds;
        }
    }
    Ok(proof)
}

/// What stands at each of `paths` at `revision`, in any order.
pub(super) async fn look_up(
    client: &Client,
    repo: &RepoName,
    revision: &str,
    paths: &[RepoPath],
    concurrency: usize,
) -> Result<Vec<Found>, Error> {
    let mut by_dir = BTreeMap::<&str, Vec<usize>>::new();
    for (index, path) in paths.iter().enumerate() {
        by_dir.entry(path.dir()).or_default().push(index);
    }
    let lookups: Vec<BoxFuture<'_, Result<Vec<Found>, Error>>> = by_dir
        .into_iter()
        .map(|(dir, indices)| entries(client, repo, revision, dir, indices, paths).boxed())
        .collect();
    let found: Vec<Vec<Found>> = stream::iter(lookups).buffer_unordered(concurrency).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether an entry is what a change makes of its path.
pub(super) fn holds(change: &Change, entry: Option<&Entry>) -> bool {
    match (&change.kind, entry) {
        (ChangeKind::Put { signature, digests, .. }, Some(entry)) => {
            !entry.is_dir && entry.size == signature.size && entry.xxh3 == Some(digests.xxh3)
        }
        (ChangeKind::Put { .. }, None) => false,
        (ChangeKind::Remove, entry) => entry.is_none_or(|entry| entry.is_dir),
    }
}

/// What stands at each of `indices`, all of which lie in `dir`.
async fn entries(
    client: &Client,
    repo: &RepoName,
    revision: &str,
    dir: &str,
    indices: Vec<usize>,
    paths: &[RepoPath],
) -> Result<Vec<Found>, Error> {
    if indices.len() > SINGLE_MAX
        && let Ok(dir) = RepoPath::parse(dir)
    {
        let wanted = indices.iter().filter_map(|index| paths.get(*index)).map(RepoPath::name).collect();
        let mut listed = list(client, repo, revision, &dir, &wanted).await?;
        let mut entry = |index: &usize| paths.get(*index).and_then(|path| listed.remove(path.name()));
        return Ok(indices.iter().map(|index| (*index, entry(index))).collect());
    }
    let lookups: Vec<BoxFuture<'_, Result<Found, Error>>> = indices
        .into_iter()
        .filter_map(|index| {
            let path = paths.get(index)?;
            Some(async move { Ok((index, client.entry(repo, revision, path).await?)) }.boxed())
        })
        .collect();
    stream::iter(lookups).buffered(SINGLE_MAX).try_collect().await
}

/// The entries of `dir` by name, of those that are in `wanted`.
async fn list(
    client: &Client,
    repo: &RepoName,
    revision: &str,
    dir: &RepoPath,
    wanted: &HashSet<&str>,
) -> Result<HashMap<String, Entry>, Error> {
    let mut listed = HashMap::new();
    let mut page = 1;
    loop {
        let answer = client.list_dir(repo, revision, dir, page, PAGE_SIZE).await?;
        let Some(answer) = answer.filter(|answer| !answer.entries.is_empty()) else { break };
        let found = answer.entries.into_iter().filter(|entry| wanted.contains(entry.name.as_str()));
        listed.extend(found.map(|entry| (entry.name.clone(), entry)));
        if page >= answer.total_pages {
            break;
        }
        page += 1;
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Digests, Signature};
    use crate::path::LocalPath;
    use crate::state::PlaceKey;

    #[test]
    fn a_change_is_proved_by_size_and_hash_or_by_absence() {
        let put = Change {
            path: LocalPath::root().join("a".as_ref()),
            place: PlaceKey::default(),
            kind: ChangeKind::Put {
                signature: Signature { size: 3, mtime_ns: 0, ctime_ns: 0, inode: 0 },
                digests: Digests { sha256: Some([0; 32]), xxh3: 7 },
                racy: false,
            },
        };
        let remove = Change { kind: ChangeKind::Remove, ..put.clone() };
        let file = Entry { name: "a".into(), is_dir: false, size: 3, xxh3: Some(7), last_commit_id: None };
        let dir = Entry { is_dir: true, xxh3: None, ..file.clone() };
        assert!(holds(&put, Some(&file)));
        for other in [Entry { size: 4, ..file.clone() }, Entry { xxh3: Some(8), ..file.clone() }, dir.clone()]
        {
            assert!(!holds(&put, Some(&other)));
        }
        assert!(!holds(&put, Some(&Entry { xxh3: None, ..file.clone() })), "no hash, no proof");
        assert!(!holds(&put, None));
        assert!(holds(&remove, None) && holds(&remove, Some(&dir)) && !holds(&remove, Some(&file)));
    }
}
