//! A server that is killed and starts again, or comes back from a backup.

use std::sync::Arc;
use std::time::Duration;

use super::work::Work;
use crate::support::rig::Rig;
use crate::support::site::Site;

/// How often it is killed.
const KILLS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_at_any_moment_is_waited_for() {
    let Some((site, server)) = Site::real_of_its_own().await else { return };
    let mut rig = Rig::new(
        &Arc::new(site),
        "on_delete = \"mirror\"\nbatch.quiet = \"0s\"\ndelete_brake.share = \"100%\"",
    );
    let mut work = Work::in_folder_of(&rig);
    (0..10).for_each(|_| work.change());
    rig.write("first", "1");
    rig.start();
    // Half a repository is what oxen-server 0.65.2 leaves where it ends while it makes one, and it finds no way back.
    rig.until_status("the repository is made", |report| {
        report.folders.iter().any(|folder| folder.last_commit.is_some())
    })
    .await;
    for _ in 0..KILLS {
        let until = Duration::from_millis(work.rng().u64(100..900));
        work.run(u32::try_from(until.as_millis() / 50).unwrap(), until).await;
        server.kill();
        work.change();
        server.start_again().await;
    }
    work.finish();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_from_a_backup_does_not_have_is_pushed_again() {
    let Some((site, server)) = Site::real_of_its_own().await else { return };
    let mut rig = Rig::new(&Arc::new(site), "rescan_interval = \"1s\"");
    let backup = rig.dir().join("backup");
    rig.write("a/1", "1");
    rig.write("b", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    server.kill();
    server.back_up(&backup);
    server.start_again().await;
    rig.write("a/2", "2");
    rig.write("b", "2");
    rig.settled().await;
    rig.assert_idle().await;
    server.kill();
    server.restore(&backup);
    server.start_again().await;
    rig.assert_all_holds().await;
    assert!(rig.log().contains("the branch has lost files"), "{}", rig.log());

    // And while nothing runs.
    rig.write("c", "3");
    rig.settled().await;
    rig.assert_idle().await;
    rig.stop().await;
    server.kill();
    server.restore(&backup);
    server.start_again().await;
    rig.start();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
}
