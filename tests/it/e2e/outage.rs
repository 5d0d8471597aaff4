//! A server that is away while much arrives.

use std::sync::Arc;

use super::before_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

before_both! {
    what_arrives_while_the_server_is_away_is_caught_up_in_few_commits,
    #[ignore = "takes many minutes: tests/run --long"]
    long_what_arrives_while_the_server_is_away_is_caught_up_in_few_commits,
}

async fn what_arrives_while_the_server_is_away_is_caught_up_in_few_commits(site: &Arc<Site>) {
    be_away(site, 3_000).await;
}

async fn long_what_arrives_while_the_server_is_away_is_caught_up_in_few_commits(site: &Arc<Site>) {
    be_away(site, 100_000).await;
}

async fn be_away(site: &Arc<Site>, files: usize) {
    let mut rig = Rig::new(site, "batch.max_files = 5000");
    rig.patience *= 15;
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    site.gate().go_down().await;
    for n in 0..files {
        rig.write(&format!("d{}/file {n}", n % 100), format!("content of {n}"));
    }
    let report = rig.until_status("it is told", |report| report.folders[0].retry.is_some()).await;
    assert!(report.folders[0].waiting > 0, "{report:#?}");
    rig.until_status("it goes on trying", |report| {
        report.folders[0].retry.as_ref().is_some_and(|retry| retry.attempts >= 3)
    })
    .await;
    let lines = rig.log().lines().count();
    assert!(lines < 15, "the log tells of changes and not of tries: {}", rig.log());
    site.gate().come_up();
    rig.kick();
    let wanted = rig.settled().await;
    rig.assert_idle().await;
    let oracle = rig.oracle();
    oracle.assert_no_workspaces().await;
    let commits = oracle.assert_history(&rig.ledger).await;
    let peak = rig.peak_memory_kib();
    eprintln!("{} files after an outage: {commits} commits, peak memory {peak} KiB", wanted.len());
    // The server's first one, the first file's, and some more than there must be.
    assert!(commits <= files / 5_000 + 5, "{commits} commits");
    assert!(peak <= 128 << 10, "peak memory {peak} KiB");
    rig.assert_a_restart_changes_nothing().await;
}
