//! Disks that fill up, go away, come back, and are mounted in the way.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};

use crate::standin::{Action, Rule};
use crate::support::means::{Mount, leave_out, tool};
use crate::support::rig::Rig;
use crate::support::site::Site;

async fn standin() -> Arc<Site> {
    Arc::new(Site::standin().await)
}

/// Takes all room that a disk has left.
struct Filler {
    file: PathBuf,
}

impl Filler {
    fn on(disk: &Path) -> Self {
        let file = disk.join("filler");
        let mut open = File::create(&file).unwrap();
        let mut chunk = vec![1; 1 << 20];
        loop {
            match open.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull && chunk.len() > 1 => {
                    chunk.truncate(chunk.len() / 2);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    return Self { file };
                }
            }
        }
    }

    /// Gives so many bytes back.
    fn give_back(&self, bytes: u64) {
        let file = OpenOptions::new().write(true).open(&self.file).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(bytes)).unwrap();
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A rig whose state lies on a small disk of its own; `None` where nothing can be mounted.
async fn with_small_state_disk(keys: &str) -> Option<(Arc<Site>, Rig, Mount)> {
    let site = standin().await;
    let rig = Rig::new(&site, keys);
    fs::create_dir(&rig.state_dir).unwrap();
    let disk = Mount::tmpfs(&rig.state_dir, 8 << 10)?;
    Some((site, rig, disk))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_disk_that_fills_up_is_told_and_costs_time_and_no_file() {
    let Some((_site, mut rig, disk)) = with_small_state_disk("on_delete = \"mirror\"").await else { return };
    (0..100).for_each(|number| rig.write(&format!("{}/{number}", number % 10), format!("{number}")));
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let filler = Filler::on(&rig.state_dir);
    (0..300).for_each(|number| rig.write(&format!("{}/{number}", number % 10), format!("{number} again")));
    fs::remove_dir_all(rig.folder.join("9")).unwrap();
    let is_told = |report: &Report| {
        report.folders[0].why.as_deref().is_some_and(|why| why.contains("the disk of state_dir"))
    };
    rig.until_status("it is told", is_told).await;
    // Room for some writes, and not for others.
    for number in 0..6 {
        filler.give_back(16 << 10);
        rig.write("0/more", format!("{number}"));
        rig.kick();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // A kill while there is none left.
    drop(filler);
    let filler = Filler::on(&rig.state_dir);
    rig.write("0/more", "killed");
    rig.until_status("it is told again", is_told).await;
    rig.kill();
    let said = rig.log().lines().count();
    rig.start();
    rig.until("it has met the full disk", |rig| rig.log().lines().count() > said + 1).await;
    drop(filler);
    if rig.status().await.is_none() {
        // It may have ended, since there was no room to begin with; systemd starts it again.
        rig.kill();
        rig.start();
    }
    rig.until_status("it runs", |_| true).await;
    rig.kick();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
    assert!(!rig.log().contains("is rebuilt"), "a full disk says nothing against the state");
    drop(disk);
}

/// What was committed cannot be written down: the branch is asked once there is room, and nothing is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_full_state_disk_cannot_remember_is_made_once() {
    for (transport, commits) in [("workspace", Op::MergeWorkspace), ("put", Op::PutFiles)] {
        let keys = format!("transport = \"{transport}\"");
        let Some((site, mut rig, disk)) = with_small_state_disk(&keys).await else { return };
        let standin = site.as_standin().unwrap();
        rig.write("first", "1");
        rig.start();
        rig.settled().await;
        rig.assert_idle().await;
        let before = standin.count(commits).requests;
        standin.fault(Rule::on(commits, Action::Delay(Duration::from_millis(500))));
        (0..50).for_each(|number| rig.write(&format!("d/{number}"), format!("{number}")));
        standin.until("the commit is asked for", |s| s.count(commits).requests > before).await;
        let filler = Filler::on(&rig.state_dir);
        let is_told = |report: &Report| {
            report.folders[0].why.as_deref().is_some_and(|why| why.contains("the disk of state_dir"))
        };
        rig.until_status("it is told", is_told).await;
        let sent = standin.count(commits).requests;
        assert_eq!(sent, before + 1);
        rig.write("d/later", "1");
        drop(filler);
        rig.kick();
        rig.assert_all_holds().await;
        assert!(rig.log().contains("a batch that was under way is settled"), "{}", rig.log());
        rig.assert_a_restart_changes_nothing().await;
        drop(disk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_the_folder_may_be_full() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "");
    let Some(disk) = Mount::tmpfs(&rig.folder, 1 << 10) else { return };
    rig.write("d/a", "1");
    rig.start();
    rig.settled().await;
    let filler = Filler::on(&rig.folder);
    let whole = fs::read(rig.folder.join("filler")).unwrap();
    rig.ledger.finished("filler", &whole);
    rig.assert_all_holds().await;
    drop(filler);
    rig.write("d/b", vec![7; 200 << 10]);
    rig.assert_all_holds().await;
    rig.stop().await;
    drop(disk);
}

fn is_held(what: &str) -> impl Fn(&Report) -> bool {
    move |report| {
        let why = report.folders[0].why.as_deref().unwrap_or_default();
        report.folders[0].state == FolderState::Broken && why.contains(what)
    }
}

/// The folder's disk is pulled out from under the service, another one is put in, and the first comes back.
async fn pull_the_disk(on_delete: &str) {
    let site = standin().await;
    let mut rig = Rig::new(&site, &format!("on_delete = \"{on_delete}\""));
    let (disk, other) = (rig.dir().join("disk"), rig.dir().join("other"));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&other).unwrap();
    let Some(mounted) = Mount::bind(&disk, &rig.folder) else { return };
    rig.write("a", "1");
    rig.write("d/b", "2");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    assert!(!mounted.unmount(), "a folder that is watched is busy");

    // Gone: what is left is the empty directory that it was mounted over.
    drop(mounted);
    rig.until_status("it is told", is_held("is a disk not mounted?")).await;
    let head = rig.oracle().head().await;
    // Whole again.
    let mounted = Mount::bind(&disk, &rig.folder).expect("it could be mounted before");
    rig.write("d/after", "3");
    rig.assert_all_holds().await;

    // Another one, empty. Only for haste is it told to look now.
    let look_now = |rig: &Rig| rig.kick();
    drop(mounted);
    let mounted = Mount::bind(&other, &rig.folder).expect("it could be mounted before");
    look_now(&rig);
    rig.until_status("it is told", is_held("is empty and not the directory it was")).await;
    let files = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(files.into_keys().collect::<Vec<_>>(), ["a", "d/after", "d/b"], "nothing is removed");
    rig.write("new", "4");
    if on_delete == "keep" {
        rig.assert_all_holds().await;
    } else {
        rig.until_status("it is told", is_held("with on_delete = \"mirror\" nothing is done")).await;
    }
    let files = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert!(files.contains_key("a") && files.contains_key("d/after"), "nothing is removed");

    // And the first, with a change that was made elsewhere.
    drop(mounted);
    fs::remove_file(disk.join("a")).unwrap();
    rig.ledger.finished("d/b", b"changed elsewhere");
    fs::write(disk.join("d/b"), "changed elsewhere").unwrap();
    let mounted = Mount::bind(&disk, &rig.folder).expect("it could be mounted before");
    look_now(&rig);
    rig.assert_all_holds().await;
    rig.write("d/last", "5");
    rig.assert_all_holds().await;
    assert_ne!(rig.oracle().head().await, head);
    rig.assert_a_restart_changes_nothing().await;
    drop(mounted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_pulled_out_and_comes_back_costs_no_file() {
    pull_the_disk("keep").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_pulled_out_removes_nothing_in_mirror_mode() {
    pull_the_disk("mirror").await;
}

/// Changes that were taken in are on their way, or wait for the server, when there is nothing left to read them from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_the_server_waits_for_a_disk_that_is_pulled_out_too() {
    let site = standin().await;
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    let disk = rig.dir().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(mounted) = Mount::bind(&disk, &rig.folder) else { return };
    for path in ["a", "d/b", "d/c"] {
        rig.write(path, "1");
    }
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    standin.fault(Rule::any(Action::reply(500, "")).forever());
    fs::remove_file(rig.folder.join("a")).unwrap();
    rig.write("d/b", "22");
    rig.write("large", vec![7; 3 << 20]);
    let has_tried =
        |report: &Report| report.folders[0].retry.as_ref().is_some_and(|retry| retry.attempts >= 2);
    rig.until_status("it has tried", has_tried).await;
    drop(mounted);
    rig.until_status("it is told", is_held("is a disk not mounted?")).await;
    // The server is well again before the disk is.
    standin.clear_faults();
    rig.kick();
    rig.until("it asks for the folder", |rig| rig.log().contains("cannot be read")).await;
    let files = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(files.into_keys().collect::<Vec<_>>(), ["a", "d/b", "d/c"], "nothing is removed");
    // Meanwhile the removal was undone elsewhere.
    fs::write(disk.join("a"), "1").unwrap();
    let mounted = Mount::bind(&disk, &rig.folder).expect("it could be mounted before");
    rig.kick();
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
    drop(mounted);
}

/// The same filesystem under another device number, as after a USB disk was plugged in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_comes_back_as_another_device_is_the_same_folder() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    let (image, between) = (rig.dir().join("image"), rig.dir().join("between"));
    let mut other = None;
    let mut devices = Vec::new();
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    if let Err(why) = tool(&["mkfs.ext4".as_ref(), "-q".as_ref(), image.as_os_str()]) {
        return leave_out(&format!("no filesystem can be made in a file: {why}"));
    }
    fs::copy(&image, &between).unwrap();
    for round in 0..2 {
        let Some(mounted) = Mount::image(&image, &rig.folder) else { return };
        devices.push(std::os::unix::fs::MetadataExt::dev(&fs::metadata(&rig.folder).unwrap()));
        rig.left_out = vec![b"lost+found".to_vec()];
        rig.write("d/a", "1");
        rig.write(&format!("d/round {round}"), format!("{round}"));
        rig.start();
        rig.assert_all_holds().await;
        rig.stop().await;
        assert!(mounted.unmount(), "nobody uses it any more");
        if round == 0 {
            // Its number goes to another disk meanwhile.
            let place = rig.dir().join("place");
            fs::create_dir(&place).unwrap();
            other = Mount::image(&between, &place);
        }
    }
    assert_ne!(devices[0], devices[1]);
    drop(other);
}

/// A mount hides what lies below it; that is not gone, and is there again as soon as nothing is mounted any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_mount_inside_the_folder_hides_is_not_gone() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    for dir in ["disk", "bound", "free"] {
        rig.write(&format!("{dir}/a"), dir);
        rig.write(&format!("{dir}/below/b"), dir);
    }
    rig.write("bound file", "1");
    let elsewhere = rig.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("strange"), "never to be pushed").unwrap();
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let at = |path: &str| rig.folder.join(path);
    let Some(disk) = Mount::tmpfs(&at("disk"), 1 << 10) else { return };
    let bound = Mount::bind(&elsewhere, &at("bound")).expect("something could be mounted");
    let file =
        Mount::bind(&elsewhere.join("strange"), &at("bound file")).expect("something could be mounted");
    fs::write(at("disk/strange"), "never to be pushed").unwrap();
    // By a scan of everything, by its events, and after a restart.
    rig.kick();
    rig.until_status("they are passed over", |report| report.folders[0].skipped >= 2).await;
    fs::write(at("disk/stranger"), "never to be pushed").unwrap();
    fs::write(at("bound/stranger"), "never to be pushed").unwrap();
    rig.ledger.finished("free/a", b"meanwhile");
    fs::write(at("free/a"), "meanwhile").unwrap();
    let pushed = |files: i64| {
        move |report: &Report| report.folders[0].waiting == 0 && report.folders[0].files == files
    };
    rig.until_status("all is quiet", pushed(7)).await;
    rig.stop().await;
    rig.start();
    rig.until_status("they are passed over", |report| report.folders[0].skipped >= 2).await;
    rig.assert_idle().await;
    let files = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(files.len(), 7, "{files:?}");
    drop((disk, bound, file));
    // Nothing tells of that; without a restart, and long before the next comparison of everything:
    rig.write("disk/after", "1");
    rig.write("bound/below/after", "1");
    rig.write("bound file", "2");
    rig.assert_all_holds().await;
    let report = rig.until_status("no file is blamed", |report| report.folders[0].failed == 0).await;
    assert_eq!(report.folders[0].files, 9);
    rig.stop().await;
}
