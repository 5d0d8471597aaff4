//! What the kernel gives only so much of - events, watches, watchers, descriptors - costs time when it runs out, and no
//! file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oxen_sync::status::Report;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::on_both;
use crate::support::means::{EventQueue, Inotify, tool};
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    more_events_than_the_kernel_keeps_lose_nothing,
    a_file_in_pieces_is_taken_whole_also_when_its_events_come_late,
}

async fn standin() -> Arc<Site> {
    Arc::new(Site::standin().await)
}

/// Writes 300 files again and again, until there were so many events. Directories that nobody watches yet give none.
fn storm(rig: &Rig, events: usize) {
    // Each is written and closed; the event after is another file's.
    for number in 0..events / 2 {
        let (path, content) =
            (format!("storm/{}/{}", number % 100, number / 100 % 3), format!("{number:06}"));
        match OpenOptions::new().write(true).open(rig.folder.join(&path)) {
            Ok(mut file) => {
                rig.ledger.finished(&path, content.as_bytes());
                file.write_all(content.as_bytes()).unwrap();
            }
            Err(_) => rig.write(&path, content),
        }
    }
}

async fn more_events_than_the_kernel_keeps_lose_nothing(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "on_delete = \"mirror\"");
    storm(&rig, 600);
    for dir in ["stays", "goes", "becomes another", "becomes a file"] {
        (0..3).for_each(|number| rig.write(&format!("{dir}/{number}"), dir));
    }
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    kill_process(rig.pid(), Signal::STOP).unwrap();
    storm(&rig, 50_000.max(EventQueue::LEN * 2));
    // From here on the kernel keeps no event.
    let at = |path: &str| rig.folder.join(path);
    fs::remove_dir_all(at("goes")).unwrap();
    fs::rename(at("becomes another"), at("another")).unwrap();
    (0..3).for_each(|number| rig.ledger.finished(&format!("another/{number}"), b"becomes another"));
    fs::remove_dir_all(at("becomes a file")).unwrap();
    rig.write("becomes a file", "1");
    rig.write("new/below/file", "1");
    rig.write("becomes another/file", "1");
    kill_process(rig.pid(), Signal::CONT).unwrap();
    rig.assert_all_holds().await;
    // And all is watched under the name that it has by now.
    for dir in ["stays", "another", "becomes another", "new/below"] {
        rig.write(&format!("{dir}/later"), dir);
    }
    rig.assert_all_holds().await;
    rig.assert_a_restart_changes_nothing().await;
}

/// Its events are not looked at for a second, since everything is in doubt: by what is known of it, it is quiet.
async fn a_file_in_pieces_is_taken_whole_also_when_its_events_come_late(site: &Arc<Site>) {
    const QUIET: Duration = Duration::from_millis(600);
    let mut rig = Rig::at_rest(site, "settle.quiet = \"600ms\"", &[("other", "1")]).await;
    // Only the whole of it may ever stand on the branch.
    let content: Vec<u8> = (0..100).collect();
    rig.ledger.finished("pieces", &content);
    let mut last = Instant::now();
    for (number, piece) in content.chunks(1).enumerate() {
        if last.elapsed() > QUIET / 2 {
            // Unless we were too slow.
            rig.ledger.finished("pieces", &content[..number]);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(rig.folder.join("pieces")).unwrap();
        file.write_all(piece).unwrap();
        drop(file);
        last = Instant::now();
        if number % 40 == 20 {
            rig.kick();
        }
        sleep(Duration::from_millis(30)).await;
    }
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_events_and_a_queue_of_128_lose_nothing() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    storm(&rig, 600);
    let Some(queue) = EventQueue::shorten(128) else { return };
    rig.start();
    rig.settled().await;
    drop(queue);
    storm(&rig, 50_000);
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Touches files that are left out, as fast as can be, until it goes.
struct Flood {
    stop: Arc<AtomicBool>,
    touches: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn over(folder: &Path) -> Self {
        let files: Vec<_> = (0..64).map(|number| folder.join(format!("flood {number}.tmp"))).collect();
        files.iter().for_each(|file| fs::write(file, "x").unwrap());
        let (stop, touches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&touches));
        let thread = std::thread::spawn(move || {
            for file in files.iter().cycle() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, touches, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Every second of it the kernel loses events, and everything is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_without_an_end_keeps_nothing_from_the_branch() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "");
    (0..200).for_each(|number| rig.write(&format!("{}/{number}", number % 20), format!("{number}")));
    let Some(queue) = EventQueue::shorten(128) else { return };
    rig.start();
    rig.settled().await;
    assert_eq!(rig.folder_status().await.scans, 1, "nothing was lost yet");
    let flood = Flood::over(&rig.folder);
    rig.write("d/small", "1");
    // It takes longer to read than all of the folder to scan.
    rig.write("d/large", vec![7; 60 << 20]);
    rig.settled().await;
    for number in 0..3 {
        rig.write(&format!("d/{number}/file"), "1");
        rig.write("d/small", format!("{number}"));
        rig.settled().await;
    }
    let touches = flood.touches.load(Ordering::Relaxed);
    drop(flood);
    drop(queue);
    assert!(touches > 100_000, "{touches} touches are no flood");
    let doubts = rig.folder_status().await.scans - 1;
    assert!(doubts >= 3, "everything was in doubt {doubts} times");
    rig.assert_all_holds().await;
    rig.stop().await;
}

fn coverage(report: &Report) -> Option<&str> {
    report.folders[0].coverage.as_deref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_watches_than_directories_cost_time_and_no_file() {
    let limits = Inotify { watches: 50, instances: 128 };
    let Some(wrapper) = limits.wrapper() else { return };
    let site = standin().await;
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"\nrescan_interval = \"1s\"");
    rig.set_wrapper(&wrapper);
    (0..200).for_each(|number| rig.write(&format!("{number}/file"), format!("{number}")));
    rig.start();
    rig.settled().await;
    let report = rig.until_status("it is told", |report| coverage(report).is_some()).await;
    let told = coverage(&report).unwrap();
    assert!(told.contains("sysctl fs.inotify.max_user_watches="), "{told}");
    // In every directory, whether it is watched or not, and in new ones.
    (0..200).for_each(|number| rig.write(&format!("{number}/later"), format!("{number}")));
    (0..20).for_each(|number| rig.write(&format!("new {number}/below/file"), format!("{number}")));
    fs::remove_dir_all(rig.folder.join("199")).unwrap();
    rig.assert_all_holds().await;
    // More are allowed: no restart is needed.
    Inotify { watches: 10_000, instances: 128 }.set(rig.pid());
    rig.until_status("all is watched", |report| {
        coverage(report).is_none() && report.folders[0].watched_dirs == 240
    })
    .await;
    rig.write("198/again", "1");
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_watcher_at_all_costs_time_and_no_file() {
    let limits = Inotify { watches: 10_000, instances: 0 };
    let Some(wrapper) = limits.wrapper() else { return };
    let site = standin().await;
    let mut rig = Rig::new(&site, "rescan_interval = \"1s\"");
    rig.set_wrapper(&wrapper);
    rig.write("d/a", "1");
    rig.start();
    rig.settled().await;
    let report = rig.until_status("it is told", |report| coverage(report).is_some()).await;
    assert!(coverage(&report).unwrap().contains("max_user_instances"), "{report:#?}");
    rig.write("d/b", "2");
    rig.write("e/c", "3");
    rig.assert_all_holds().await;
    Inotify { watches: 10_000, instances: 10 }.set(rig.pid());
    rig.until_status("all is watched", |report| {
        coverage(report).is_none() && report.folders[0].watched_dirs == 3
    })
    .await;
    rig.write("e/d", "4");
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Events are lost while no other watcher can be had, so nobody knows what is watched under which name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_cannot_begin_anew_are_in_doubt_until_they_can() {
    // One for the config, one for the folder.
    let limits = Inotify { watches: 10_000, instances: 2 };
    let Some(wrapper) = limits.wrapper() else { return };
    let site = standin().await;
    let mut rig = Rig::new(&site, "rescan_interval = \"1s\"");
    rig.set_wrapper(&wrapper);
    storm(&rig, 600);
    rig.write("one/a", "1");
    rig.write("two/b", "2");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    kill_process(rig.pid(), Signal::STOP).unwrap();
    storm(&rig, EventQueue::LEN * 2);
    let at = |path: &str| rig.folder.join(path);
    fs::rename(at("one"), at("x")).unwrap();
    fs::rename(at("two"), at("one")).unwrap();
    fs::rename(at("x"), at("two")).unwrap();
    rig.ledger.finished("one/b", b"2");
    rig.ledger.finished("two/a", b"1");
    kill_process(rig.pid(), Signal::CONT).unwrap();
    let report = rig.until_status("it is told", |report| coverage(report).is_some()).await;
    assert!(coverage(&report).unwrap().contains("lost events"), "{report:#?}");
    rig.write("one/later", "1");
    rig.write("two/later", "2");
    rig.assert_all_holds().await;
    Inotify { watches: 10_000, instances: 10 }.set(rig.pid());
    rig.until_status("all is watched", |report| coverage(report).is_none()).await;
    rig.write("one/last", "1");
    rig.write("two/last", "2");
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Sets how many descriptors a process may have from here on.
fn set_descriptors(pid: Pid, limit: u32) {
    let pid = pid.as_raw_nonzero().to_string();
    tool(&["prlimit", "--pid", &pid, &format!("--nofile={limit}:")]).expect("it is our process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_descriptors_are_enough() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "");
    rig.set_wrapper(&["prlimit", "--nofile=48:48"]);
    (0..300).for_each(|number| rig.write(&format!("{}/{number}", number % 30), format!("{number}")));
    (0..4).for_each(|number| rig.write(&format!("large {number}"), vec![number; 12 << 20]));
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_that_run_out_cost_time_and_no_file() {
    let site = standin().await;
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    (0..30).for_each(|number| rig.write(&format!("{number}/file"), format!("{number}")));
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    set_descriptors(rig.pid(), 10);
    (0..30).for_each(|number| rig.write(&format!("{number}/file"), format!("{number} again")));
    (0..30).for_each(|number| rig.write(&format!("new {number}/file"), format!("{number}")));
    fs::remove_dir_all(rig.folder.join("0")).unwrap();
    rig.until("it is told", |rig| rig.log().contains("Too many open files")).await;
    rig.kick();
    sleep(Duration::from_secs(3)).await;
    set_descriptors(rig.pid(), 1024);
    rig.assert_all_holds().await;
    let report = rig.until_status("no file is blamed", |report| report.folders[0].failed == 0).await;
    assert_eq!(coverage(&report), None);
    rig.write("1/later", "1");
    rig.assert_all_holds().await;
    rig.stop().await;
}
