//! What no single folder can show: two that get in each other's way.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::Folder;
use super::problem::Finding;
use super::raw::RawFolder;
use crate::path::printable;

/// A folder and its place in the file.
pub(super) struct Placed<'r> {
    pub(super) folder: Folder,
    pub(super) raw: &'r RawFolder,
}

impl Placed<'_> {
    /// Where to point when its target is in question: its own `remote_dir`, else its header.
    fn target_at(&self) -> Range<usize> {
        self.raw.settings.remote_dir.as_ref().map_or(self.raw.at.clone(), Spanned::span)
    }

    pub(super) fn path_at(&self) -> Range<usize> {
        self.raw.path.as_ref().map_or(self.raw.at.clone(), Spanned::span)
    }
}

/// Notes folders that could write one path of one branch: each would take the other's files for strange ones.
/// Each folder is compared with those before it, and its first clash is noted.
pub(super) fn note_clashes(folders: &[Placed<'_>], findings: &mut Vec<Finding>) {
    for (index, later) in folders.iter().enumerate() {
        let Some(earlier) = folders[..index].iter().find(|earlier| overlap(&earlier.folder, &later.folder))
        else {
            continue;
        };
        let (a, b) = (&earlier.folder, &later.folder);
        let target = format!("{} on branch {}", b.repo, b.branch);
        let (a_dir, b_dir) = (a.layout.fixed_dir(), b.layout.fixed_dir());
        let finding = if a_dir == b_dir {
            let same_folder = a.path == b.path;
            let what = if same_folder { "this folder is there twice" } else { "two folders go to one place" };
            let place = if b_dir.is_root() {
                "the root of".to_owned()
            } else {
                format!("{} of", printable(b_dir.as_str()))
            };
            let help = if same_folder {
                "remove one of the two".to_owned()
            } else {
                "give each a `remote_dir` of its own".to_owned()
            };
            Finding::new(later.target_at(), format!("{what}: {place} {target}")).help(help)
        } else {
            Finding::new(later.target_at(), format!("one folder's `remote_dir` lies in another's: {target}"))
                .help("give them directories of which none holds the other, such as \"rig/a\" and \"rig/b\"")
        };
        findings.push(finding.other(earlier.target_at(), "the other folder").of_absence());
    }
}

fn overlap(a: &Folder, b: &Folder) -> bool {
    let (a_dir, b_dir) = (a.layout.fixed_dir(), b.layout.fixed_dir());
    a.server.url == b.server.url
        && a.repo == b.repo
        && a.branch == b.branch
        && (a_dir.starts_with(b_dir) || b_dir.starts_with(a_dir))
}

/// Notes a state directory that is watched: each commit would change it and so ask for the next commit.
pub(super) fn note_state_dir(
    state_dir: &Path,
    written: Option<&Spanned<String>>,
    folders: &[Placed<'_>],
    findings: &mut Vec<Finding>,
) {
    for placed in folders.iter().filter(|placed| state_dir.starts_with(&placed.folder.path)) {
        let message = "the state directory lies in a watched folder";
        let finding = match written {
            Some(value) => Finding::new(value.span(), message)
                .other(placed.path_at(), "this folder")
                .help("choose a `state_dir` outside of all watched folders"),
            None => Finding::new(placed.path_at(), message)
                .label(format!("holds {}", printable(state_dir)))
                .help("watch a narrower folder, or set `state_dir` to a place outside of it"),
        };
        findings.push(finding.of_absence());
    }
}
