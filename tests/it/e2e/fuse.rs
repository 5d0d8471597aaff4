//! A folder whose changes come from elsewhere, where the kernel tells of none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::status::FolderState;
use tokio::time::sleep;

use crate::support::means::Mount;
use crate::support::rig::Rig;
use crate::support::site::Site;

/// A rig whose folder is seen through FUSE, and the directory behind it; `None` where there is no FUSE.
async fn through_fuse(keys: &str) -> Option<(Rig, PathBuf, Mount)> {
    let rig = Rig::new(&Arc::new(Site::standin().await), keys);
    let behind = rig.dir().join("behind");
    fs::create_dir(&behind).unwrap();
    let mount = Mount::fuse(&behind, &rig.folder)?;
    Some((rig, behind, mount))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_behind_a_fuse_mount_arrives_by_scans() {
    let keys = "on_delete = \"mirror\"\nrescan_interval = \"1s\"";
    let Some((mut rig, behind, mount)) = through_fuse(keys).await else { return };
    let write = |rig: &Rig, path: &str, content: &str| {
        rig.ledger.finished(path, content.as_bytes());
        fs::create_dir_all(behind.join(path).parent().unwrap()).unwrap();
        fs::write(behind.join(path), content).unwrap();
    };
    write(&rig, "a", "1");
    write(&rig, "d/b", "2");
    rig.start();
    rig.assert_all_holds().await;
    let report = rig.status().await.unwrap();
    assert!(report.folders[0].coverage.as_ref().unwrap().contains("FUSE"), "{report:#?}");
    write(&rig, "d/c", "3");
    write(&rig, "e/f/g", "4");
    fs::remove_file(behind.join("a")).unwrap();
    // And from this side.
    rig.write("own", "5");
    sleep(Duration::from_millis(1_500)).await; // what the mount remembers of names that are gone
    rig.assert_all_holds().await;
    write(&rig, "d/b", "22");
    sleep(Duration::from_millis(1_500)).await;
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
    drop(mount);
}

/// Nobody here has it open, and the mount remembers for a second how large it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_grows_behind_a_fuse_mount_is_taken_whole() {
    let keys = "rescan_interval = \"1s\"\nsettle.quiet = \"400ms\"";
    let Some((mut rig, behind, mount)) = through_fuse(keys).await else { return };
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    let content: Vec<u8> = (0..60).collect();
    rig.ledger.finished("pieces", &content);
    for piece in content.chunks(1) {
        let mut file = OpenOptions::new().create(true).append(true).open(behind.join("pieces")).unwrap();
        file.write_all(piece).unwrap();
        drop(file);
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(1_500)).await;
    rig.assert_all_holds().await;
    rig.stop().await;
    drop(mount);
}

/// The process behind it ends, and the folder is no more than an error until it is mounted again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuse_mount_that_breaks_removes_nothing_and_comes_back() {
    let keys = "on_delete = \"mirror\"\nrescan_interval = \"1s\"";
    let Some((mut rig, behind, mount)) = through_fuse(keys).await else { return };
    rig.write("a", "1");
    rig.write("d/b", "2");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let head = rig.oracle().head().await;
    drop(mount);
    let is_broken = |report: &oxen_sync::status::Report| report.folders[0].state == FolderState::Broken;
    rig.until_status("it is told", is_broken).await;
    assert_eq!(rig.oracle().head().await, head, "nothing is removed");
    let mount = Mount::fuse(&behind, &rig.folder).expect("it could be mounted before");
    rig.write("d/c", "3");
    rig.assert_all_holds().await;
    rig.stop().await;
    drop(mount);
}
