//! A batch that is staged while it is still being collected.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::{Site, client};

before_both! {
    what_is_collected_is_staged_before_it_is_due_and_committed_once,
    a_path_that_changes_meanwhile_comes_with_the_next_commit,
    a_path_that_changes_before_it_is_staged_is_in_its_batch_once,
    an_end_while_a_batch_is_collected_leaves_nothing_behind,
    a_workspace_that_is_lost_while_a_batch_is_collected_is_made_anew,
    a_directory_that_another_puts_in_a_files_place_meanwhile_is_seen,
}

/// Long enough for what a test does while a batch is collected.
const KEYS: &str =
    "on_delete = \"mirror\"\nsettle.quiet = \"100ms\"\nbatch.quiet = \"5s\"\nbatch.max_wait = \"60s\"";

/// A rig at rest, with the number of forms and commits that were asked for.
async fn at_rest(site: &Arc<Site>) -> (Rig, u64, u64) {
    let mut rig = Rig::new(site, KEYS);
    rig.set_out_early();
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    let gate = site.gate();
    (rig, gate.count(Op::StageFiles).requests, gate.count(Op::MergeWorkspace).requests)
}

async fn staged(site: &Arc<Site>, forms: u64) {
    site.gate().until("it is staged", |gate| gate.count(Op::StageFiles).requests >= forms).await;
}

async fn what_is_collected_is_staged_before_it_is_due_and_committed_once(site: &Arc<Site>) {
    let (rig, forms, commits) = at_rest(site).await;
    rig.write("a", "1");
    staged(site, forms + 1).await;
    assert_eq!(site.gate().count(Op::MergeWorkspace).requests, commits, "nothing is committed yet");
    rig.write("b", "2");
    staged(site, forms + 2).await;
    assert_eq!(site.gate().count(Op::MergeWorkspace).requests, commits, "nor now");
    rig.until_status("a batch that is collected is told", |report| {
        let folder = &report.folders[0];
        folder.waiting == 2 && folder.batch.as_ref().is_some_and(|batch| batch.files == 2)
    })
    .await;
    rig.assert_all_holds().await;
    assert_eq!(site.gate().count(Op::MergeWorkspace).requests, commits + 1);
    let commits = rig.oracle().commits().await;
    let last = commits.last().unwrap();
    assert!(last.message.contains("2 added"), "{:?}", last.message);
}

async fn a_path_that_changes_meanwhile_comes_with_the_next_commit(site: &Arc<Site>) {
    let (rig, forms, commits) = at_rest(site).await;
    rig.write("changes", "1");
    rig.write("becomes a directory", "1");
    staged(site, forms + 1).await;
    rig.write("changes", "2");
    fs::remove_file(rig.folder.join("becomes a directory")).unwrap();
    rig.write("becomes a directory/file", "2");
    rig.write("first", "2");
    rig.assert_all_holds().await;
    let after = site.gate().count(Op::MergeWorkspace).requests;
    assert!(
        after >= commits + 2,
        "what was staged is a version of its own: {after} commits, {commits} before"
    );
    assert_nothing_failed(&rig).await;
}

async fn assert_nothing_failed(rig: &Rig) {
    let done = rig.folder_status().await.done.unwrap();
    assert_eq!(done.failed_tries, 0, "{}", rig.log());
}

/// What it was when it set out, and what it is, are one file of the batch, also where that begins anew.
async fn a_path_that_changes_before_it_is_staged_is_in_its_batch_once(site: &Arc<Site>) {
    let (rig, forms, _) = at_rest(site).await;
    let gate = site.gate();
    gate.fault(Rule::on(Op::OpenWorkspace, Action::Delay(Duration::from_secs(1))));
    let opened = gate.count(Op::OpenWorkspace).requests;
    rig.write("changes", "1");
    rig.write("stays", "1");
    gate.until("they set out", |gate| gate.count(Op::OpenWorkspace).requests > opened).await;
    rig.write("changes", "another");
    staged(site, forms + 1).await;
    gate.fault(Rule::on(Op::StageFiles, Action::reply(500, "")).forever());
    rig.until_status("it has tried", |report| report.folders[0].retry.is_some()).await;
    gate.clear_faults();
    rig.kick();
    rig.assert_all_holds().await;
    assert!(rig.log().contains("the server answered 500"), "{}", rig.log());
    assert!(!rig.log().contains("database"), "{}", rig.log());
}

async fn an_end_while_a_batch_is_collected_leaves_nothing_behind(site: &Arc<Site>) {
    let (mut rig, ..) = at_rest(site).await;
    for (number, end) in [true, false].into_iter().enumerate() {
        rig.write(&format!("file {number}"), "1");
        // To the end of the request: what is still at work on the server lands whenever it likes, and goes with a later look.
        rig.until_status("it is staged", |report| {
            report.folders[0].batch.as_ref().is_some_and(|batch| batch.files_sent == 1)
        })
        .await;
        if end {
            rig.stop().await;
            rig.oracle().assert_no_workspaces().await;
        } else {
            rig.kill();
        }
        rig.start();
        rig.assert_all_holds().await;
    }
}

async fn lose_workspaces(rig: &Rig, site: &Site) {
    let other = client(&site.url);
    for workspace in rig.oracle().workspaces().await {
        other.delete_workspace(&rig.repo, &workspace).await.unwrap();
    }
}

async fn a_workspace_that_is_lost_while_a_batch_is_collected_is_made_anew(site: &Arc<Site>) {
    let (rig, forms, _) = at_rest(site).await;
    let commits = rig.oracle().commits().await.len();
    rig.write("a", "1");
    staged(site, forms + 1).await;
    lose_workspaces(&rig, site).await;
    rig.write("b", "2");
    rig.assert_all_holds().await;
    // Both with one commit, or one after the other where the loss is met while the first is on its way.
    let made = rig.oracle().commits().await.len() - commits;
    assert!((1..=2).contains(&made), "{made} commits for two files");
}

/// The server would say yes, list the file, and be unable to hand it out.
async fn a_directory_that_another_puts_in_a_files_place_meanwhile_is_seen(site: &Arc<Site>) {
    let (mut rig, forms, _) = at_rest(site).await;
    rig.left_out.push("taken".into());
    rig.write("taken", "1");
    staged(site, forms + 1).await;
    let theirs = format!("{}/theirs", rig.on_branch("taken"));
    site.commit(&rig.repo, &[(&theirs, "2")]).await;
    rig.write("b", "2");
    rig.until_status("the file is set aside, and the other one there", |report| {
        report.folders[0].failed == 1 && report.folders[0].files == 2
    })
    .await;
    assert_eq!(site.read(&rig.repo, &theirs).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(site.read(&rig.repo, &rig.on_branch("b")).await.as_deref(), Some(&b"2"[..]));
}
