//! `--version` says which commit the program is of, wherever and however it was built: build.rs, tried by itself in
//! repositories of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::means::{leave_out, tool};

/// A build of a package `0.1.0` somewhere.
struct Build {
    script: PathBuf,
    root: PathBuf,
}

impl Build {
    /// What the build script tells cargo, with these variables and no others.
    fn told(&self, variables: &[(&str, &str)]) -> String {
        let mut script = Command::new(&self.script);
        for name in ["OXEN_SYNC_COMMIT", "OXEN_SYNC_DATE", "SOURCE_DATE_EPOCH", "GIT_DIR", "GIT_WORK_TREE"] {
            script.env_remove(name);
        }
        script.env("CARGO_MANIFEST_DIR", &self.root).env("CARGO_PKG_VERSION", "0.1.0");
        let output = script.envs(variables.iter().copied()).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The version that it finds.
    fn version(&self, variables: &[(&str, &str)]) -> String {
        let told = self.told(variables);
        let line = told.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=OXEN_SYNC_VERSION="));
        line.unwrap_or_else(|| panic!("no version in {told}")).to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["-c", "user.name=rig", "-c", "user.email=rig@lab.example"]);
        git.env_remove("GIT_DIR").env("GIT_COMMITTER_DATE", "2026-02-28T23:30:00-0800");
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Whether cargo asks again when this file of the repository changes.
    fn watches(&self, name: &str) -> bool {
        let path = self.git(&["rev-parse", "--path-format=absolute", "--git-path", name]);
        let same = |told: &str| Path::new(told).canonicalize().ok() == Path::new(&path).canonicalize().ok();
        self.told(&[])
            .lines()
            .filter_map(|line| line.strip_prefix("cargo:rerun-if-changed=/"))
            .any(|rest| same(&format!("/{rest}")))
    }
}

#[test]
fn the_version_names_the_commit_and_its_day_wherever_it_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("build-script");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let words = ["rustc", "--edition=2024", source, "-o", script.to_str().unwrap()];
    if let Err(why) = tool(&words).and_then(|()| tool(&["git", "--version"])) {
        return leave_out(&format!("a build script cannot be tried: {why}"));
    }
    let root = dir.path().join("source");
    fs::create_dir_all(root.join("src")).unwrap();
    let build = Build { script, root };

    // Outside of git.
    assert_eq!(build.version(&[]), "0.1.0");
    assert_eq!(build.version(&[("OXEN_SYNC_COMMIT", "1a2b3c4d5")]), "0.1.0 (1a2b3c4d5)");
    let both = [("OXEN_SYNC_COMMIT", "1a2b3c4d5\n"), ("OXEN_SYNC_DATE", "2026-11-26")];
    assert_eq!(build.version(&both), "0.1.0 (1a2b3c4d5, 2026-11-26)");
    for (seconds, day) in [
        ("0", "1970-01-01"),
        ("951782399", "2000-02-28"),
        ("951782400", "2000-02-29"),
        ("4107542399", "2100-02-28"),
        ("4107542400", "2100-03-01"),
        ("1798761599", "2026-12-31"),
    ] {
        assert_eq!(build.version(&[("SOURCE_DATE_EPOCH", seconds)]), format!("0.1.0 ({day})"));
    }

    // Unpacked inside of another repository: its commits are none of ours.
    tool(&["git", "init", "-q", "-b", "main", dir.path().to_str().unwrap()]).unwrap();
    assert_eq!(build.version(&[]), "0.1.0");

    // In a repository of its own; the day is that of UTC.
    fs::write(build.root.join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(build.root.join("README.md"), "words").unwrap();
    build.git(&["init", "-q", "-b", "main"]);
    assert_eq!(build.version(&[]), "0.1.0", "before the first commit");
    build.git(&["add", "."]);
    build.git(&["commit", "-q", "-m", "first"]);
    let commit = build.git(&["rev-parse", "--short=9", "HEAD"]);
    let clean = format!("0.1.0 ({commit}, 2026-03-01)");
    assert_eq!(build.version(&[]), clean);
    assert_eq!(build.version(&[("SOURCE_DATE_EPOCH", "0")]), format!("0.1.0 ({commit}, 1970-01-01)"));
    assert_eq!(build.version(&[("OXEN_SYNC_COMMIT", "other")]), "0.1.0 (other, 2026-03-01)");
    assert!(build.watches("HEAD") && build.watches("refs/heads/main"));

    // A branch that is packed is watched where its next commit will stand.
    build.git(&["pack-refs", "--all"]);
    assert!(build.watches("HEAD") && build.watches("packed-refs") && build.watches("refs/heads"));

    // Only what the program is made of makes it another one.
    fs::write(build.root.join("README.md"), "other words").unwrap();
    assert_eq!(build.version(&[]), clean);
    fs::write(build.root.join("src/new.rs"), "").unwrap();
    assert_eq!(build.version(&[]), format!("0.1.0 ({commit}+, 2026-03-01)"));

    // In a worktree, where .git is a file.
    let tree = Build { script: build.script.clone(), root: dir.path().join("tree") };
    build.git(&["worktree", "add", "-q", "--detach", tree.root.to_str().unwrap()]);
    assert_eq!(tree.version(&[]), clean);
    assert!(tree.watches("HEAD"));
}

#[test]
fn the_program_says_its_version_with_commit_and_day() {
    let output = Command::new(env!("CARGO_BIN_EXE_oxen-sync")).arg("--version").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let expected = concat!("oxen-sync ", env!("CARGO_PKG_VERSION"));
    assert!(told.starts_with(expected) && told.lines().count() == 1, "{told}");
    assert_eq!(told.trim_end(), format!("oxen-sync {}", env!("OXEN_SYNC_VERSION")));
}
