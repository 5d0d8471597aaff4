use std::io::Read;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::content::{OpenError, RootDir};
use crate::path::LocalPath;

/// The file in a folder that may leave more of it out.
pub(super) const IGNORE_FILE: &str = ".oxenignore";
const IGNORE_FILE_MAX: u64 = 1024 * 1024;

/// Which paths of a folder count: patterns with gitignore's meaning.
///
/// A path inside an excluded directory is excluded whatever stands after it, as in git.
#[derive(Debug, Clone)]
pub struct Filter {
    exclude: Gitignore,
    include: Option<Gitignore>,
}

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the pattern \"{pattern}\" cannot be read: {reason}")]
pub struct FilterError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a folder's `.oxenignore` cannot be used. What it would leave out must not be pushed, so nothing is.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreFileError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] OpenError),
    /// It is not text.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is larger than 1 MiB.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// A line of it is no pattern.
    #[error(transparent)]
    Pattern(#[from] FilterError),
}

impl Filter {
    /// `exclude` in order, the last match decides and `!` takes back; then the lines of the folder's `.oxenignore`,
    /// which may take back too. With `include`, only what one of its patterns matches counts.
    ///
    /// # Errors
    /// The first pattern that cannot be read.
    pub fn new<'a>(
        exclude: impl IntoIterator<Item = &'a str>,
        include: impl IntoIterator<Item = &'a str>,
        oxenignore: &'a str,
    ) -> Result<Self, FilterError> {
        let exclude = build(exclude.into_iter().chain(oxenignore.lines()))?;
        let include = build(include)?;
        Ok(Self { exclude, include: (!include.is_empty()).then_some(include) })
    }

    /// The same with the `.oxenignore` that the folder has by now, if it has one.
    ///
    /// # Errors
    /// It is there and cannot be used.
    pub fn of_folder(
        exclude: &[String],
        include: &[String],
        root: &RootDir,
    ) -> Result<Self, IgnoreFileError> {
        let mut ignore = String::new();
        match root.open_file(&LocalPath::root().join(IGNORE_FILE.as_ref())) {
            Ok(opened) if opened.signature.size > IGNORE_FILE_MAX => return Err(IgnoreFileError::TooLarge),
            Ok(opened) => {
                opened.file.take(IGNORE_FILE_MAX).read_to_string(&mut ignore)?;
            }
            Err(OpenError::Gone) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self::new(exclude.iter().map(String::as_str), include.iter().map(String::as_str), &ignore)?)
    }

    /// Whether the directory, and so all below it, is left out.
    pub fn excludes_dir(&self, dir: &LocalPath) -> bool {
        self.excluded(dir, true)
    }

    /// Whether the file is left out.
    pub fn excludes_file(&self, file: &LocalPath) -> bool {
        self.excluded(file, false)
            || self.include.as_ref().is_some_and(|include| {
                !include.matched_path_or_any_parents(file.as_path(), false).is_ignore()
            })
    }

    fn excluded(&self, path: &LocalPath, is_dir: bool) -> bool {
        if path.is_root() {
            return false;
        }
        let whole = path.as_path();
        let mut above: Vec<&Path> = whole.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        above.reverse();
        above.into_iter().any(|dir| self.exclude.matched(dir, true).is_ignore())
            || self.exclude.matched(whole, is_dir).is_ignore()
    }
}

fn build<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Gitignore, FilterError> {
    let failed = |pattern: &str, error: ignore::Error| FilterError {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    };
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| failed(pattern, error))?;
    }
    builder.build().map_err(|error| failed("", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let filter = Filter::new(["*.tmp", "/top", "cache/"], [], "!keep.tmp\n# a comment\n").unwrap();
        for left_out in ["a.tmp", "d/a.tmp", "top", "cache/x", "d/cache/x/y"] {
            assert!(filter.excludes_file(&local(left_out)), "{left_out}");
        }
        for taken in ["keep.tmp", "d/top", "cache", "a.tmpx"] {
            assert!(!filter.excludes_file(&local(taken)), "{taken}");
        }
        assert!(filter.excludes_dir(&local("d/cache")));
        assert!(!filter.excludes_dir(&LocalPath::root()));
    }

    #[test]
    fn nothing_comes_back_from_inside_an_excluded_directory() {
        let filter = Filter::new(["out", "!out/keep"], [], "").unwrap();
        assert!(filter.excludes_file(&local("out/keep")));
    }

    #[test]
    fn with_includes_only_they_count() {
        let filter = Filter::new(["*.part"], ["*.tif", "/raw/"], "").unwrap();
        assert!(!filter.excludes_file(&local("d/a.tif")));
        assert!(!filter.excludes_file(&local("raw/d/a.bin")));
        assert!(filter.excludes_file(&local("d/a.bin")));
        assert!(filter.excludes_file(&local("raw/a.part")));
        assert!(!filter.excludes_dir(&local("d")), "a directory is entered for what may lie in it");
    }

    #[test]
    fn an_ignore_file_counts_or_stops_everything() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let filter = || Filter::of_folder(&["*.tmp".to_owned()], &[], &root);
        assert!(!filter().unwrap().excludes_file(&local("secret")));
        std::fs::write(dir.path().join(IGNORE_FILE), "secret\n").unwrap();
        assert!(filter().unwrap().excludes_file(&local("secret")));
        std::fs::write(dir.path().join(IGNORE_FILE), "[z-a]\n").unwrap();
        assert!(matches!(filter(), Err(IgnoreFileError::Pattern(_))));
        std::fs::write(dir.path().join(IGNORE_FILE), b"\xff").unwrap();
        assert!(matches!(filter(), Err(IgnoreFileError::Read(_))));
        std::fs::remove_file(dir.path().join(IGNORE_FILE)).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join(IGNORE_FILE)).unwrap();
        assert!(matches!(filter(), Err(IgnoreFileError::Unreadable(_))), "it is not silently left out");
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named() {
        let error = Filter::new(["a", "[z-a]"], [], "").unwrap_err();
        assert_eq!(error.pattern, "[z-a]");
    }
}
