//! Nothing that anyone can put into a name, a config or an answer reaches a terminal or a log as more than text.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use oxen_sync::oxen::Op;
use oxen_sync::path::is_printable;
use oxen_sync::status::FolderState;
use serde_json::json;

use super::on_both;
use crate::standin::{Action, Rule};
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

on_both! {
    names_are_only_ever_shown_as_text,
}

/// Sets a window's title, clears it, turns the text around, and forges a line of the log.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\n2026-01-01T00:00:00Z INFO forged";

/// # Panics
/// Where a line is more than text.
fn assert_is_text(what: &str, text: &str) {
    for line in text.lines() {
        // A name's own backslash is doubled, which is no harm.
        assert!(is_printable(&line.replace('\\', "")), "{what} prints {line:?}");
        // The bytes that were none of UTF-8.
        assert!(!line.contains('\u{fffd}'), "{what} prints {line:?}");
        assert!(!line.starts_with("2026-01-01"), "{what} prints a line that was forged: {line:?}");
    }
}

async fn said(rig: &Rig, args: &[&str]) -> Said {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let said = rig.run(&args).await;
    assert_is_text(&format!("{args:?}"), &said.out);
    assert_is_text(&format!("{args:?}"), &said.err);
    said
}

/// Names that the branch can hold, and names that it cannot.
fn names() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut good: Vec<Vec<u8>> = (1_u8..0x20).chain([0x7f]).map(|byte| vec![b'c', byte, b'd']).collect();
    good.extend((0x80..0xa0_u32).filter_map(char::from_u32).map(|c| format!("c{c}d").into_bytes()));
    good.push(EVIL.as_bytes().to_vec());
    good.push("\u{1b}".repeat(255).into_bytes());
    good.push("\u{202e}".repeat(85).into_bytes());
    let bad = [&b"\xff\xfe"[..], b"\xc0\x80", b"\xed\xa0\x80", b"a\x1b\\", &[0xff; 255]];
    (good, bad.map(<[u8]>::to_vec).to_vec())
}

async fn names_are_only_ever_shown_as_text(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let (good, bad) = names();
    for name in good.iter().chain(&bad) {
        for (dir, content) in [(&b""[..], &b"1"[..]), (b"dir/", b"2"), (b"empty/", b"")] {
            let path = [dir, name.as_slice()].concat();
            let file = rig.folder.join(OsStr::from_bytes(&path));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
            // An empty file with such a name goes by no request.
            let goes = good.contains(name)
                && (!content.is_empty() || name.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f));
            match std::str::from_utf8(&path) {
                Ok(path) if goes => rig.ledger.finished(path, content),
                _ => rig.left_out.push(path),
            }
        }
    }
    // As a writer of logs, and as a folder: it cannot be opened, is not there, or is no folder.
    for (number, make) in [true, false].into_iter().enumerate() {
        let path = rig.dir().join(format!("{EVIL}-{number}"));
        if make {
            fs::write(&path, "").unwrap();
        }
        let path = toml::Value::String(path.to_str().unwrap().to_owned());
        let more = format!("\n[[folder]]\npath = {path}\nrepo = \"{}-{number}\"\n", rig.repo);
        rig.write_config(&(rig.config_text() + &more));
    }
    rig.set_env("OXEN_SYNC_LOG", "trace,h2=off,hyper=off,hyper_util=off,reqwest=off");
    rig.start();
    rig.settled().await;
    rig.until_status("the folder is at rest", |report| {
        report.folders[0].state == FolderState::Watching && report.folders[0].waiting == 0
    })
    .await;
    for args in [&["status"][..], &["status", "--json"], &["check"], &["check", "--json"]] {
        said(&rig, args).await;
    }
    rig.stop().await;
    assert_is_text("the log", &rig.log());
    for args in [&["push"][..], &["push", "--json"], &["status"], &["status", "--json"]] {
        said(&rig, args).await;
    }

    // The same as systemd's journal would have it.
    let log = fs::metadata(rig.dir().join("log")).unwrap();
    rig.set_env("JOURNAL_STREAM", &format!("{}:{}", log.dev(), log.ino()));
    rig.start();
    rig.until_status("the folder is at rest", |report| {
        report.folders[0].state == FolderState::Watching && report.folders[0].waiting == 0
    })
    .await;
    rig.stop().await;
    assert!(rig.log().lines().any(|line| line.starts_with("<6>")), "{}", rig.log());
    assert_is_text("the journal", &rig.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_config_or_an_argument_holds_is_only_ever_shown_as_text() {
    let site = Arc::new(Site::standin().await);
    let rig = Rig::new(&site, "");
    let good = rig.config_text();
    let escaped = toml::Value::String(EVIL.to_owned()).to_string();
    let texts = [
        format!("# {EVIL}\n{good}\nbranch = 7\n"),
        good.replace("[server]", &format!("[server]\n{escaped} = 1\n{EVIL} = 2")),
        format!(
            "{good}\nbranch = {escaped}\nmessage = {escaped}\ndescription = {escaped}\non_delete = {escaped}"
        ),
        format!(
            "{good}\nexclude = [{escaped}]\nremote_dir = {escaped}\nserver = {escaped}\nsettle.quiet = {escaped}"
        ),
        format!("{good}\nmessage = \"{{{EVIL}}}\"\n"),
        format!("{good}\nmessage = {}\n", toml::Value::String(format!("{{{EVIL}}}"))),
        good.replace("path = \"", &format!("path = \"{EVIL}")),
        good.replace("http://", &format!("http://{EVIL}")),
        good.replace(&site.url, &toml::Value::String(format!("http://{EVIL}")).to_string().replace('"', "")),
        good.replace("rig-07@lab.example", &escaped.replace(['"', '\''], "")),
        format!("{good}[servers.{escaped}]\nurl = 1\n"),
    ];
    for text in texts {
        rig.write_config(&text);
        for args in [&["check"][..], &["check", "--json"], &["status"], &["push", "--json"], &["run"]] {
            let said = said(&rig, args).await;
            assert_eq!(said.code, Some(2), "{text:?}\n{said:?}");
        }
    }
    rig.write_config(&good);
    let path = format!("/{EVIL}");
    let added = said(&rig, &["add", &path, "--repo", "lab/cells"]).await;
    assert_eq!(added.code, Some(0), "{added:?}");
    for args in [
        &["push", &path][..],
        &["push", EVIL],
        &["add", &path, "--repo", "lab/cells"],
        &["add", "relative", "--repo", "lab/cells", "--server", EVIL],
        &["add", "relative", "--repo", "lab/cells", "--remote-dir", EVIL],
        &["check", "--config", EVIL],
        &["run", "--config", EVIL],
        &["status", "--config", EVIL],
    ] {
        let said = said(&rig, args).await;
        assert_ne!(said.code, Some(0), "{args:?} {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_is_only_ever_shown_as_text() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let bodies = [
        EVIL.to_owned(),
        format!("<html><title>{EVIL}</title>"),
        json!({"status": EVIL, "status_message": EVIL, "status_description": EVIL}).to_string(),
        json!({"status": "error", "error": {"type": EVIL, "title": EVIL, "detail": EVIL}}).to_string(),
        json!({"status": "success", "branch": EVIL, "branches": EVIL, "entry": EVIL, "oxen_version": EVIL}).to_string(),
        json!({"status": "success", "branch": {"name": EVIL, "commit_id": EVIL}, "entries": [{"hash": EVIL}],
            "branches": [{"name": EVIL, "commit_id": "1"}], "workspaces": [{"id": EVIL, "commit": {"id": EVIL}}]})
        .to_string(),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let mut rig = Rig::new(&site, "");
        rig.set_env("OXEN_SYNC_LOG", "debug,h2=off,hyper=off,hyper_util=off,reqwest=off");
        rig.write("a", number.to_string());
        standin.fault(Rule::any(Action::reply([200, 400, 500][number % 3], body)).forever());
        rig.start();
        rig.until_status("it waits", |report| report.folders[0].state == FolderState::Waiting).await;
        for args in [&["status"][..], &["status", "--json"], &["check"], &["check", "--json"]] {
            said(&rig, args).await;
        }
        standin.clear_faults();
        rig.stop().await;
        assert_is_text("the log", &rig.log());
        // A file that is refused for what it is, with its reason.
        standin.fault(Rule::on(Op::StageFiles, Action::reply(413, body)));
        said(&rig, &["push"]).await;
        standin.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_bars_draw_names_and_reasons_as_text() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let rig = Rig::new(&site, "");
    let folder = rig.dir().join(EVIL);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(EVIL), "1").unwrap();
    let path = toml::Value::String(folder.to_str().unwrap().to_owned()).to_string();
    rig.write_config(
        &rig.config_text().replace(&format!("path = {:?}", rig.folder), &format!("path = {path}")),
    );
    // Time to draw, and a reason to show.
    let body = json!({"status": "error", "status_description": EVIL}).to_string();
    standin.fault(Rule::any(Action::reply(500, &body)));
    let push = format!("{} push --config {:?}", env!("CARGO_BIN_EXE_oxen-sync"), rig.config);
    let drawn = tokio::task::spawn_blocking(move || {
        // A terminal that keeps what is drawn on it.
        std::process::Command::new("script")
            .args(["-qec", &push, "/dev/null"])
            .env("TERM", "xterm")
            .output()
            .unwrap()
    });
    let drawn = drawn.await.unwrap();
    let shown = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.status.success() && shown.contains("files pushed"), "{shown:?}");
    assert!(shown.contains("]0;owned"), "the folder is named: {shown:?}");
    for harm in ["\u{1b}]0;owned", "\u{7}", "\u{9b}", "\u{202e}", "\n2026-01-01"] {
        assert!(!shown.contains(harm), "{harm:?} is drawn: {shown:?}");
    }
    assert!(standin.tree(&rig.repo.to_string(), "main").contains_key(EVIL));
}
