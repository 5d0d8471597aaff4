//! What stands in a folder, or in a commit, and how two of these differ.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxen_sync::path::{LocalPath, Place};
use walkdir::WalkDir;
use xxhash_rust::xxh3::Xxh3;

/// Size and XXH3-128 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) xxh3: u128,
}

/// Every file below a directory by its path.
pub(crate) type Tree = BTreeMap<String, Content>;

/// What the server itself says of all files of a commit together: their bytes, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) files: Option<u64>,
}

/// A directory of a commit with all below it. What did not change since the commit before is the same one.
#[derive(Debug)]
pub(super) struct Dir {
    /// Its hash and the last commit that changed it: with both the same, all below is.
    pub(super) version: (String, String),
    pub(super) files: BTreeMap<String, Content>,
    pub(super) dirs: BTreeMap<String, Arc<Dir>>,
    /// Of all files below.
    pub(super) sum: Sum,
}

impl Sum {
    /// Whether it can be the same as `counted`, which counts the files.
    pub(super) fn agrees(self, counted: Self) -> bool {
        self.bytes == counted.bytes && self.files.is_none_or(|files| Some(files) == counted.files)
    }
}

impl Dir {
    pub(super) fn new(
        version: (String, String),
        files: BTreeMap<String, Content>,
        dirs: BTreeMap<String, Arc<Self>>,
    ) -> Self {
        let mut bytes = files.values().map(|content| content.size).sum();
        let mut count = files.len() as u64;
        for dir in dirs.values() {
            bytes += dir.sum.bytes;
            count += dir.sum.files.unwrap_or(0);
        }
        Self { version, files, dirs, sum: Sum { bytes, files: Some(count) } }
    }

    /// Its files below `path` that `before` does not have in the same version of a directory.
    pub(super) fn files_not_in(&self, before: Option<&Self>, path: &str, found: &mut Vec<(String, Content)>) {
        found.extend(self.files.iter().map(|(name, content)| (join(path, name), *content)));
        for (name, dir) in &self.dirs {
            let before = before.and_then(|before| before.dirs.get(name));
            if !before.is_some_and(|before| Arc::ptr_eq(before, dir)) {
                dir.files_not_in(before.map(AsRef::as_ref), &join(path, name), found);
            }
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.files == other.files
            && self.dirs.len() == other.dirs.len()
            && self.dirs.iter().zip(&other.dirs).all(|((name, dir), (other_name, other))| {
                name == other_name && (Arc::ptr_eq(dir, other) || dir.is_same(other))
            })
    }
}

pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// Where a file of a folder stands on the branch; one that cannot keeps its own name.
pub(crate) fn on_branch(place: &Place, path: &str) -> String {
    let local = LocalPath::new(path.as_ref()).expect("it is a path below the folder");
    place.path_of(&local).map_or_else(|_| path.to_owned(), |path| path.as_str().to_owned())
}

/// Every regular file of a folder that is not left out, where it stands on the branch.
///
/// # Panics
/// Where a name that is not left out is not UTF-8: it cannot be on a branch.
pub(crate) fn folder_tree(folder: &Path, place: &Place, leaves_out: impl Fn(&[u8]) -> bool) -> Tree {
    let mut tree = Tree::new();
    for entry in WalkDir::new(folder) {
        let entry = entry.expect("the folder can be walked");
        let path = entry.path().strip_prefix(folder).expect("it lies below").as_os_str();
        if !entry.file_type().is_file() || leaves_out(path.as_bytes()) {
            continue;
        }
        let path = path.to_str().unwrap_or_else(|| panic!("{path:?} is not UTF-8 and is not left out"));
        let path = on_branch(place, path);
        tree.insert(path, content_of(entry.path()));
    }
    tree
}

fn content_of(file: &Path) -> Content {
    let mut file = File::open(file).expect("the file can be opened");
    let (mut hash, mut size, mut chunk) = (Xxh3::new(), 0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut chunk).expect("the file can be read") {
            0 => return Content { size, xxh3: hash.digest128() },
            len => {
                hash.update(&chunk[..len]);
                size += len as u64;
            }
        }
    }
}

/// What keeps `found` from being `wanted`, in a few lines; `None` where nothing does. Files besides the wanted ones
/// count only where `exact`.
pub(crate) fn differences(wanted: &Tree, found: &Tree, exact: bool) -> Option<String> {
    let missing =
        wanted.keys().filter(|path| !found.contains_key(*path)).map(|path| format!("missing {path:?}"));
    let other = wanted.iter().filter_map(|(path, content)| {
        let by = found.get(path).filter(|found| *found != content)?;
        Some(format!("other content at {path:?}: {} bytes there, {} here", by.size, content.size))
    });
    let extra = found
        .keys()
        .filter(|path| exact && !wanted.contains_key(*path))
        .map(|path| format!("extra {path:?}"));
    let all: Vec<String> = missing.chain(other).chain(extra).collect();
    let shown: Vec<&str> = all.iter().take(20).map(String::as_str).collect();
    (!all.is_empty()).then(|| format!("{} paths differ:\n  {}", all.len(), shown.join("\n  ")))
}
