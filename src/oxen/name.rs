use std::fmt;
use std::str::FromStr;

use crate::path::is_printable;

/// A repository on a server: `namespace/name`.
///
/// Invariant, from oxen-server 0.65.2, which answers 400 to anything else: the name matches
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, the namespace the same without `.` and at most 50 long, and is not `repo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName {
    namespace: String,
    name: String,
}

/// The name of a branch; it may hold slashes.
///
/// Invariant: not empty, at most 255 bytes, segments that are not empty or `.`; no white space, control or invisible
/// character, backslash, `..`, `@{` or any of `~ ^ : ? * [ %`; no `.` at the end; not `@`. These are the names that oxen-server
/// 0.65.2 takes, but for `%`, which it does not decode where a branch is looked up or committed to, and for what nobody
/// can see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(String);

/// Why a name cannot be one of a repository or a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No `/`, or more than one.
    #[error("a repository is written NAMESPACE/NAME, for example \"lab/cells\"")]
    NotTwoParts,
    /// The namespace breaks Oxen's rule.
    #[error(
        "the namespace must be 2 to 50 letters, digits, \"-\" or \"_\", begin with a letter or digit, and not be \"repo\""
    )]
    Namespace,
    /// The repository's name breaks Oxen's rule.
    #[error(
        "the repository's name must be 2 or more letters, digits, \".\", \"-\" or \"_\" and begin with a letter or digit"
    )]
    Name,
    /// The branch's name breaks the rule.
    #[error(
        "a branch name is 1 to 255 bytes without spaces, control or invisible characters, backslash, \"..\", \"@{{\" or ~ ^ : ? * [ %, does not end with a dot, and each part between slashes is a name"
    )]
    Branch,
}

impl RepoName {
    /// The part before the slash.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for RepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').ok_or(NameError::NotTwoParts)?;
        if name.contains('/') {
            return Err(NameError::NotTwoParts);
        }
        if !is_plain(namespace, false) || namespace.len() > 50 || namespace == "repo" {
            return Err(NameError::Namespace);
        }
        if !is_plain(name, true) {
            return Err(NameError::Name);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

fn is_plain(name: &str, dots: bool) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || (dots && c == '.'))
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl BranchName {
    /// The name as it goes into a request.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BranchName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || "\\~^:?*[%".contains(c);
        let fine = text.len() <= 255
            && is_printable(text)
            && !text.contains(bad)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.ends_with('.')
            && text != "@"
            && text.split('/').all(|part| !matches!(part, "" | "."));
        if fine { Ok(Self(text.to_owned())) } else { Err(NameError::Branch) }
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_servers_rule() {
        for good in ["lab/cells", "a1/b.c-d_e", "0x/00"] {
            assert_eq!(good.parse::<RepoName>().unwrap().to_string(), good);
        }
        for bad in
            ["lab", "a/b/c", "/cells", "lab/", "a/bc", "ab/c", "l.b/cells", "repo/cells", "lab/.x", "lab/a b"]
        {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        assert!(format!("{}/cells", "n".repeat(51)).parse::<RepoName>().is_err());
    }

    #[test]
    fn branch_names_may_hold_slashes() {
        for good in ["main", "rig/7/d", "Größe", "v1.2", "a+b@c"] {
            assert_eq!(good.parse::<BranchName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a\nb",
            "..",
            "a/../b",
            "a\\b",
            "a:b",
            "a%b",
            "a..b",
            "a.",
            "@",
            "a@{1}",
            "a\u{202e}b",
            "a\u{200b}",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }
}
