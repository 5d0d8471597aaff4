//! Tells the program what `--version` says: its version, and the commit that it was built from with its date.
//!
//! Asked in this order, each for itself: `OXEN_SYNC_COMMIT` and `OXEN_SYNC_DATE`, for builds outside git;
//! `SOURCE_DATE_EPOCH` for the date; git. Where nothing answers, the version stands alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made of; a change elsewhere makes no other program.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR").unwrap_or_default());
    for name in ["OXEN_SYNC_COMMIT", "OXEN_SYNC_DATE", "SOURCE_DATE_EPOCH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let git = Git::of(&root);
    if let Some(git) = &git {
        git.watch();
    }
    let commit = variable("OXEN_SYNC_COMMIT").or_else(|| git.as_ref()?.commit());
    let seconds = || {
        variable("SOURCE_DATE_EPOCH").or_else(|| git.as_ref()?.ask(&["show", "-s", "--format=%ct", "HEAD"]))
    };
    let date = variable("OXEN_SYNC_DATE").or_else(|| seconds()?.parse().ok().map(day));
    let told: Vec<String> = [commit, date].into_iter().flatten().collect();
    let version = variable("CARGO_PKG_VERSION").unwrap_or_default();
    match told.as_slice() {
        [] => println!("cargo:rustc-env=OXEN_SYNC_VERSION={version}"),
        told => println!("cargo:rustc-env=OXEN_SYNC_VERSION={version} ({})", told.join(", ")),
    }
}

/// A variable that is set to something, as one line: a second one would be an order to cargo.
fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    let line = value.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

/// The repository whose root is ours. Sources unpacked inside of another one are none of its commits.
struct Git<'a> {
    root: &'a Path,
}

impl<'a> Git<'a> {
    fn of(root: &'a Path) -> Option<Self> {
        let git = Self { root };
        let top = git.ask(&["rev-parse", "--show-toplevel"])?;
        (Path::new(&top).canonicalize().ok()? == root.canonicalize().ok()?).then_some(git)
    }

    /// What git answers, if it answers anything.
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        // Only looks: a lock, or an index written anew, would be in the way of whoever works here.
        let mut git = Command::new("git");
        git.current_dir(self.root).env("GIT_OPTIONAL_LOCKS", "0").args(arguments);
        let output = git.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The commit, with a `+` where the sources are not as it has them.
    fn commit(&self) -> Option<String> {
        let commit = self.ask(&["rev-parse", "--short=9", "HEAD"])?;
        let mut status = vec!["status", "--porcelain", "--"];
        status.extend(SOURCES);
        let plus = if self.ask(&status).is_some() { "+" } else { "" };
        Some(commit + plus)
    }

    /// Has cargo ask again when HEAD moves: by itself, or with the branch that it names.
    fn watch(&self) {
        // Cargo asks again at every build where a path is not there, so only those that are.
        let watch = |path: &Path| {
            let there = path.to_str().filter(|_| path.exists());
            there.map(|path| println!("cargo:rerun-if-changed={path}")).is_some()
        };
        let path = |name: &str| Some(self.root.join(self.ask(&["rev-parse", "--git-path", name])?));
        if let Some(head) = path("HEAD") {
            watch(&head);
        }
        let Some(branch) = self.ask(&["symbolic-ref", "--quiet", "HEAD"]).and_then(|name| path(&name)) else {
            return;
        };
        if !watch(&branch) {
            // A branch that is packed gets a file of its own with its next commit.
            branch.parent().map(watch);
            path("packed-refs").as_deref().map(watch);
        }
    }
}

/// The day of a moment, in UTC: `2026-11-26`.
fn day(seconds: u64) -> String {
    // Days from a 1 March on, so that the leap day is the last of its year; 400 years have 146,097 days.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
