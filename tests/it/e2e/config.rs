//! The config file, before and while the service runs.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::{Op, RepoName};
use oxen_sync::path::printable;
use oxen_sync::status::Report;
use tokio::time::Instant;

use super::on_both;
use crate::standin::{Action, Rule};
use crate::support::oracle::Oracle;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    a_folder_added_by_the_command_is_watched_and_comments_stay,
    check_says_what_a_run_would_find,
}

/// How soon a folder of an edited config is watched, with what settling and batching take and a busy machine adds.
const TAKEN_UP_MAX: Duration = Duration::from_secs(4);

struct Second {
    path: PathBuf,
    repo: RepoName,
}

/// A further folder with one file, outside of the first.
fn second(rig: &Rig, name: &str) -> Second {
    let path = rig.dir().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), name).unwrap();
    Second { path, repo: format!("{}-{name}", rig.repo).parse().unwrap() }
}

impl Second {
    /// Waits until its file is on its branch.
    async fn arrives(&self, rig: &Rig) -> Duration {
        let start = Instant::now();
        let oracle = Oracle { site: &rig.site, repo: &self.repo, branch: &rig.branch };
        loop {
            if let Some(head) = oracle.head().await
                && oracle.tree(&head).await.contains_key("file")
            {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{} never arrives", printable(&self.path));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A rig whose upload of a large file is held up until the faults are cleared.
async fn uploading() -> (Arc<Site>, Rig) {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().clone().unwrap();
    standin.set_parts(1 << 20, 1);
    standin.fault(Rule::on(Op::PutPart, Action::Throttle { bytes_per_s: 1 << 20 }).forever());
    let mut rig = Rig::new(&site, "");
    let content: Vec<u8> = (0..12_u32 << 18).flat_map(u32::to_le_bytes).collect();
    rig.write("large", content);
    rig.start();
    standin.until("the upload runs", |standin| standin.count(Op::PutPart).requests > 0).await;
    (site, rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_added_to_the_config_is_watched_while_another_uploads() {
    let (site, rig) = uploading().await;
    let standin = site.as_standin().clone().unwrap();
    let mut rig = rig;

    let edited = second(&rig, "edited");
    rig.write_config(&(rig.config_text() + &rig.folder_text(&edited.path, &edited.repo, "")));
    assert!(edited.arrives(&rig).await < TAKEN_UP_MAX);

    let replaced = second(&rig, "replaced");
    let text = rig.config_text() + &rig.folder_text(&replaced.path, &replaced.repo, "");
    fs::write(rig.config.with_extension("new"), text).unwrap();
    fs::rename(rig.config.with_extension("new"), &rig.config).unwrap();
    assert!(replaced.arrives(&rig).await < TAKEN_UP_MAX);

    let added = second(&rig, "added");
    let repo = added.repo.to_string();
    let said = rig.run(&["add".as_ref(), added.path.as_os_str(), "--repo".as_ref(), repo.as_ref()]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(added.arrives(&rig).await < TAKEN_UP_MAX);

    let report = rig.status().await.unwrap();
    assert_eq!(report.folders.len(), 4);
    assert!(report.folders[0].batch.is_some(), "the first upload runs on: {:?}", report.folders[0]);
    assert_eq!(standin.commits(&rig.repo.to_string(), "main").len(), 1, "nothing of it is committed yet");
    standin.clear_faults();
    rig.settled().await;
    let begun = standin.count(Op::BeginUpload).requests;
    assert_eq!(begun, 1, "the upload was not begun anew");
    assert_eq!(standin.count(Op::PutPart).requests, 12, "no part was sent twice");
    assert!(!rig.log().contains("folder stopped"), "nothing was restarted");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_config_changes_nothing_and_is_explained() {
    let (site, mut rig) = uploading().await;
    let standin = site.as_standin().clone().unwrap();
    let good = rig.config_text();
    let line = good.lines().count() + 2;
    rig.write_config(&format!("{good}\n   on_delet = \"mirror\"\n"));
    let report = rig.until_status("the config is refused", |report| report.config_refused.is_some()).await;
    let told = report.config_refused.unwrap().problems;
    let place = format!("oxen-sync.toml:{line}:4");
    assert!(told.contains(&place) && told.contains("^^^") && told.contains("on_delete"), "{place}\n{told}");
    assert!(rig.log().contains(&place) && rig.log().contains("^^^"), "the log has it, too");
    assert!(report.folders[0].batch.is_some(), "the upload runs on");

    let said = rig.run(&["status".as_ref(), "--json".as_ref()]).await;
    assert_eq!(said.code, Some(0), "status works with a config that was broken since: {said:?}");
    assert!(said.out.contains("config_refused") && said.out.contains("on_delet"), "{said:?}");
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(text.contains(&place) && text.contains("^^^"), "{text}");
    // What is not even TOML is told the same way.
    rig.write_config(&format!("{good}\n[[folder\n"));
    let at = format!("oxen-sync.toml:{line}:");
    let is_told = |report: &Report| {
        report.config_refused.as_ref().is_some_and(|refused| refused.problems.contains(&at))
    };
    rig.until_status("the other mistake is told", |report| {
        is_told(report)
            && !report.config_refused.as_ref().is_some_and(|refused| refused.problems.contains("on_delet"))
    })
    .await;
    assert_eq!(rig.run(&["status".as_ref()]).await.code, Some(0));

    rig.write_config(&good);
    rig.until_status("it is taken again", |report| report.config_refused.is_none()).await;
    standin.clear_faults();
    rig.settled().await;
    assert_eq!(standin.count(Op::BeginUpload).requests, 1, "the upload was not begun anew");
    assert!(!rig.log().contains("folder stopped"), "nothing was restarted");
    rig.stop().await;
}

async fn a_folder_added_by_the_command_is_watched_and_comments_stay(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "# the microscope in room 7\nexclude = [\"*.bak\"] # backups\n");
    rig.write("a", "1");
    let before = rig.config_text();
    rig.start();
    rig.settled().await;
    let added = second(&rig, "new-folder");
    let repo = added.repo.to_string();
    let said = rig.run(&["add".as_ref(), added.path.as_os_str(), "--repo".as_ref(), repo.as_ref()]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("It holds 1 file (10 B)."), "{said:?}");
    assert!(
        rig.config_text().starts_with(&before),
        "everything else stays as it was:\n{}",
        rig.config_text()
    );
    rig.until_status("both folders are watched", |report| report.folders.len() == 2).await;
    let again = rig.run(&["add".as_ref(), added.path.as_os_str(), "--repo".as_ref(), repo.as_ref()]).await;
    assert_eq!(again.code, Some(2), "the same folder twice is refused: {again:?}");
    // And taken away again.
    rig.write_config(&before);
    rig.until_status("one folder is left", |report| report.folders.len() == 1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_a_directory_that_slows_the_server_down() {
    const FILES: usize = 5_000;
    let site = Arc::new(Site::standin().await);
    let rig = Rig::new(&site, "");
    let dirs = ["flat", "not/as/flat"].map(|dir| rig.folder.join(dir));
    for (dir, files) in dirs.iter().zip([FILES, FILES - 1]) {
        fs::create_dir_all(dir).unwrap();
        (0..files).for_each(|n| drop(fs::File::create(dir.join(n.to_string())).unwrap()));
    }
    let said = rig.run(&["check".as_ref()]).await;
    assert_eq!(said.code, Some(0), "it is no failure: {said:?}");
    let lines: Vec<&str> = said.out.lines().filter(|line| line.contains("lie in one directory")).collect();
    let expected = format!(
        "warning folder {}: {FILES} files lie in one directory, {}; the server",
        printable(&rig.folder),
        printable(&dirs[0])
    );
    assert!(matches!(lines[..], [line] if line.starts_with(&expected)), "{said:?}");

    let pushed = rig.push().await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let said = rig.run(&["status".as_ref()]).await;
    let line = said.out.lines().find(|line| line.starts_with("  crowded"));
    let expected = format!("  crowded   {FILES} files in flat of the branch make the server slow");
    assert!(line.is_some_and(|line| line.starts_with(&expected)), "{said:?}");

    // Who lets the time name directories is not told of what the folder looks like.
    rig.write_config(&rig.config_text().replace("remote_dir = \"\"", "remote_path = \"{date}/{path}\""));
    let said = rig.run(&["check".as_ref()]).await;
    assert!(!said.out.contains("lie in one directory"), "{said:?}");
}

async fn check_says_what_a_run_would_find(site: &Arc<Site>) {
    let check: &[&OsStr] = &["check".as_ref()];
    let mut rig = Rig::new(site, "");
    rig.write("a", "1");
    let good = rig.config_text();
    let said = rig.run(check).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("will be made"), "the repository is still to come: {}", said.out);

    let bad = good.replace("quiet = \"100ms\"", "quiet = \"soon\"")
        + "\n[[folder]]\npath = \"relative\"\nrepo = \"nonamespace\"\ncolour = 1\n";
    rig.write_config(&bad);
    let said = rig.run(check).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    for needle in ["soon", "relative", "nonamespace", "colour"] {
        let line = bad.lines().position(|line| line.contains(needle)).unwrap() + 1;
        assert!(
            said.err.contains(&format!("oxen-sync.toml:{line}:")),
            "{needle} in line {line}:\n{}",
            said.err
        );
    }
    assert!(said.err.matches('^').count() >= 4, "{}", said.err);
    assert!(!rig.state_dir.exists(), "check makes nothing");

    rig.write_config(&good);
    rig.start();
    rig.settled().await;
    let said = rig.run(check).await;
    assert_eq!(said.code, Some(0), "beside the running service: {said:?}");
    rig.stop().await;

    rig.write_config(&good.replace(&rig.site.url, "http://127.0.0.1:9"));
    let said = rig.run(&["check".as_ref(), "--json".as_ref()]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(said.out.contains("127.0.0.1:9"), "{}", said.out);

    rig.write_config(&good.replace(rig.folder.to_str().unwrap(), "/nowhere/at/all"));
    let said = rig.run(check).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("FAILED  folder /nowhere/at/all"), "{}", said.out);
}
