use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

use crate::content::{OpenError, RootDir, is_apart};
use crate::path::{LocalPath, printable};

/// The file in a folder that may leave more of it out.
pub(super) const IGNORE_FILE: &str = ".oxenignore";
/// Whoever may write into the folder may write this one. Its patterns take some 600 times its size while they are made
/// ready.
const IGNORE_FILE_MAX: u64 = 128 << 10;

/// Which paths of a folder count: patterns with gitignore's meaning.
///
/// A path inside an excluded directory is excluded whatever stands after it, as in git.
#[derive(Debug, Clone)]
pub struct Filter {
    config: Arc<OfConfig>,
    /// Decides where it says anything.
    oxenignore: Option<Arc<Gitignore>>,
}

/// What the config says. Made ready it takes some 100 KiB, and most folders say the same.
#[derive(Debug)]
struct OfConfig {
    exclude_text: Vec<String>,
    include_text: Vec<String>,
    exclude: Gitignore,
    include: Option<Gitignore>,
}

/// Those that are in use.
static OF_CONFIGS: Mutex<Vec<Weak<OfConfig>>> = Mutex::new(Vec::new());

/// What leaves a path out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// A pattern.
    By {
        /// The pattern, printable.
        pattern: String,
        /// Where it stands, such as `exclude in the config`.
        from: String,
        /// The directory that it matches, printable, where it does not match the path itself.
        dir: Option<String>,
    },
    /// None of the patterns of `include` matches.
    NotIncluded,
    /// It is a file that `after_push` is taking off.
    TakingOff,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By { pattern, from, dir: None } => write!(f, "by \"{pattern}\", {from}"),
            Self::By { pattern, from, dir: Some(dir) } => {
                write!(f, "its directory {dir} is, by \"{pattern}\", {from}")
            }
            Self::TakingOff => {
                f.write_str("its name is that of a file which after_push is taking off, by oxen-sync itself")
            }
            Self::NotIncluded => f.write_str("no pattern of include in the config matches it"),
        }
    }
}

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the pattern \"{pattern}\" cannot be read: {reason}")]
pub struct FilterError {
    /// The pattern, printable: whoever may write into the folder may have written it.
    pub pattern: String,
    /// What is wrong with it, printable.
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
    /// It is larger than 128 KiB.
    #[error("it is larger than 128 KiB")]
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
        let owned = |pattern: &str| pattern.to_owned();
        let config = OfConfig::shared(
            exclude.into_iter().map(owned).collect(),
            include.into_iter().map(owned).collect(),
        )?;
        let lines = oxenignore.lines().zip(1..).map(|(pattern, line)| (Some(line), pattern));
        let oxenignore = build(lines)?;
        Ok(Self { config, oxenignore: (!oxenignore.is_empty()).then(|| Arc::new(oxenignore)) })
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
                opened.reader().take(IGNORE_FILE_MAX).read_to_string(&mut ignore)?;
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

    /// Whether the file says itself what is left out.
    pub fn is_ignore_file(file: &LocalPath) -> bool {
        file.as_path() == Path::new(IGNORE_FILE)
    }

    /// Whether the file is left out.
    pub fn excludes_file(&self, file: &LocalPath) -> bool {
        is_apart(file.name()) || self.excluded(file, false) || self.is_not_included(file)
    }

    /// Whether the file `name` in `dir` is left out, where `dir` is known not to be. Quicker than to ask for it alone.
    pub fn excludes_file_in(&self, dir: &LocalPath, name: &OsStr) -> bool {
        if is_apart(name) {
            return true;
        }
        let file = dir.join(name);
        self.excluding(file.as_path(), false).is_ignore() || self.is_not_included(&file)
    }

    /// What leaves the path out, if anything does. Slower than to ask whether.
    pub fn left_out(&self, path: &LocalPath, is_dir: bool) -> Option<LeftOut> {
        if path.is_root() {
            return None;
        }
        if !is_dir && is_apart(path.name()) {
            return Some(LeftOut::TakingOff);
        }
        let above = dirs_above(path);
        let dirs = above.iter().map(|dir| (*dir, true)).chain([(path.as_path(), is_dir)]);
        for (at, is_dir) in dirs {
            if let Match::Ignore(glob) = self.excluding(at, is_dir) {
                let from = match glob.from().and_then(Path::to_str) {
                    Some(line) => format!("line {line} of {IGNORE_FILE}"),
                    None => "exclude in the config".to_owned(),
                };
                let dir = (at != path.as_path()).then(|| printable(at));
                return Some(LeftOut::By { pattern: printable(glob.original()), from, dir });
            }
        }
        (!is_dir && self.is_not_included(path)).then_some(LeftOut::NotIncluded)
    }

    fn is_not_included(&self, file: &LocalPath) -> bool {
        self.config
            .include
            .as_ref()
            .is_some_and(|include| !include.matched_path_or_any_parents(file.as_path(), false).is_ignore())
    }

    /// The last pattern that matches this very path.
    fn excluding(&self, path: &Path, is_dir: bool) -> Match<&Glob> {
        let own = self.oxenignore.as_ref().map_or(Match::None, |own| own.matched(path, is_dir));
        own.or(self.config.exclude.matched(path, is_dir))
    }

    fn excluded(&self, path: &LocalPath, is_dir: bool) -> bool {
        if path.is_root() {
            return false;
        }
        dirs_above(path).into_iter().any(|dir| self.excluding(dir, true).is_ignore())
            || self.excluding(path.as_path(), is_dir).is_ignore()
    }
}

impl OfConfig {
    /// One that is in use and says the same, or else a new one.
    fn shared(exclude: Vec<String>, include: Vec<String>) -> Result<Arc<Self>, FilterError> {
        let mut in_use = OF_CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|config| config.strong_count() > 0);
        let same = |config: &Arc<Self>| config.exclude_text == exclude && config.include_text == include;
        if let Some(config) = in_use.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(config);
        }
        let of = |patterns: &[String]| build(patterns.iter().map(|pattern| (None, pattern.as_str())));
        let (excluded, included) = (of(&exclude)?, of(&include)?);
        let config = Arc::new(Self {
            exclude: excluded,
            include: (!included.is_empty()).then_some(included),
            exclude_text: exclude,
            include_text: include,
        });
        in_use.push(Arc::downgrade(&config));
        Ok(config)
    }
}

/// The directories above a path, the highest first, without the folder itself.
fn dirs_above(path: &LocalPath) -> Vec<&Path> {
    let mut above: Vec<&Path> =
        path.as_path().ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    above.reverse();
    above
}

/// Of patterns, each with its line where it stands in a file.
fn build<'a>(patterns: impl Iterator<Item = (Option<usize>, &'a str)>) -> Result<Gitignore, FilterError> {
    let failed = |pattern: &str, error: ignore::Error| FilterError {
        pattern: printable(pattern),
        reason: printable(error.to_string()),
    };
    let mut builder = GitignoreBuilder::new("");
    for (line, pattern) in patterns {
        // Who asks for the match is told this, and nothing else is done with it.
        let from = line.map(|line| PathBuf::from(line.to_string()));
        builder.add_line(from, pattern).map_err(|error| failed(pattern, error))?;
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
    fn the_pattern_that_leaves_a_path_out_is_named_with_its_place() {
        let filter = Filter::new(["*.tmp", "cache/"], ["*.tif"], "# mine\n!keep.tmp\n/old\n").unwrap();
        let said = |path: &str| filter.left_out(&local(path), false).map(|left_out| left_out.to_string());
        assert_eq!(said("d/a.tmp").as_deref(), Some("by \"*.tmp\", exclude in the config"));
        assert_eq!(said("old").as_deref(), Some("by \"/old\", line 3 of .oxenignore"));
        let inside = "its directory d/cache is, by \"cache/\", exclude in the config";
        assert_eq!(said("d/cache/x/a.tif").as_deref(), Some(inside));
        assert_eq!(said("keep.tmp").as_deref(), Some("no pattern of include in the config matches it"));
        assert_eq!(said("d/a.tif"), None);
        assert_eq!(filter.left_out(&local("d"), true), None);
    }

    #[test]
    fn folders_that_say_the_same_share_what_was_made_of_it() {
        let filter = |exclude: &'static str, own: &'static str| Filter::new([exclude], [], own).unwrap();
        let (first, second, other) = (filter("*.s", ""), filter("*.s", "own"), filter("*.o", ""));
        assert!(Arc::ptr_eq(&first.config, &second.config));
        assert!(!Arc::ptr_eq(&first.config, &other.config));
        assert!(second.excludes_file(&local("own")) && !first.excludes_file(&local("own")));
    }

    #[test]
    fn what_is_being_taken_off_is_left_out_whatever_a_pattern_says() {
        let name = crate::content::apart_name("a.tif".as_ref()).unwrap();
        let filter = Filter::new(["!.oxen-sync*"], ["*.tif"], "!*\n").unwrap();
        let path = local("d").join(&name);
        assert!(filter.excludes_file(&path) && filter.excludes_file_in(&local("d"), &name));
        assert_eq!(filter.left_out(&path, false), Some(LeftOut::TakingOff));
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

    #[test]
    fn an_ignore_file_that_is_too_large_stops_everything() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        let filter = || Filter::of_folder(&[], &[], &root);
        let lines = |max: u64| "*.tmp\n".repeat(usize::try_from(max / 6).unwrap());
        std::fs::write(dir.path().join(IGNORE_FILE), lines(IGNORE_FILE_MAX)).unwrap();
        assert!(filter().unwrap().excludes_file(&local("x.tmp")));
        std::fs::write(dir.path().join(IGNORE_FILE), lines(IGNORE_FILE_MAX) + "*.tmp\n").unwrap();
        assert!(matches!(filter(), Err(IgnoreFileError::TooLarge)));
    }

    #[test]
    fn a_pattern_is_only_ever_shown_as_text() {
        let error = Filter::new(["[z-a]\u{1b}[2J\u{202e}"], [], "").unwrap_err();
        assert!(crate::path::is_printable(&error.to_string().replace('\\', "")), "{error:?}");
    }

    mod fuzz {
        use super::*;
        use proptest::prelude::*;

        /// Text that is likely to mean something in a pattern.
        const PATTERN: &str = r"(\*|\*\*|\?|!|/|#|\\|\[[!^]?[ab/-]{0,3}\]?|\{[ab,]{0,4}\}?|[ab .]){0,8}";
        const PATH: &str = "[ab#! .]{1,3}(/[ab]{1,2}){0,4}";

        proptest! {
            #[test]
            fn what_lies_in_an_excluded_directory_is_excluded(
                exclude in prop::collection::vec(PATTERN, 0..6),
                include in prop::collection::vec(PATTERN, 0..3),
                file: String,
                path in PATH,
            ) {
                let texts = |list: &[String]| list.to_vec();
                let (exclude, include) = (texts(&exclude), texts(&include));
                let filter = Filter::new(
                    exclude.iter().map(String::as_str), include.iter().map(String::as_str), &file,
                );
                let (Ok(filter), Some(path)) = (filter, LocalPath::new(Path::new(&path))) else { return Ok(()) };
                let mut above = path.parent();
                let mut is_in_excluded = false;
                while let Some(dir) = above {
                    is_in_excluded |= filter.excludes_dir(&dir);
                    above = dir.parent();
                }
                if is_in_excluded {
                    prop_assert!(filter.excludes_file(&path) && filter.excludes_dir(&path), "{path}");
                }
                // Asking again changes nothing.
                prop_assert_eq!(filter.excludes_file(&path), filter.clone().excludes_file(&path));
            }

            #[test]
            fn any_text_is_an_ignore_file_or_told_in_one_harmless_line(text: String, lines: Vec<String>, path: Vec<u8>) {
                use std::os::unix::ffi::OsStrExt;
                for text in [text, lines.join("\n")] {
                    match Filter::new([], [], &text) {
                        Ok(filter) => {
                            if let Some(path) = LocalPath::from_bytes(&path) {
                                let _ = (filter.excludes_file(&path), filter.excludes_dir(&path));
                            }
                            let _ = filter.excludes_file(&LocalPath::root().join(std::ffi::OsStr::from_bytes(b"\xff")));
                        }
                        Err(error) => {
                            let shown = error.to_string().replace('\\', "");
                            prop_assert!(crate::path::is_printable(&shown), "{shown:?}");
                        }
                    }
                }
            }

            #[test]
            fn no_pattern_makes_a_name_cost_more_than_a_moment(pattern in r"(\*|\*\*/|\?|[ab]|\[a-b\]|\{a,b\}){1,60}") {
                let start = std::time::Instant::now();
                if let Ok(filter) = Filter::new([pattern.as_str()], [], "") {
                    let name = format!("{}c", "ab/".repeat(80) + &"a".repeat(250));
                    filter.excludes_file(&local(&name));
                }
                prop_assert!(start.elapsed() < std::time::Duration::from_secs(5), "{pattern}");
            }

            #[test]
            fn what_the_config_takes_for_a_pattern_can_be_used(pattern in PATTERN) {
                let text = format!(
                    "[server]\nurl = \"http://localhost\"\n[author]\nname = \"a\"\nemail = \"a@b\"\n[[folder]]\n\
                     path = \"/a\"\nrepo = \"lab/a1\"\nexclude = [{}]\n",
                    toml::Value::String(pattern)
                );
                let env = crate::config::Env { home: Some("/h".into()), ..Default::default() };
                if let Ok(config) = crate::config::parse(&text, Path::new("/c.toml"), &env) {
                    let exclude = &config.folders[0].exclude;
                    prop_assert!(Filter::new(exclude.iter().map(String::as_str), [], "").is_ok());
                }
            }
        }
    }
}
