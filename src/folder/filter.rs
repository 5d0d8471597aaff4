use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::path::LocalPath;

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
#[error("the pattern {pattern:?} cannot be read: {reason}")]
pub struct FilterError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
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
    fn a_pattern_that_cannot_be_read_is_named() {
        let error = Filter::new(["a", "[z-a]"], [], "").unwrap_err();
        assert_eq!(error.pattern, "[z-a]");
    }
}
