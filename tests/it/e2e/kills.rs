//! A program that is killed at any moment loses nothing, doubles nothing and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use oxen_sync::oxen::Op;

use super::work::Work;
use super::{MIRROR_WITHOUT_BRAKE, on_both};
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    kills_at_random_moments_lose_and_double_nothing,
    kills_while_batches_set_out_early_lose_and_double_nothing,
    #[ignore = "takes minutes: tests/run --long"]
    long_kills_at_random_moments_lose_and_double_nothing,
}

async fn kills_at_random_moments_lose_and_double_nothing(site: &Arc<Site>) {
    kill_often(site, 15).await;
}

async fn kills_while_batches_set_out_early_lose_and_double_nothing(site: &Arc<Site>) {
    kill_often_and(site, 15, Rig::set_out_early).await;
}

async fn long_kills_at_random_moments_lose_and_double_nothing(site: &Arc<Site>) {
    kill_often(site, 500).await;
    let another = Arc::new(site.another().await);
    kill_often_and(&another, 500, Rig::set_out_early).await;
}

async fn kill_often(site: &Arc<Site>, kills: u32) {
    kill_often_and(site, kills, |_| {}).await;
}

async fn kill_often_and(site: &Arc<Site>, kills: u32, set: fn(&mut Rig)) {
    // Batches close at once, so that most kills meet one under way.
    let mut rig = Rig::new(site, &format!("{MIRROR_WITHOUT_BRAKE}\nbatch.quiet = \"0s\""));
    set(&mut rig);
    let mut work = Work::in_folder_of(&rig);
    if let Some(standin) = site.as_standin() {
        // As slow as a real one.
        standin.fault(Rule::any(Action::Delay(Duration::from_millis(20))).forever());
    }
    (0..10).for_each(|_| work.change());
    for _ in 0..kills {
        rig.start();
        let until = Duration::from_millis(work.rng().u64(0..700));
        work.run(u32::try_from(until.as_millis() / 60).unwrap() + 1, until).await;
        rig.kill();
        work.change();
    }
    work.finish();
    rig.start();
    if let Some(standin) = site.as_standin() {
        standin.clear_faults();
    }
    let commits = rig.assert_all_holds().await;
    let cut_off = rig.log().matches("a batch that was under way is settled").count();
    assert!(cut_off * 20 >= kills as usize, "of {kills} kills only {cut_off} met a batch under way");
    rig.assert_a_restart_changes_nothing().await;
    eprintln!(
        "{kills} kills, {cut_off} of them met a batch under way: {} files in {commits} commits",
        rig.wanted().len()
    );
}

/// A rig that is killed while the answer to its commit does not come, whether or not the commit is made.
async fn killed_while_committing(keys: &str, commits: Op, action: Action) -> (Arc<Site>, Rig) {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::at_rest(&site, keys, &[("first", "1")]).await;
    standin.fault(Rule::on(commits, action));
    rig.write("d/a", "1");
    rig.write("d/b", "2");
    let before = standin.count(commits).requests;
    standin.until("the commit is asked for", |s| s.count(commits).requests > before).await;
    standin.until("the fault is met", |s| s.faults_left() == 0).await;
    rig.kill();
    (site, rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_cut_off_by_a_kill_is_made_once() {
    for (transport, commits) in [("workspace", Op::MergeWorkspace), ("put", Op::PutFiles)] {
        for action in [Action::HangBefore, Action::HangAfter] {
            let keys = format!("transport = \"{transport}\"");
            let (_site, mut rig) = killed_while_committing(&keys, commits, action).await;
            rig.start();
            rig.assert_all_holds().await;
            rig.assert_a_restart_changes_nothing().await;
        }
    }
}

/// A PUT that nobody heard the end of is waited for, for some seconds. No life lasts that long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_that_are_all_short_get_on_together() {
    let (site, mut rig) =
        killed_while_committing("transport = \"put\"", Op::PutFiles, Action::HangBefore).await;
    let standin = site.as_standin().unwrap();
    let repo = rig.repo.to_string();
    let is_there = || standin.tree(&repo, "main").contains_key("d/a");
    let mut lives = 0;
    while !is_there() {
        assert!(lives < 40, "they never get on\n{}", rig.log());
        lives += 1;
        rig.start();
        // The life itself.
        sleep(Duration::from_millis(1_200)).await;
        rig.kill();
    }
    assert!(lives > 1, "one of them was enough");
    rig.start();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
}

/// Nothing new is to be pushed after the start, so nothing but the start itself can see to what was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_of_a_killed_life_goes_even_where_nothing_is_left_to_push() {
    let keys = "transport = \"workspace\"\non_delete = \"mirror\"";
    let (site, mut rig) = killed_while_committing(keys, Op::MergeWorkspace, Action::HangBefore).await;
    std::fs::remove_dir_all(rig.folder.join("d")).unwrap();
    assert_eq!(rig.oracle().workspaces().await.len(), 1, "it is there to be cleared up");
    rig.start();
    let standin = site.as_standin().unwrap();
    let repo = rig.repo.to_string();
    standin.until("the workspace is gone", |s| s.workspaces(&repo).is_empty()).await;
    rig.assert_all_holds().await;
}

/// Power is gone while parts of a large file are on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_cut_off_by_a_kill_begins_again() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    standin.set_parts(1 << 20, 2);
    let mut rig = Rig::new(&site, "");
    rig.write("large", vec![7; 5 << 20]);
    standin.fault(Rule::on(Op::PutPart, Action::HangBefore).after(2).times(1));
    rig.start();
    standin.until("parts are on their way", |s| s.count(Op::PutPart).requests >= 3).await;
    rig.kill();
    rig.start();
    rig.assert_all_holds().await;
}
