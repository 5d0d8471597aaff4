//! What `doctor` looks at beyond what a run needs: the machine, the clock, the filesystems, the state, the service.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::{Findings, Level};
use crate::config::Config;
use crate::content::RootDir;
use crate::folder::{Filesystem, filesystem};
use crate::oxen::{Client, MEASURED_VERSION, ServerInfo};
use crate::path::printable;
use crate::state::Reader;
use crate::status::{FolderState, Report, socket};

/// With less room than this for the state, a day of many files may fill its disk.
const ROOM_MIN: u64 = 256 << 20;
/// What a file takes in the state, roughly, with its name and its hashes.
const ROW_BYTES: u64 = 250;
/// Clocks that are further apart are told.
const SKEW_MAX: Duration = Duration::from_secs(5);
/// Descriptors that a service of many folders may need.
const FILES_MIN: u64 = 1_024;

/// The program and the machine.
pub(super) fn check_machine(config: &Path, findings: &mut Findings) {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let detail = format!(
        "oxen-sync {} on {} {} ({}), config {}",
        env!("OXEN_SYNC_VERSION"),
        text(uname.sysname()),
        text(uname.release()),
        text(uname.machine()),
        printable(config)
    );
    findings.add(Level::Ok, "versions", detail);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(files) if files < FILES_MIN => findings.add(
            Level::Warning,
            "open files",
            format!("only {files} are allowed to this process; raise it with: ulimit -n 16384 (the unit allows 16384)"),
        ),
        Some(files) => findings.add(Level::Ok, "open files", format!("{files} are allowed to this process")),
        None => findings.add(Level::Ok, "open files", "any number is allowed"),
    }
}

/// Which filesystems the folders lie on, and what that means. Waits for none that does not answer: the check of the folder
/// has told it by then.
pub(super) async fn check_filesystems(config: &Config, findings: &mut Findings) {
    for folder in &config.folders {
        let path = folder.path.clone();
        let looked = tokio::task::spawn_blocking(move || RootDir::open(&path)?.filesystem_magic());
        let Ok(Ok(Ok(magic))) = tokio::time::timeout(Duration::from_secs(5), looked).await else { continue };
        let what = format!("filesystem of {}", printable(&folder.path));
        match filesystem(magic) {
            Filesystem::Local(name) => {
                findings.add(Level::Ok, what, format!("{name}, whose changes the kernel tells"));
            }
            Filesystem::CoarseTimes(name) => findings.add(
                Level::Warning,
                what,
                format!("{name}, which keeps times to two seconds only: files that change twice within are read again"),
            ),
            Filesystem::Remote(name) => findings.add(
                Level::Warning,
                what,
                format!(
                    "{name}: nobody tells of changes made elsewhere, so all of it is compared every minute; give \
                     settle.quiet more time there"
                ),
            ),
            Filesystem::Unknown(magic) => {
                findings.add(Level::Ok, what, format!("of a kind that is not known here ({magic:#x})"));
            }
        }
    }
}

/// How far the server is known, and whether its clock and ours agree.
pub(super) async fn check_answers(client: &Client, what: &str, findings: &mut Findings) {
    let before = jiff::Timestamp::now();
    let Ok(ServerInfo { version, date }) = client.health().await else { return };
    let took = jiff::Timestamp::now().duration_since(before);
    match version.as_deref() {
        Some(version) if version == MEASURED_VERSION => {
            findings.add(Level::Ok, what, format!("oxen {version} is the version that oxen-sync is tried with"));
        }
        Some(version) => findings.add(
            Level::Warning,
            what,
            format!(
                "oxen {version} is not the version that oxen-sync is tried with ({MEASURED_VERSION}); every commit is \
                 proved all the same; try it with: oxen-sync push on a folder of yours, then oxen-sync verify"
            ),
        ),
        None => findings.add(Level::Warning, what, "it does not tell its version"),
    }
    findings.add(Level::Ok, what, format!("a request takes {} ms", took.as_millis().max(1)));
    let Some(date) = date else { return };
    // Its clock shows whole seconds, and the answer was on its way.
    let skew = date.duration_since(before);
    let far = skew.unsigned_abs().saturating_sub(took.unsigned_abs() + Duration::from_secs(1));
    if far > SKEW_MAX {
        let direction = if skew.is_negative() { "behind" } else { "ahead of" };
        findings.add(
            Level::Warning,
            what,
            format!(
                "its clock is {} s {direction} ours; nothing is decided by it, but times of commits look wrong: check \
                 timedatectl on both machines",
                far.as_secs()
            ),
        );
    } else {
        findings.add(Level::Ok, what, "its clock and ours agree");
    }
}

/// The state: how much room it has, and whether it is well.
pub(super) fn check_state(config: &Config, files: u64, findings: &mut Findings) {
    let dir = &config.state_dir;
    let existing = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(dir);
    if let Ok(room) = rustix::fs::statvfs(existing) {
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let needed = ROOM_MIN + files * ROW_BYTES;
        let detail = format!("{} are free for the state, {} are advised", ByteSize(free), ByteSize(needed));
        let (level, detail) = if free < needed {
            (Level::Warning, format!("{detail}; make room, or set state_dir to another disk"))
        } else {
            (Level::Ok, detail)
        };
        findings.add(level, "space", detail);
    }
    match Reader::open(dir) {
        Ok(None) => findings.add(Level::Ok, "state", "there is none yet; the first run makes it"),
        Ok(Some(reader)) => match reader.check() {
            Ok(None) => findings.add(Level::Ok, "state", "the database is well"),
            Ok(Some(damage)) => findings.add(
                Level::Failure,
                "state",
                format!(
                    "the database is damaged: {damage}; restart the service: it sets it aside, and rebuilds it from the \
                     folders and the branches"
                ),
            ),
            Err(error) => findings.add(Level::Failure, "state", error.to_string()),
        },
        Err(error) => findings.add(Level::Failure, "state", error.to_string()),
    }
}

/// Whether a service runs, with which version, and what it says of its folders.
pub(super) async fn check_service(config: &Config, findings: &mut Findings) {
    let report = match socket::fetch(&config.state_dir).await {
        Ok(Some(report)) => report,
        Ok(None) => {
            return findings.add(Level::Ok, "service", "none is running with this config");
        }
        Err(error) => return findings.add(Level::Failure, "service", error.to_string()),
    };
    let Report { version, pid, config_refused, folders, .. } = report;
    let pid = pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    if version == env!("CARGO_PKG_VERSION") {
        findings.add(Level::Ok, "service", format!("oxen-sync {version} is running{pid}"));
    } else {
        let detail =
            format!("oxen-sync {version} is running{pid}, another version than this program; restart it");
        findings.add(Level::Warning, "service", detail);
    }
    if config_refused.is_some() {
        findings.add(
            Level::Warning,
            "service",
            "it refused the config as it was changed; oxen-sync check says why",
        );
    }
    for folder in folders {
        let what = format!("folder {}", folder.path);
        match folder.state {
            FolderState::Broken | FolderState::Stopped | FolderState::Waiting => {
                findings.add(Level::Failure, what, folder.why.unwrap_or_else(|| "is in trouble".to_owned()));
            }
            FolderState::Paused => {
                findings.add(Level::Warning, what, "is paused; to go on: oxen-sync resume");
            }
            _ if folder.failed > 0 => findings.add(
                Level::Warning,
                what,
                format!("{} files could not be pushed; oxen-sync failed says why", folder.failed),
            ),
            _ => {}
        }
    }
}
