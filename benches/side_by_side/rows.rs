//! The rows: what is measured, what it is compared with, and what it is to reach.

pub(crate) mod first;
mod folders;
mod push;
mod rigs;
mod scan;
mod service;

use std::path::{Path, PathBuf};

use crate::contest::{Bench, Result};

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) goal: &'static str,
    pub(crate) run: fn(&mut Bench) -> Result<()>,
}

pub(crate) const ALL: &[Row] = &[
    Row {
        name: "small",
        what: "10,000 files of 4 KiB in 100 directories into a new repository, from nothing to proved",
        goal: "at most 0.85 of Oxen's client and 1.1 of requests made by hand",
        run: push::small,
    },
    Row {
        name: "changed",
        what: "the same 10,000 files, one in 100 changed",
        goal: "at most 1.3 of what the server needs for 100 files",
        run: push::changed,
    },
    Row {
        name: "large",
        what: "one file of 2 GiB",
        goal: "at most 1.15 of curl's multipart; 64 MiB",
        run: push::large,
    },
    Row {
        name: "rescan",
        what: "1,000,000 unchanged files in 10,000 directories",
        goal: "at most 1.5 of find -printf; 64 MiB",
        run: scan::rescan,
    },
    Row {
        name: "first",
        what: "the first look at 10,000, 100,000 and 1,000,000 files, up to batches",
        goal: "linear; 128 MiB",
        run: first::first,
    },
    Row {
        name: "hash",
        what: "1 GiB for each core, in memory already",
        goal: "at most 1.11 of openssl dgst -sha256 on each core",
        run: scan::hash,
    },
    Row {
        name: "start",
        what: "the service until it says that it is ready, 1,000,000 known files",
        goal: "at most 2 of the rescan",
        run: service::start,
    },
    Row {
        name: "idle",
        what: "the service with 1,000,000 known files and nothing to do, for a minute",
        goal: "at most 0.1 % of a core; 96 MiB",
        run: service::idle,
    },
    Row {
        name: "latency",
        what: "from a file's close to its being on the branch, beyond the quiet times",
        goal: "median at most 50 ms",
        run: service::latency,
    },
    Row {
        name: "flood",
        what: "100,000 files made at full speed by four writers",
        goal: "none missed; 128 MiB; at most one rescan",
        run: service::flood,
    },
    Row {
        name: "rigs",
        what: "eight services at one server: on one branch, on a branch each, in a repository each; and one service",
        goal: "none: it says what one server takes",
        run: rigs::rigs,
    },
    Row {
        name: "flat",
        what: "four times 5,000 files of 1 KiB into one directory, and by date and hour",
        goal: "by date and hour, the last 5,000 take at most 1.5 of the first",
        run: folders::flat,
    },
    Row {
        name: "folders",
        what: "100 folders on 20 repositories in one service, and one folder",
        goal: "none waits for another's upload; it says what a folder takes",
        run: folders::folders,
    },
];

/// A folder in a config.
pub(crate) struct Watched {
    pub(crate) folder: PathBuf,
    pub(crate) repo: String,
    /// Any further keys of it.
    pub(crate) keys: String,
}

/// A config with one folder, and a state of its own.
pub(crate) fn config(bench: &mut Bench, folder: &Path, repo: &str, keys: &str) -> Result<PathBuf> {
    config_of(bench, &[Watched { folder: folder.into(), repo: repo.into(), keys: keys.into() }])
}

/// The same with any number of folders.
pub(crate) fn config_of(bench: &mut Bench, folders: &[Watched]) -> Result<PathBuf> {
    let dir = bench.place("rig");
    std::fs::create_dir_all(&dir)?;
    let url = bench.server()?.url();
    let mut text = format!(
        "state_dir = {:?}\n[server]\nurl = {url:?}\n[author]\nname = \"bench\"\nemail = \"bench@localhost\"\n",
        dir.join("state"),
    );
    for Watched { folder, repo, keys } in folders {
        text += &format!("[[folder]]\npath = {folder:?}\nrepo = {repo:?}\n{keys}\n");
    }
    let file = dir.join("oxen-sync.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}
