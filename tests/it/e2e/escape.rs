//! Whoever can write into a folder cannot make the service read what lies outside of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oxen_sync::content::{OpenError, RootDir};
use oxen_sync::path::LocalPath;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::on_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    a_directory_swapped_for_a_link_all_the_time_leads_nowhere,
    a_file_swapped_for_what_is_none_all_the_time_leads_nowhere,
    a_hard_link_is_a_file_of_the_folder,
}

/// Exchanges two paths as fast as it can until it is dropped; then the first is as it was.
struct Swapper {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&count));
        let swap = move || renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                swap();
                std::thread::yield_now();
                swap();
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// How often both were swapped and swapped back.
    fn stop(mut self) -> u64 {
        self.end();
        self.count.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let done = thread.join();
            assert!(done.is_ok() || std::thread::panicking(), "the paths can be exchanged");
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.end();
    }
}

/// Bytes that no ledger knows: the oracle finds them wherever they are on the branch.
fn secrets(dir: &Path) {
    fs::create_dir_all(dir.join("below")).unwrap();
    for name in ["same", "below/same", "only outside"] {
        fs::write(dir.join(name), format!("a secret of {name}")).unwrap();
    }
}

/// Lets the service look, hash and send while the swapping goes on.
async fn go_on(rig: &Rig, round: &str, touched: &[&str]) {
    for number in 0..20 {
        for path in touched {
            // It stands here or there at this moment; either way something has happened.
            let _ = rustix::fs::utimensat(
                CWD,
                rig.folder.join(path),
                &rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
                    last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
                },
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            );
        }
        rig.write(&format!("beside {round}/{number}"), number.to_string());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn a_directory_swapped_for_a_link_all_the_time_leads_nowhere(site: &Arc<Site>) {
    let mut rig =
        Rig::new(site, "settle.quiet = \"0s\"\nsettle.max_wait = \"100ms\"\nrescan_interval = \"1s\"");
    let outside = rig.dir().join("outside");
    secrets(&outside);
    for name in ["d/same", "d/below/same"] {
        rig.write(name, format!("inside {name}"));
    }
    let link = rig.dir().join("link");
    symlink(&outside, &link).unwrap();
    let swapper = Swapper::start(rig.folder.join("d"), link);
    rig.start();
    go_on(&rig, "0", &["d", "d/same", "d/below/same"]).await;
    let swaps = swapper.stop();
    assert!(swaps > 100, "{swaps} swaps are no race");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_file_swapped_for_what_is_none_all_the_time_leads_nowhere(site: &Arc<Site>) {
    let mut rig =
        Rig::new(site, "settle.quiet = \"0s\"\nsettle.max_wait = \"100ms\"\nrescan_interval = \"1s\"");
    let outside = rig.dir().join("outside");
    secrets(&outside);
    let at = |name: &str| rig.dir().join(name);
    symlink(outside.join("same"), at("link")).unwrap();
    symlink("/proc/self/environ", at("magic link")).unwrap();
    symlink("/dev/zero", at("link to a device")).unwrap();
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("directory/same"), "").unwrap();
    let mut others = vec!["link", "magic link", "link to a device", "pipe", "directory"];
    // /dev/zero itself, where we may make one.
    let zero = rustix::fs::makedev(1, 5);
    if mknodat(CWD, at("device"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), zero).is_ok() {
        others.push("device");
    }
    rig.ledger.finished("swapped for directory/same", b"");
    let names: Vec<String> = others.iter().map(|other| format!("swapped for {other}")).collect();
    for name in &names {
        rig.write(name, format!("inside {name}"));
    }
    let swappers: Vec<_> = names
        .iter()
        .zip(&others)
        .map(|(name, other)| Swapper::start(rig.folder.join(name), rig.dir().join(other)))
        .collect();
    rig.start();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    go_on(&rig, "0", &names).await;
    for swapper in swappers {
        let swaps = swapper.stop();
        assert!(swaps > 100, "{swaps} swaps are no race");
    }
    // What the branch took for a directory keeps its name; the folder's file of this name is told.
    rig.left_out = vec![b"swapped for directory".to_vec()];
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Nobody can tell which of a file's names it had first.
async fn a_hard_link_is_a_file_of_the_folder(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let outside = rig.dir().join("outside");
    fs::write(&outside, "of both").unwrap();
    rig.ledger.finished("linked", b"of both");
    fs::hard_link(&outside, rig.folder.join("linked")).unwrap();
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[test]
fn no_open_follows_a_link_however_fast_it_is_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, outside) = (dir.path().join("folder"), dir.path().join("outside"));
    secrets(&outside);
    fs::create_dir_all(folder.join("d")).unwrap();
    for path in ["d/same", "f"] {
        fs::write(folder.join(path), "inside").unwrap();
    }
    symlink(&outside, dir.path().join("link")).unwrap();
    symlink(outside.join("same"), dir.path().join("link to a file")).unwrap();
    let root = RootDir::open(&folder).unwrap();
    for (path, swapped, other) in [("d/same", "d", "link"), ("f", "f", "link to a file")] {
        let path = LocalPath::new(path.as_ref()).unwrap();
        let swapper = Swapper::start(folder.join(swapped), dir.path().join(other));
        let (mut inside, mut nowhere) = (0, 0);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while inside < 2000 || nowhere < 2000 {
            assert!(std::time::Instant::now() < deadline, "{inside} and {nowhere} are no race");
            match root.open_file(&path) {
                Ok(opened) => {
                    assert_eq!(std::io::read_to_string(&opened.file).unwrap(), "inside", "{path}");
                    inside += 1;
                }
                // Or it was moved out of the folder at that very moment, which the kernel tells as another file system.
                Err(OpenError::Symlink | OpenError::Gone | OpenError::Mounted) => nowhere += 1,
                Err(error) => panic!("{path}: {error}"),
            }
        }
        drop(swapper);
    }
}
