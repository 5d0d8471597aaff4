//! A program that is killed at any moment loses nothing, doubles nothing and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use tokio::time::sleep;

use super::on_both;
use super::work::Work;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    kills_at_random_moments_lose_and_double_nothing,
    #[ignore = "takes minutes"]
    long_kills_at_random_moments_lose_and_double_nothing,
}

async fn kills_at_random_moments_lose_and_double_nothing(site: &Arc<Site>) {
    kill_often(site, 15).await;
}

async fn long_kills_at_random_moments_lose_and_double_nothing(site: &Arc<Site>) {
    kill_often(site, 200).await;
}

async fn kill_often(site: &Arc<Site>, kills: u32) {
    let mut rig = Rig::new(site, "on_delete = \"mirror\"");
    let mut work = Work::in_folder_of(&rig);
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
    let commits = rig.assert_all_holds().await;
    rig.stop().await;
    eprintln!("{kills} kills: {} files in {commits} commits", rig.wanted().len());
}

/// A server that holds the request which commits until it is told to go on.
async fn killed_while_committing(keys: &str, path: &str, content: &[u8]) -> (Arc<Site>, Rig) {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, keys);
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    standin.fault(Rule::on(Op::MergeWorkspace, Action::HangBefore));
    rig.write(path, content);
    let before = standin.count(Op::MergeWorkspace).requests;
    standin.until("the commit is asked for", |s| s.count(Op::MergeWorkspace).requests > before).await;
    rig.kill();
    (site, rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_cut_off_by_a_kill_is_made_once() {
    let (_site, mut rig) = killed_while_committing("transport = \"workspace\"", "d/a", b"1").await;
    rig.start();
    rig.assert_all_holds().await;
}

/// Nothing new is to be pushed after the start, so nothing but the start itself can see to what was under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_of_a_killed_life_goes_even_where_nothing_is_left_to_push() {
    let keys = "transport = \"workspace\"\non_delete = \"mirror\"";
    let (site, mut rig) = killed_while_committing(keys, "d/a", b"1").await;
    std::fs::remove_file(rig.folder.join("d/a")).unwrap();
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
    sleep(Duration::from_millis(10)).await;
    rig.start();
    rig.assert_all_holds().await;
}
