//! Several machines on one branch.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::on_both;
use super::work::Work;
use crate::support::ledger::Ledger;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::tree::{Tree, differences};

on_both! {
    eight_machines_on_one_branch_lose_nothing,
    #[ignore = "takes minutes: tests/run --long"]
    long_eight_machines_on_one_branch_lose_nothing,
    two_machines_on_the_same_paths_lose_no_version_and_come_to_rest,
}

const MACHINES: usize = 8;
/// How long a branch must stay as it is to be at rest.
const REST: Duration = Duration::from_secs(3);

async fn eight_machines_on_one_branch_lose_nothing(site: &Arc<Site>) {
    many_machines(site, 30, Duration::from_secs(6)).await;
}

async fn long_eight_machines_on_one_branch_lose_nothing(site: &Arc<Site>) {
    many_machines(site, 400, Duration::from_secs(120)).await;
}

async fn many_machines(site: &Arc<Site>, changes: u32, time: Duration) {
    let repo = site.empty_repo().await.to_string();
    let ledger = Arc::<Ledger>::default();
    let mut rigs: Vec<Rig> = (0..MACHINES)
        .map(|n| {
            let mut rig = Rig::of(
                site,
                &repo,
                "main",
                &format!("rig-{n}"),
                "on_delete = \"mirror\"\ndelete_brake.share = \"100%\"",
            );
            rig.ledger = Arc::clone(&ledger);
            if n % 2 == 0 {
                rig.set_out_early();
            }
            // What the others put there is not this one's.
            rig.is_mirror = false;
            rig
        })
        .collect();
    let mut works: Vec<Work> = rigs.iter().map(Work::in_folder_of).collect();
    rigs.iter_mut().for_each(Rig::start);
    join_all(works.iter_mut().map(|work| work.run(changes, time))).await;
    works.iter_mut().for_each(Work::finish);
    join_all(rigs.iter().map(Rig::settled)).await;
    join_all(rigs.iter().map(Rig::assert_idle)).await;

    let oracle = rigs[0].oracle();
    let all: Tree = rigs.iter().flat_map(Rig::wanted).collect();
    let head = oracle.head().await.unwrap();
    let found = oracle.tree(&head).await;
    assert_eq!(differences(&all, &found, true), None, "all that all of them hold, and nothing else");
    for rig in &rigs {
        oracle.assert_bytes(&rig.folder, &rig.place, &rig.wanted()).await;
    }
    oracle.assert_no_workspaces().await;
    let commits = oracle.assert_history(&ledger).await;
    eprintln!("{MACHINES} machines, {} changes: {} files in {commits} commits", changes * 8, all.len());
    sleep(REST).await;
    assert_eq!(oracle.head().await.unwrap(), head, "they come to rest");
    for rig in &mut rigs {
        rig.stop().await;
    }
}

/// The one that writes last has the last word, and each finished version is in the history.
async fn two_machines_on_the_same_paths_lose_no_version_and_come_to_rest(site: &Arc<Site>) {
    let repo = site.empty_repo().await.to_string();
    let ledger = Arc::new(Ledger::shared());
    let mut rigs: Vec<Rig> = (0..2)
        .map(|_| {
            let mut rig = Rig::of(site, &repo, "main", "", "rescan_interval = \"2s\"");
            rig.ledger = Arc::clone(&ledger);
            rig
        })
        .collect();
    rigs.iter_mut().for_each(Rig::start);
    // In turn: what is there is what was written last.
    for n in 0..6 {
        let rig = &rigs[n % 2];
        rig.write("shared/in turn", format!("version {n}"));
        rig.write(&format!("own/{}", n % 2), format!("{n}"));
        rig.settled_but(&["shared/at once"]).await;
    }
    // At once: one of them is there, and nobody goes on for ever.
    for n in 0..6 {
        for (number, rig) in rigs.iter().enumerate() {
            rig.write("shared/at once", format!("version {n} of {number}"));
        }
        sleep(Duration::from_millis(300)).await;
    }
    join_all(rigs.iter().map(Rig::assert_idle)).await;
    let oracle = rigs[0].oracle();
    let head = oracle.head().await.unwrap();
    sleep(REST).await;
    assert_eq!(oracle.head().await.unwrap(), head, "they come to rest");

    let at_once = site.read(&rigs[0].repo, "shared/at once").await.unwrap();
    let last = |number: usize| format!("version 5 of {number}").into_bytes();
    assert!(at_once == last(0) || at_once == last(1), "{:?}", String::from_utf8_lossy(&at_once));
    assert_eq!(site.read(&rigs[0].repo, "shared/in turn").await.unwrap(), b"version 5");
    let mut versions = Vec::new();
    for commit in oracle.commits().await {
        let tree = oracle.tree(&commit.id).await;
        if let Some(content) = tree.get("shared/in turn")
            && versions.last() != Some(content)
        {
            versions.push(*content);
        }
    }
    assert_eq!(versions.len(), 6, "no version is lost: {versions:?}");
    oracle.assert_no_workspaces().await;
    oracle.assert_history(&ledger).await;
    for rig in &mut rigs {
        rig.stop().await;
    }
}
