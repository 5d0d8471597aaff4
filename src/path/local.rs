use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::printable;

/// A path relative to a watched folder, as the kernel spells it.
///
/// Invariant: only ordinary segments, joined by one `/` each; no root, `.`, `..` or trailing slash. The empty
/// path is the folder itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LocalPath(PathBuf);

impl LocalPath {
    /// The folder itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes `path` if all its segments are ordinary names.
    pub fn new(path: &Path) -> Option<Self> {
        path.components()
            .map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect::<Option<PathBuf>>()
            .map(Self)
    }

    /// `path` as seen from `root`, if it lies at or below it.
    pub fn below(root: &Path, path: &Path) -> Option<Self> {
        Self::new(path.strip_prefix(root).ok()?)
    }

    /// The inverse of [`LocalPath::as_bytes`]; `None` for bytes that this type never writes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let path = Self::new(Path::new(OsStr::from_bytes(bytes)))?;
        (path.as_bytes() == bytes).then_some(path)
    }

    /// The bytes of the whole path, for storing.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// The path as the standard library knows it, still relative.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the folder itself.
    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// The directory that holds this path; `None` for the folder itself.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_path_buf()))
    }

    /// The last segment; empty for the folder itself.
    pub fn name(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    /// This path with one more segment.
    pub fn join(&self, name: &OsStr) -> Self {
        let mut bytes = Vec::with_capacity(self.as_bytes().len() + 1 + name.len());
        bytes.extend_from_slice(self.as_bytes());
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self(PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &LocalPath) -> bool {
        self.0.starts_with(&ancestor.0)
    }

    /// The absolute path below `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_path_buf() } else { root.join(&self.0) }
    }
}

/// The entries of `map` at `dir` and below it, in their order: what lies below a path comes right behind it, since paths
/// are compared by segments.
pub fn at_or_below<'a, V>(
    map: &'a BTreeMap<LocalPath, V>,
    dir: &LocalPath,
) -> impl Iterator<Item = (&'a LocalPath, &'a V)> + use<'a, V> {
    let above = dir.clone();
    map.range(dir..).take_while(move |(path, _)| path.starts_with(&above))
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.0.as_os_str()))
    }
}

impl fmt::Debug for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_ordinary_segments_pass() {
        for bad in ["..", "a/../b", "/a", "."] {
            assert!(LocalPath::new(Path::new(bad)).is_none(), "{bad}");
        }
        assert_eq!(LocalPath::new(Path::new("a//b/")).unwrap().as_bytes(), b"a/b");
        assert!(LocalPath::new(Path::new("")).unwrap().is_root());
    }

    proptest! {
        #[test]
        fn what_is_at_or_below_a_path_is_found_and_nothing_else(
            paths in prop::collection::btree_set("[ab.-]{1,2}(/[ab.-]{1,2}){0,3}", 0..40),
            dir in "[ab-]{0,2}(/[ab]{1,2})?",
        ) {
            let local = |path: &String| LocalPath::new(Path::new(path));
            let map: BTreeMap<_, _> = paths.iter().filter_map(local).map(|path| (path, ())).collect();
            let Some(dir) = local(&dir) else { return Ok(()) };
            let found: Vec<_> = at_or_below(&map, &dir).map(|(path, ())| path).collect();
            let expected: Vec<_> = map.keys().filter(|path| path.starts_with(&dir)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn bytes_survive_storing(segments in prop::collection::vec("[^/\0]{1,8}", 0..5)) {
            prop_assume!(segments.iter().all(|s| s != "." && s != ".."));
            let path = segments.iter().fold(LocalPath::root(), |path, s| path.join(OsStr::new(s)));
            prop_assert_eq!(LocalPath::from_bytes(path.as_bytes()), Some(path.clone()));
            if let Some(parent) = path.parent() {
                prop_assert_eq!(parent.join(path.name()), path);
            }
        }
    }
}
