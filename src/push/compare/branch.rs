//! From the branch to the folder: what the branch holds at the folder's place, and the folder has not.

use std::sync::Arc;

use super::super::survey::path_below;
use super::folder::{has_file, opened};
use super::{CompareError, Compared, Comparison, DifferenceKind, blocking};
use crate::content::RootDir;
use crate::folder::Filter;
use crate::path::{LocalPath, RepoPath};
use crate::state::Presence;

const PAGE_SIZE: usize = 1_000;
/// A tree that takes more requests to list has no end.
const LIST_REQUESTS_MAX: usize = 1_000_000;

/// What becomes of a file that the branch alone holds.
enum Alone {
    Kept,
    Other,
    Extra(LocalPath, &'static str),
}

pub(super) async fn compare(
    comparison: &Comparison,
    head: &str,
    compared: &mut Compared,
    progress: &impl Fn(&Compared),
) -> Result<(), CompareError> {
    let Comparison { client, repo, .. } = comparison;
    let folder = {
        let comparison = comparison.clone();
        blocking(move || opened(&comparison)).await?
    };
    let mut dirs = vec![comparison.places.layout().fixed_dir().clone()];
    let mut requests = 0;
    while let Some(dir) = dirs.pop() {
        for page in 1.. {
            requests += 1;
            if requests > LIST_REQUESTS_MAX {
                return Err(CompareError::Inside("the server's list of the branch does not end".to_owned()));
            }
            let listed = client.list_dir(repo, head, &dir, page, PAGE_SIZE).await?;
            let Some(listed) = listed.filter(|listed| !listed.entries.is_empty()) else { break };
            let mut files = Vec::new();
            for entry in &listed.entries {
                match path_below(&dir, &entry.name) {
                    Some(path) if entry.is_dir => dirs.push(path),
                    Some(path) => files.push(path),
                    // No file of ours could have this name.
                    None => compared.others += 1,
                }
            }
            let (comparison, folder) = (comparison.clone(), Arc::clone(&folder));
            let alone = blocking(move || alone(&comparison, &folder, files)).await?;
            for file in alone {
                match file {
                    Alone::Kept => compared.kept += 1,
                    Alone::Other => compared.others += 1,
                    Alone::Extra(path, reason) => compared.differs(path, DifferenceKind::Extra, reason),
                }
            }
            progress(compared);
            if page >= listed.total_pages {
                break;
            }
        }
    }
    Ok(())
}

/// Of the branch's `files`, those that the folder has not.
fn alone(
    comparison: &Comparison,
    folder: &(RootDir, Filter),
    files: Vec<RepoPath>,
) -> Result<Vec<Alone>, CompareError> {
    let (root, filter) = folder;
    let mut alone = Vec::new();
    for file in files {
        let mut found = Some(Alone::Other);
        for (place, local) in comparison.places.files_at(&file)? {
            let row = comparison.state.file(comparison.folder, &local)?;
            let is_its_place = row.as_ref().is_none_or(|row| row.place == place);
            if is_its_place && has_file(root, filter, &local) {
                // It was compared from the other side.
                found = None;
                break;
            }
            let Some(row) = row.filter(|row| row.place == place && row.known.signature.is_some()) else {
                continue;
            };
            found = Some(match row.known.presence {
                _ if filter.excludes_file(&local) => Alone::Kept,
                Presence::Kept => Alone::Kept,
                Presence::Here if !comparison.mirror => Alone::Kept,
                Presence::Waiting => Alone::Extra(
                    local,
                    "it is gone from the folder, and its removal waits: oxen-sync status says why",
                ),
                Presence::Released => {
                    Alone::Extra(local, "it is gone from the folder, and its removal is on its way")
                }
                Presence::Here => Alone::Extra(
                    local,
                    "it is gone from the folder, and nobody has noticed; have everything looked at: oxen-sync rescan",
                ),
            });
        }
        alone.extend(found);
    }
    Ok(alone)
}
