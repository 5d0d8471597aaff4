//! Which folder goes first where several have something to send.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use oxen_sync::oxen::Op;
use oxen_sync::status::Report;

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::{Site, fresh_id};

before_both! {
    a_folder_waits_while_one_of_a_higher_priority_is_sent,
    a_folder_of_a_higher_priority_waits_for_none_of_a_lower,
}

/// The rig's own folder goes last; another one, whose path and repository are returned, goes first.
fn rig_with_two(site: &Arc<Site>) -> (Rig, PathBuf, String) {
    let rig = Rig::new(site, "priority = 1\ntransport = \"workspace\"");
    let (first, repo) = (rig.dir().join("first"), format!("e2e/{}", fresh_id()));
    fs::create_dir(&first).unwrap();
    let more = rig.folder_text(&first, &repo.parse().unwrap(), "priority = 9\ntransport = \"workspace\"");
    rig.write_config(&(rig.config_text() + &more));
    (rig, first, repo)
}

fn files(report: &Report) -> Vec<i64> {
    report.folders.iter().map(|folder| folder.files).collect()
}

async fn a_folder_waits_while_one_of_a_higher_priority_is_sent(site: &Arc<Site>) {
    let (mut rig, first, repo) = rig_with_two(site);
    let gate = site.gate();
    rig.start();
    rig.assert_idle().await;
    gate.fault(Rule::on(Op::StageFiles, Action::HangBefore).path(&repo));
    fs::write(first.join("a"), "1").unwrap();
    rig.until("it is being sent", |_| gate.faults_left() == 0).await;
    let before = gate.count(Op::StageFiles);
    rig.write("b", "2");
    let report = rig.until_status("the other one waits", |report| report.folders[0].behind).await;
    assert_eq!(report.folders[0].why, None, "nothing is wrong with it");
    let path = rig.folder.join("b");
    let why = rig.run(&["why".as_ref(), path.as_os_str()]).await;
    assert!(why.out.contains("waits for folders of a higher priority"), "{why:?}");
    let status = rig.run(&["status".as_ref()]).await;
    assert!(status.out.contains("waits for folders of a higher priority"), "{status:?}");
    assert_eq!(gate.count(Op::StageFiles), before, "nothing of it was sent");
    gate.cut_connections();
    rig.until_status("both are sent", |report| files(report) == [1, 1] && !report.folders[0].behind).await;
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_folder_of_a_higher_priority_waits_for_none_of_a_lower(site: &Arc<Site>) {
    let (mut rig, first, _) = rig_with_two(site);
    let gate = site.gate();
    rig.start();
    rig.assert_idle().await;
    let last = rig.repo.to_string();
    gate.fault(Rule::on(Op::StageFiles, Action::HangBefore).path(&last));
    rig.write("b", "2");
    rig.until("it is being sent", |_| gate.faults_left() == 0).await;
    fs::write(first.join("a"), "1").unwrap();
    rig.until_status("the other one goes by", |report| files(report) == [0, 1]).await;
    gate.cut_connections();
    rig.assert_all_holds().await;
    rig.stop().await;
}
