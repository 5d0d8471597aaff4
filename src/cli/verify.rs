//! Compares all of a folder with all of its branch, through the service or without one.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::Exit;
use super::out::{print, print_json};
use super::reach::{Reached, choose, fail_client, fail_offline, folders_of, reach};
use crate::config::Env;
use crate::control::Client;
use crate::control::api::{FolderVerified, Folders, Ticket, Verified};
use crate::service::Offline;

/// How long one question waits for the end.
const WAIT_S: u64 = 2;

pub(super) async fn run(file: &Path, wanted: &[PathBuf], json: bool, env: Env) -> Exit {
    let verified = match reach(file, &env, json).await {
        Ok(Reached::Service(client)) => by_service(&client, wanted, json).await,
        Ok(Reached::Nothing(config)) => match choose(&config, wanted, json) {
            Ok(folders) => {
                let verified = Offline(&config).verify(&folders, env, told).await;
                verified.map_err(|error| fail_offline(&error, json))
            }
            Err(exit) => Err(exit),
        },
        Err(exit) => Err(exit),
    };
    let verified = match verified {
        Ok(verified) => verified,
        Err(exit) => return exit,
    };
    if std::io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K");
    }
    let is_same = verified.folders.iter().all(FolderVerified::is_same);
    let printed = if json { print_json(&verified) } else { print(&text(&verified)) };
    printed.err().unwrap_or(if is_same { Exit::Success } else { Exit::Failure })
}

async fn by_service(client: &Client, wanted: &[PathBuf], json: bool) -> Result<Verified, Exit> {
    let failed = |error| fail_client(&error, json);
    let body = Folders { folders: folders_of(wanted) };
    let Ticket { ticket } = client.post("/verify", &body).await.map_err(failed)?;
    loop {
        let verified: Verified =
            client.get(&format!("/verify/{ticket}?wait_s={WAIT_S}")).await.map_err(failed)?;
        if verified.done {
            return Ok(verified);
        }
        verified.folders.iter().filter(|folder| !folder.done && folder.files > 0).for_each(told);
    }
}

/// Says how far it is, where somebody looks.
fn told(folder: &FolderVerified) {
    if std::io::stderr().is_terminal() {
        eprint!(
            "\r\u{1b}[K{}: {} files compared, {}",
            folder.folder.path,
            folder.files,
            ByteSize(folder.bytes)
        );
    }
}

fn text(verified: &Verified) -> String {
    let mut out = String::new();
    for folder in &verified.folders {
        if let Some(failure) = &folder.failure {
            let _ = writeln!(out, "{}: cannot be compared: {failure}", folder.folder);
            continue;
        }
        let verdict = match folder.different {
            0 => "the same".to_owned(),
            1 => "1 file DIFFERS".to_owned(),
            count => format!("{count} files DIFFER"),
        };
        let plural = if folder.files == 1 { "" } else { "s" };
        let _ = writeln!(
            out,
            "{}: {verdict}; {} file{plural} ({}) compared with commit {}",
            folder.folder,
            folder.files,
            ByteSize(folder.bytes),
            folder.commit.as_deref().unwrap_or("none"),
        );
        for difference in &folder.differences {
            let _ = writeln!(out, "  {:<8} {}: {}", difference.kind, difference.path, difference.reason);
        }
        let shown = folder.differences.len() as u64;
        if folder.different > shown {
            let _ = writeln!(out, "  … and {} more", folder.different - shown);
        }
        for (count, what) in [
            (folder.under_way, "not compared: being written, or changed so lately that it may be on its way"),
            (folder.held_back, "not compared: waiting until their run is finished, as batch.marker says"),
            (folder.kept, "on the branch alone: gone from the folder, and kept there"),
            (folder.others, "on the branch alone: never in this folder"),
        ] {
            if count > 0 {
                let _ = writeln!(out, "  {count} {what}");
            }
        }
    }
    if out.is_empty() { "the config has no folder\n".to_owned() } else { out }
}
