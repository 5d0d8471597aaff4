//! A folder whose changes come from elsewhere, where the kernel tells of none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use crate::standin::{Action, Rule};
use crate::support::means::{Mount, is_root, leave_out};
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::tree::folder_tree;

/// The repository of a folder that hangs.
const HUNG: &str = "e2e/hung";

/// A rig whose folder is seen through FUSE, and the directory behind it; `None` where there is no FUSE.
async fn through_fuse(keys: &str) -> Option<(Rig, PathBuf, Mount)> {
    let rig = Rig::new(&Arc::new(Site::standin().await), keys);
    let behind = rig.dir().join("behind");
    fs::create_dir(&behind).unwrap();
    let mount = Mount::fuse(&behind, &rig.folder)?;
    Some((rig, behind, mount))
}

/// The mount remembers names and sizes for a second.
async fn until_shown(rig: &Rig, behind: &Path) {
    let all = folder_tree(behind, &rig.place, |_| false);
    rig.until("the mount shows what is behind it", |rig| {
        folder_tree(&rig.folder, &rig.place, |_| false) == all
    })
    .await;
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
    until_shown(&rig, &behind).await;
    rig.assert_all_holds().await;
    write(&rig, "d/b", "22");
    until_shown(&rig, &behind).await;
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
    until_shown(&rig, &behind).await;
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
    let is_broken = |report: &Report| report.folders[0].state == FolderState::Broken;
    rig.until_status("it is told", is_broken).await;
    assert_eq!(rig.oracle().head().await, head, "nothing is removed");
    let mount = Mount::fuse(&behind, &rig.folder).expect("it could be mounted before");
    rig.write("d/c", "3");
    rig.assert_all_holds().await;
    rig.stop().await;
    drop(mount);
}

/// A rig with a second folder that is seen through FUSE, and nothing in it; the directory behind that, and the folder.
/// `None` where there is no FUSE.
fn beside_fuse(site: &Arc<Site>, keys: &str, hung_keys: &str) -> Option<(Rig, PathBuf, PathBuf, Mount)> {
    let mut rig = Rig::new(site, keys);
    rig.set_env("OXEN_SYNC_SILENCE_MS", "2000");
    let (behind, hung) = (rig.dir().join("behind"), rig.dir().join("hung"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&hung).unwrap();
    let mount = Mount::fuse(&behind, &hung)?;
    let second = rig.folder_text(&hung, &HUNG.parse().unwrap(), hung_keys);
    rig.write_config(&(rig.config_text() + &second));
    Some((rig, behind, hung, mount))
}

/// Whoever serves the folder's files stands still, and with it every call that asks for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_hangs_is_told_and_holds_up_neither_other_folders_nor_a_stop() {
    let site = Arc::new(Site::standin().await);
    let Some((mut rig, behind, hung, mount)) = beside_fuse(&site, "", "rescan_interval = \"1s\"") else {
        return;
    };
    rig.write("a", "1");
    fs::write(behind.join("b"), "2").unwrap();
    rig.start();
    rig.settled().await;
    rig.until_status("both are pushed", |report| report.folders.iter().all(|folder| folder.files == 1)).await;
    let server = Stopped::serving(&hung).await;
    let is_told = |report: &Report| {
        let folder = &report.folders[1];
        folder.state == FolderState::Broken
            && folder.why.as_ref().is_some_and(|why| why.contains("does not answer (for "))
    };
    rig.until_status("it is told", is_told).await;
    fs::write(behind.join("c"), "3").unwrap();
    rig.write("d", "4");
    rig.settled().await;
    let report = rig.until_status("it reports", |report| report.folders[0].files == 2).await;
    assert!(is_told(&report), "{report:#?}");
    let threads_before = threads(rig.pid());
    sleep(Duration::from_secs(3)).await;
    assert!(threads(rig.pid()) <= threads_before, "the same call is waited for");
    drop(server);
    rig.until_status("it goes on", |report| report.folders[1].files == 2 && !is_told(report)).await;
    for said in ["does not answer (for ", "answers again"] {
        assert_eq!(rig.log().matches(said).count(), 1, "{said}");
    }

    let server = Stopped::serving(&hung).await;
    rig.until_status("it is told", is_told).await;
    let from = Instant::now();
    rig.stop().await;
    assert!(from.elapsed() < Duration::from_secs(5), "a stop waits for no folder: {:?}", from.elapsed());
    // From a start.
    rig.start();
    rig.write("e", "5");
    rig.settled().await;
    rig.until_status("it is told", is_told).await;
    rig.stop().await;
    drop(server);
    rig.start();
    fs::write(behind.join("f"), "6").unwrap();
    rig.until_status("both are pushed", |report| report.folders.iter().all(|folder| folder.files == 3)).await;
    rig.stop().await;
    drop(mount);
}

/// The memory for what is sent is shared by all folders of a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_hangs_while_it_is_sent_keeps_no_memory_from_the_others() {
    const FILES: u8 = 32;
    let site = Arc::new(Site::standin().await);
    let gate = site.gate();
    let Some((mut rig, behind, hung, mount)) = beside_fuse(&site, "", "rescan_interval = \"1s\"") else {
        return;
    };
    rig.write_config(&rig.config_text().replace("connect_timeout", "concurrency = 8\nconnect_timeout"));
    let many = rig.dir().join("many");
    fs::create_dir(&many).unwrap();
    (0..FILES).for_each(|n| fs::write(many.join(n.to_string()), vec![n; 1 << 20]).unwrap());
    rig.start();
    rig.until_status("they are watched", |report| {
        report.folders.iter().all(|folder| folder.state == FolderState::Watching)
    })
    .await;
    gate.fault(Rule::on(Op::OpenWorkspace, Action::Delay(Duration::from_secs(1))).path("hung"));
    let before = gate.count(Op::OpenWorkspace).requests;
    fs::rename(&many, behind.join("many")).unwrap();
    gate.until("it is on its way", |gate| gate.count(Op::OpenWorkspace).requests > before).await;
    let server = Stopped::serving(&hung).await;
    rig.until_status("it is told", |report| report.folders[1].state == FolderState::Broken).await;
    gate.clear_faults();
    rig.write("a", vec![7; 1 << 20]);
    rig.settled().await;
    drop(server);
    rig.until_status("it goes on", |report| report.folders[1].files == i64::from(FILES)).await;
    rig.stop().await;
    drop(mount);
}

/// Who writes to a file is asked of all processes, and theirs may lie anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_someone_writes_where_it_hangs_holds_up_no_folder_elsewhere() {
    if !is_root() {
        return leave_out("only root can give a file away");
    }
    let mut rig = Rig::new(&Arc::new(Site::standin().await), "");
    let (behind, elsewhere) = (rig.dir().join("behind"), rig.dir().join("elsewhere"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let Some(mount) = Mount::fuse(&behind, &elsewhere) else { return };
    // A process of its own: whoever starts another one closes what it has open there, and waits for that.
    let mut writer = Command::new("sh");
    writer.args(["-c", "exec 3>\"$0\"; read -r _"]).arg(elsewhere.join("long")).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    rig.until("it writes", |_| behind.join("long").exists()).await;
    let server = Stopped::serving(&elsewhere).await;
    // Without the right to ask the kernel for others' files, all processes are looked at.
    rig.set_wrapper(&["setpriv", "--bounding-set=-lease"]);
    rig.start();
    rig.write("a", "1");
    std::os::unix::fs::chown(rig.folder.join("a"), Some(1), Some(1)).unwrap();
    // What the mount remembers of the file is forgotten by then.
    sleep(Duration::from_secs(2)).await;
    rig.write("b", "2");
    std::os::unix::fs::chown(rig.folder.join("b"), Some(1), Some(1)).unwrap();
    rig.settled().await;
    rig.stop().await;
    drop(server);
    drop(writer.stdin.take());
    writer.wait().unwrap();
    drop(mount);
}

/// It is no reason to wait for ever, for whoever calls them in a script.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_and_push_end_when_a_folder_hangs() {
    let site = Arc::new(Site::standin().await);
    let create = "create_repo = true";
    let Some((rig, _behind, hung, mount)) = beside_fuse(&site, create, create) else { return };
    rig.write("a", "1");
    let server = Stopped::serving(&hung).await;
    let check = rig.run(&["check".as_ref()]).await;
    assert_eq!(check.code, Some(1), "{check:?}");
    let line = check.out.lines().find(|line| line.contains("does not answer")).expect(&check.out);
    assert!(line.starts_with("FAILED") && line.contains(hung.to_str().unwrap()), "{line}");
    assert!(check.out.contains("1 files in 1 directories can be read"), "the other is: {}", check.out);
    let push = rig.push().await;
    assert_eq!(push.code, Some(1), "{push:?}");
    assert!(push.out.contains("failed: the folder does not answer"), "{push:?}");
    rig.settled().await;
    drop(server);
    assert_eq!(rig.run(&["check".as_ref()]).await.code, Some(0));
    assert_eq!(rig.push().await.code, Some(0));
    drop(mount);
}

/// What hangs inside the folder is passed by, and said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_passes_by_a_mount_inside_the_folder_that_hangs() {
    let rig = Rig::new(&Arc::new(Site::standin().await), "create_repo = true");
    let (behind, inside) = (rig.dir().join("behind"), rig.folder.join("nas"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&inside).unwrap();
    rig.write("a", "1");
    let Some(mount) = Mount::fuse(&behind, &inside) else { return };
    let server = Stopped::serving(&inside).await;
    let check = rig.run(&["check".as_ref()]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.out.contains("1 files in 1 directories can be read"), "{}", check.out);
    let line = check.out.lines().find(|line| line.contains("nas")).expect(&check.out);
    assert!(line.starts_with("warning") && line.contains("another filesystem mounted"), "{line}");
    drop(server);
    drop(mount);
}

/// How many threads a process has.
fn threads(pid: rustix::process::Pid) -> usize {
    fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().count()
}

/// It is not asked for anything: what the kernel knows of it is enough to pass it by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_inside_the_folder_that_hangs_holds_up_nothing_else() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig =
        Rig::at_rest(&site, "on_delete = \"mirror\"\nrescan_interval = \"1s\"", &[("d/a", "1")]).await;
    let (behind, inside) = (rig.dir().join("behind"), rig.folder.join("nas"));
    fs::create_dir(&behind).unwrap();
    fs::create_dir(&inside).unwrap();
    let Some(mount) = Mount::fuse(&behind, &inside) else { return };
    // A look that began before the mount was there may be inside of it.
    rig.until_status("the mount is seen", |report| report.folders[0].skipped == 1).await;
    let server = Stopped::serving(&inside).await;
    // The folder cannot be walked from here by now, so the branch alone is looked at.
    let repo = rig.repo.to_string();
    let arrives = async |path: &str| {
        rig.write(path, path);
        standin.until(path, |standin| standin.tree(&repo, "main").contains_key(path)).await;
    };
    arrives("new directory/b").await;
    // Everything in doubt: all directories are watched anew, and all is scanned.
    rig.kick();
    arrives("another/new directory/c").await;
    rig.until_status("it is scanned", |report| {
        let folder = &report.folders[0];
        folder.skipped == 1 && folder.state == FolderState::Watching && folder.waiting == 0
    })
    .await;
    // Also from a start.
    rig.stop().await;
    rig.start();
    rig.write("while it starts", "4");
    standin.until("it starts", |standin| standin.tree(&repo, "main").contains_key("while it starts")).await;
    rig.stop().await;
    drop(server);
    drop(mount);
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// The process that serves a FUSE mount, standing still until this goes.
struct Stopped(rustix::process::Pid);

impl Stopped {
    async fn serving(mount: &Path) -> Self {
        let serves = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == mount.as_os_str().as_bytes())
                && line.starts_with(b"bindfs")
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pid = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(serves);
        let pid = rustix::process::Pid::from_raw(pid.expect("someone serves it")).unwrap();
        // A call that it has taken up already could not even be killed, and with it no process that made one.
        loop {
            kill_process(pid, Signal::STOP).unwrap();
            while !stands_still(pid) {}
            if waiting(mount) == 0 {
                return Self(pid);
            }
            kill_process(pid, Signal::CONT).unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn stands_still(pid: rustix::process::Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok())
        .all(|stat| stat.contains(") T "))
}

/// How many calls into a FUSE mount are under way, as far as the kernel tells.
fn waiting(mount: &Path) -> u64 {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let device = lines.find(|fields| Path::new(fields[4]) == mount).expect("it is mounted")[2].to_owned();
    let minor = device.split_once(':').unwrap().1;
    let told = fs::read_to_string(format!("/sys/fs/fuse/connections/{minor}/waiting"));
    told.ok().and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
