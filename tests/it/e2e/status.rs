//! What is wrong is told, with its reason, and goes by itself once it is right again.

use std::fs;
use std::sync::Arc;

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report, TimerReport};
use serde_json::Value;

use super::on_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::schema::check_report;
use crate::support::site::Site;

on_both! {
    a_folder_that_is_gone_is_told_and_comes_back,
    status_knows_what_stands_while_nothing_runs,
}

fn is(state: FolderState) -> impl Fn(&Report) -> bool {
    move |report| report.folders[0].state == state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_waited_for() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::at_rest(&site, "", &[("a", "1")]).await;
    standin.go_down().await;
    rig.write("b", "2");
    let report = rig.until_status("it waits", is(FolderState::Waiting)).await;
    let folder = &report.folders[0];
    let why = folder.why.clone().unwrap();
    assert!(why.contains("127.0.0.1") && why.contains("refused"), "{why}");
    let retry = folder.retry.clone().unwrap();
    assert!(retry.next_at.parse::<jiff::Timestamp>().is_ok() && retry.attempts > 0, "{retry:?}");
    assert!(folder.waiting >= 1, "{folder:?}");
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(text.contains("refused"), "{text}");

    standin.come_up();
    rig.settled().await;
    let report = rig.until_status("it watches", is(FolderState::Watching)).await;
    assert!(report.folders[0].retry.is_none() && report.folders[0].why.is_none(), "{report:#?}");
    rig.assert_all_holds().await;
    let log = rig.log();
    assert!(
        log.matches("pushing failed").count() <= 3,
        "a line for a change of state, not for each try:\n{log}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_at_the_start_is_waited_for() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    standin.go_down().await;
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    rig.start();
    rig.until_status("it waits", is(FolderState::Waiting)).await;
    standin.come_up();
    rig.assert_all_holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_and_what_came_meanwhile_counts_once() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::at_rest(&site, "transport = \"workspace\"", &[("a", "1")]).await;
    site.gate().fault(Rule::on(Op::MergeWorkspace, Action::HangBefore));
    (0..5).for_each(|n| rig.write(&format!("first {n}"), format!("{n}")));
    let at_work =
        |report: &Report| report.folders[0].batch.as_ref().is_some_and(|batch| batch.step == "committing");
    let report = rig.until_status("it commits", at_work).await;
    assert_eq!(report.folders[0].waiting, 5);
    (0..3).for_each(|n| rig.write(&format!("then {n}"), format!("{n}")));
    rig.until_status("what came meanwhile waits too", |report| {
        let waiting = report.folders[0].waiting;
        assert!(waiting <= 8, "{waiting} wait");
        waiting == 8 && report.folders[0].busy == 0
    })
    .await;
    site.gate().cut_connections();
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Each timer that goes on at rest is one that `status` names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_wakes_the_service_at_rest_is_named() {
    let rig = Rig::at_rest(&Arc::new(Site::standin().await), "rescan_interval = \"7m\"", &[("a", "1")]).await;
    let report = rig.status().await.unwrap();
    let every = |timers: &[TimerReport]| timers.iter().map(|timer| timer.every_s).collect::<Vec<_>>();
    assert_eq!(every(&report.timers), [5.0, 30.0]);
    assert_eq!(every(&report.folders[0].timers), [5.0, 420.0, 420.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_stops_the_folder_and_not_the_service() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    standin.require_key("another");
    rig.write("b", "2");
    let report = rig.until_status("it is stopped", is(FolderState::Stopped)).await;
    let why = report.folders[0].why.clone().unwrap();
    assert!(why.contains("401") && why.contains("key"), "{why}");
    let requests = standin.requests();
    assert!(requests > 0);
    rig.stop().await;
    // Who starts it again has likely done something about it.
    rig.set_env("OXEN_API_KEY", "another");
    rig.start();
    rig.until_status("it watches", is(FolderState::Watching)).await;
    rig.until("b is on the branch", |rig| standin.tree(&rig.repo.to_string(), "main").contains_key("b"))
        .await;
    rig.stop().await;
}

async fn a_folder_that_is_gone_is_told_and_comes_back(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "on_delete = \"mirror\"", &[("a", "1")]).await;
    let away = rig.dir().join("away");
    fs::rename(&rig.folder, &away).unwrap();
    let report = rig.until_status("it is broken", is(FolderState::Broken)).await;
    let why = report.folders[0].why.clone().unwrap();
    assert!(why.contains(rig.folder.to_str().unwrap()), "{why}");
    fs::write(away.join("b"), "2").unwrap();
    rig.ledger.finished("b", b"2");
    fs::rename(&away, &rig.folder).unwrap();
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_never_was_is_told_apart_from_one_that_is_gone() {
    let mut rig = Rig::new(&Arc::new(Site::standin().await), "");
    fs::remove_dir(&rig.folder).unwrap();
    rig.start();
    let why = async |rig: &Rig| {
        let report = rig.until_status("it is broken", is(FolderState::Broken)).await;
        report.folders[0].why.clone().unwrap()
    };
    let said = why(&rig).await;
    assert!(said.contains("there is no folder") && !said.contains("gone"), "{said}");
    rig.write("a", "1");
    rig.assert_all_holds().await;
    rig.stop().await;
    fs::remove_dir_all(&rig.folder).unwrap();
    rig.start();
    let said = why(&rig).await;
    assert!(said.contains("it is gone"), "{said}");
    rig.stop().await;
}

async fn status_knows_what_stands_while_nothing_runs(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let json = async |rig: &Rig| -> Report {
        let said = rig.run(&["status".as_ref(), "--json".as_ref()]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let said: Value = serde_json::from_str(&said.out).unwrap();
        check_report(&said).unwrap();
        serde_json::from_value(said).unwrap()
    };
    let report = json(&rig).await;
    assert!(!report.running && report.folders.len() == 1, "{report:#?}");
    rig.write("a", "1");
    rig.write("d/b", "22");
    rig.write("back\\slash", "1");
    rig.left_out = vec![b"back\\slash".to_vec()];
    rig.start();
    rig.assert_all_holds().await;
    let running = json(&rig).await;
    assert!(running.running && running.pid.is_some(), "{running:#?}");
    rig.stop().await;
    let report = json(&rig).await;
    let folder = &report.folders[0];
    assert!(!report.running);
    assert_eq!((folder.state, folder.files, folder.bytes, folder.failed), (FolderState::NotRunning, 2, 3, 1));
    assert_eq!(folder.problems[0].path, "back\\\\slash");
    let last = folder.last_commit.clone().unwrap();
    assert_eq!(Some(last.id), rig.oracle().head().await);
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(text.contains("back\\\\slash") && text.contains("rename"), "{text}");
}

const KEY: &str = "k3y-nobody-may-ever-see";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_nowhere() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    standin.require_key(KEY);
    for by_file in [false, true] {
        let mut rig = Rig::new(&site, "");
        rig.set_env("OXEN_SYNC_LOG", "trace");
        let file = rig.dir().join("key");
        fs::write(&file, "wrong-k3y-too\n").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        if by_file {
            rig.write_config(
                &rig.config_text().replace("[server]\n", &format!("[server]\nkey_file = {file:?}\n")),
            );
        } else {
            rig.set_env("OXEN_API_KEY", "wrong-k3y-too");
        }
        rig.write("a", "1");
        let mut said = Vec::new();
        for right in [false, true] {
            match (right, by_file) {
                (true, true) => fs::write(&file, KEY).unwrap(),
                (true, false) => rig.set_env("OXEN_API_KEY", KEY),
                _ => {}
            }
            rig.start();
            let state = if right { FolderState::Watching } else { FolderState::Stopped };
            rig.until_status("the key is tried", is(state)).await;
            if right {
                rig.until("a is there", |rig| standin.tree(&rig.repo.to_string(), "main").contains_key("a"))
                    .await;
            }
            let cmdline = format!("/proc/{}/cmdline", rig.pid().as_raw_nonzero());
            said.push(fs::read_to_string(cmdline).unwrap());
            for args in [&["status"][..], &["status", "--json"], &["check"], &["check", "--json"]] {
                let args: Vec<_> = args.iter().map(std::convert::AsRef::as_ref).collect();
                let answer = rig.run(&args).await;
                said.extend([answer.out, answer.err]);
            }
            rig.stop().await;
            let answer = rig.push().await;
            assert_eq!(answer.code, Some(i32::from(!right)), "{answer:?}");
            said.extend([answer.out, answer.err]);
        }
        said.push(rig.log());
        said.push(rig.config_text());
        for text in &said {
            assert!(!text.contains("k3y"), "the key is told: {text}");
        }
        assert!(said.iter().any(|text| text.contains("401")), "it is told that it is refused");
        for file in fs::read_dir(&rig.state_dir).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
            assert!(!bytes.windows(3).any(|window| window == b"k3y"), "the key is in the state");
        }
    }
    assert!(standin.count(Op::FindRepo).requests > 0);
}
