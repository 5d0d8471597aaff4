//! A server that means harm costs time and neither memory nor truth: once an honest one stands in its place, the branch
//! holds what the folder holds.

use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};
use serde_json::json;

use crate::hostile::endless;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

fn waits(report: &Report) -> bool {
    report.folders[0].state == FolderState::Waiting
}

fn entry(name: &str, is_dir: bool) -> serde_json::Value {
    json!({ "filename": name, "is_dir": is_dir, "size": 7, "hash": "7" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_end_cost_little_memory() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "");
    for number in 0..10 {
        rig.write(&format!("d/{number}"), number.to_string());
    }
    let honest = rig.config_text();
    let server = endless("HTTP/1.1 200 OK\r\n\r\n", b"[");
    rig.write_config(&honest.replace(&site.url, &server.url));
    rig.start();
    let report = rig.until_status("it waits", waits).await;
    let why = report.folders[0].why.clone().unwrap();
    assert!(why.contains("more than") && why.contains("is an Oxen server's"), "{why}");

    // The longest list that is read at all, of the shortest entries there are.
    for (op, field, item) in [
        (Op::ListBranches, "branches", r#"{"name":"","commit_id":"1"}"#),
        (Op::ListDir, "entries", r#"{"filename":"","is_dir":true,"size":0,"hash":"0"}"#),
    ] {
        let items = vec![item; (60 << 20) / (item.len() + 1)].join(",");
        let list = format!("{{\"status\":\"success\",\"{field}\":[{items}]}}");
        standin.fault(Rule::on(op, Action::reply(200, &list)));
    }
    rig.write_config(&honest);
    rig.assert_all_holds().await;
    assert_eq!(standin.faults_left(), 0);
    let peak = rig.peak_memory_kib();
    assert!(peak < 256 << 10, "{peak} KiB of memory at the most");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_names_that_nobody_can_have_is_passed_over() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    for number in 0..10 {
        rig.write(&format!("d/{number}"), number.to_string());
    }
    // A directory that holds itself, for as long as it is asked.
    let long = "x".repeat(1 << 20);
    let names = ["..", ".", "", "/", "/etc/passwd", "a/b", "\0", ".oxen", "\\", "\u{1b}[2J", &long, "d", "d"];
    let entries: Vec<_> = names.iter().flat_map(|name| [entry(name, true), entry(name, false)]).collect();
    let body = json!({ "status": "success", "entries": entries, "total_pages": 2, "total_entries": 9 });
    standin.fault(Rule::on(Op::ListDir, Action::reply(200, &body.to_string())).times(60));
    // Names of commits and workspaces that lead elsewhere.
    let bad = json!({"status": "success", "branch": {"name": "main", "commit_id": "../../../other/repo"}});
    standin.fault(Rule::on(Op::ReadBranch, Action::reply(200, &bad.to_string())).after(1));
    rig.start();
    // Only then: whoever compares asks the same server.
    rig.until("the answers are used up", |_| standin.faults_left() == 0).await;
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
    let log = rig.log();
    assert!(!log.contains('\u{1b}') && !log.contains("passwd"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_that_is_none_is_not_believed() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::at_rest(&site, "", &[("first", "1")]).await;
    let commit = json!({"status": "success", "commit": {"id": "c0ffee"}}).to_string();
    let noise = json!({"status": "success", "commit": {"id": "\u{1b}[2J\n../.."}}).to_string();
    for body in [&commit, &noise] {
        standin.fault(Rule::on(Op::MergeWorkspace, Action::reply(200, body)));
        // Staged, it says, and is not; stored already, it says, and is not.
        let paths = json!({"status": "success", "paths": ["large", "../../x", "small"]}).to_string();
        standin.fault(Rule::on(Op::StageFiles, Action::reply(200, &paths)));
        let stored = json!({"status": "success", "file": "already_stored"}).to_string();
        standin.fault(Rule::on(Op::BeginUpload, Action::reply(200, &stored)));
        rig.write("small", body.len().to_string());
        rig.write("large", vec![body.len() as u8; 3 << 20]);
        rig.assert_all_holds().await;
        standin.clear_faults();
    }
    rig.assert_a_restart_changes_nothing().await;
    assert!(!rig.log().contains('\u{1b}'), "{}", rig.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_kept_waiting_for_ever_by_a_retry_after() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    for wait in ["18446744073709551615", "31536000", "Fri, 31 Dec 9999 23:59:59 GMT", "-5"] {
        let headers = vec![("retry-after", wait.to_owned())];
        standin.fault(Rule::any(Action::Reply { status: 429, headers, body: String::new() }).forever());
        rig.start();
        let report = rig.until_status("it waits", waits).await;
        let next = report.folders[0].retry.clone().unwrap().next_at.parse::<jiff::Timestamp>().unwrap();
        let wait_max = jiff::SignedDuration::from_secs(3700);
        assert!(next.duration_since(jiff::Timestamp::now()) < wait_max, "{wait}: {next}");
        // Who knows that the server is well again need not wait even that long.
        standin.clear_faults();
        rig.kick();
        tokio::time::timeout(Duration::from_secs(30), rig.assert_idle()).await.expect("it goes on");
        rig.stop().await;
    }
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}
