use std::fmt;
use std::sync::Arc;

use super::{LocalPath, printable};

/// The path of a file or directory on a branch, relative to the repository's root.
///
/// Invariant: UTF-8; segments that are not empty, `.` or `..`, joined by one `/`; no backslash and no NUL; not
/// inside `.oxen` or what the server takes for it ([`is_reserved_name`]). The empty path is the root. oxen-server 0.65.2 stores such a path as it is written, and
/// would store a backslash as a directory separator.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<str>);

/// Why a file cannot stand on a branch under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Oxen's paths are UTF-8.
    #[error("its name is not UTF-8, and Oxen stores only UTF-8 names; rename the file")]
    NotUtf8,
    /// The server reads a backslash as `/`.
    #[error(
        "its name holds a backslash, which the Oxen server would store as a directory separator; rename the file"
    )]
    Backslash,
    /// The server keeps `.oxen` for itself.
    #[error("the name .oxen, in any spelling, is reserved by Oxen; rename the file or its directory")]
    Reserved,
    /// A segment is empty, `.` or `..`, or holds a NUL.
    #[error("it is not a plain relative path")]
    NotPlain,
}

impl RepoPath {
    /// The repository's root.
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Checks `path` against the invariant. Slashes at the ends are forgiven.
    ///
    /// # Errors
    /// Which part of the invariant does not hold.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        let path = path.trim_matches('/');
        if path.contains('\\') {
            return Err(Refusal::Backslash);
        }
        if path.is_empty() {
            return Ok(Self::root());
        }
        for segment in path.split('/') {
            if segment.is_empty() || segment == "." || segment == ".." || segment.contains('\0') {
                return Err(Refusal::NotPlain);
            }
            if is_reserved_name(segment) {
                return Err(Refusal::Reserved);
            }
        }
        Ok(Self(Arc::from(path)))
    }

    /// Where `file` of a folder stands on the branch when the folder is put at `remote_dir`.
    ///
    /// # Errors
    /// Why the file cannot stand there under its own name.
    pub fn for_file(remote_dir: &RepoPath, file: &LocalPath) -> Result<Self, Refusal> {
        let name = std::str::from_utf8(file.as_bytes()).map_err(|_| Refusal::NotUtf8)?;
        if remote_dir.is_root() { Self::parse(name) } else { Self::parse(&format!("{remote_dir}/{name}")) }
    }

    /// The path as it goes into a request.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the repository's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory part, empty for an entry of the root.
    pub fn dir(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// How many names it is made of.
    pub fn segments(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('/').count() }
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &RepoPath) -> bool {
        ancestor.is_root()
            || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The paths of all directories above this one, the nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            (rest, _) = rest.rsplit_once('/')?;
            Some(rest)
        })
    }
}

/// The exact path, for requests. Use [`printable`] where a person reads it.
impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoPath({})", printable(&*self.0))
    }
}

/// Whether the server keeps a file or directory of this name for itself, at any depth.
///
/// oxen-server 0.65.2 refuses `.oxen` in any case, with trailing dots and spaces, with `:` and anything behind
/// it, and the short form `OXEN~1` that Windows would give it.
pub fn is_reserved_name(name: &str) -> bool {
    let name = name.split_once(':').map_or(name, |(name, _)| name).trim_end_matches(['.', ' ']);
    let short = name
        .get(..5)
        .filter(|stem| stem.eq_ignore_ascii_case("oxen~"))
        .and_then(|_| name.get(5..))
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    short || name.eq_ignore_ascii_case(".oxen")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_name_crosses_unchanged_or_not_at_all() {
        let dir = RepoPath::parse("rig/7").unwrap();
        let file = |name: &[u8]| LocalPath::root().join(OsStr::from_bytes(name));
        for name in ["a b", "12:30:05.csv", "a?b%#+;\"'", "né", "ne\u{301}", "x\ny", "dot.", " ", ".oxen2"] {
            let path = RepoPath::for_file(&dir, &file(name.as_bytes())).unwrap();
            assert_eq!(path.as_str(), format!("rig/7/{name}"));
            assert_eq!((path.dir(), path.name()), ("rig/7", name));
        }
        assert_eq!(RepoPath::for_file(&dir, &file(b"\xff")), Err(Refusal::NotUtf8));
        assert_eq!(RepoPath::for_file(&dir, &file(b"a\\b")), Err(Refusal::Backslash));
        assert_eq!(RepoPath::for_file(&dir, &file(b".Oxen")), Err(Refusal::Reserved));
    }

    #[test]
    fn only_plain_paths_parse() {
        for bad in ["a//b", "../a", "a/./b", "a\0b"] {
            assert_eq!(RepoPath::parse(bad), Err(Refusal::NotPlain), "{bad:?}");
        }
        assert_eq!(RepoPath::parse("/a/b/").unwrap().as_str(), "a/b");
        assert!(RepoPath::parse("").unwrap().is_root());
    }

    #[test]
    fn ancestors_come_nearest_first() {
        let path = RepoPath::parse("a/b/c").unwrap();
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["a/b", "a"]);
        assert!(path.starts_with(&RepoPath::parse("a/b").unwrap()));
        assert!(!path.starts_with(&RepoPath::parse("a/bc").unwrap()));
    }

    #[test]
    fn every_spelling_of_the_hidden_directory_is_reserved() {
        for name in [".oxen", ".OXEN", ".Oxen. .", ".oxen:stream", "OXEN~1", "oxen~42"] {
            assert!(is_reserved_name(name), "{name:?}");
        }
        for name in ["oxen", ".oxenignore", ".oxen2", "oxen~", "oxen~a", "x.oxen", "größe", "é:oxen~1"] {
            assert!(!is_reserved_name(name), "{name:?}");
        }
    }
}
