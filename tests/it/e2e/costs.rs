//! What work costs, counted and not timed, so that a machine with other things to do counts the same.

use std::fs;
use std::sync::Arc;

use oxen_sync::oxen::Op;

use super::push::holds;
use crate::standin::StandIn;
use crate::support::means::{leave_out, tool};
use crate::support::rig::Rig;
use crate::support::site::Site;

const DIRS: usize = 20;
const FILES: usize = 2_000;
const FILE_LEN: usize = 4 << 10;
const CONTENT_LEN: u64 = (FILES * FILE_LEN) as u64;

/// Requests so far, and the bytes of their bodies.
fn sent(standin: &StandIn) -> (u64, u64) {
    use Op::{
        BeginUpload, CreateRepo, MergeWorkspace, OpenWorkspace, PutFiles, PutPart, StageFiles, StageRemovals,
    };
    let with_bodies = [
        BeginUpload,
        CreateRepo,
        MergeWorkspace,
        OpenWorkspace,
        PutFiles,
        PutPart,
        StageFiles,
        StageRemovals,
    ];
    (standin.requests(), with_bodies.iter().map(|op| standin.count(*op).body_bytes).sum())
}

/// A folder of small files that differ.
fn rig_of_many(site: &Arc<Site>, keys: &str) -> Rig {
    let rig = Rig::new(site, keys);
    for n in 0..FILES {
        write(&rig, n, 0);
    }
    rig
}

fn write(rig: &Rig, n: usize, round: u8) {
    let mut content = vec![round; FILE_LEN];
    content[..8].copy_from_slice(&n.to_le_bytes());
    rig.write(&format!("run {}/image {n}.tif", n % DIRS), content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_sends_each_content_once_in_few_requests() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let rig = rig_of_many(&site, "");
    assert_eq!(rig.push().await.code, Some(0));
    let (requests, bytes) = sent(&standin);
    assert_eq!(standin.count(Op::MergeWorkspace).requests, 1);
    // One form for 125 files, one question for each directory before and after; the rest is the same for any number.
    let bound = FILES as u64 / 125 + 2 * DIRS as u64 + 20;
    assert!(requests <= bound, "{requests} requests, at most {bound}");
    assert!(bytes <= CONTENT_LEN + FILES as u64 * 300, "{bytes} bytes");

    let said = rig.push().await;
    assert_eq!(said.code, Some(0));
    let (after, after_bytes) = sent(&standin);
    assert!(after - requests <= 6, "{} requests to say that nothing has changed", after - requests);
    assert_eq!(after_bytes, bytes);

    for n in (0..FILES).step_by(100) {
        write(&rig, n, 1);
    }
    assert_eq!(rig.push().await.code, Some(0));
    let changed = (FILES / 100) as u64;
    let (requests, bytes) = (sent(&standin).0 - after, sent(&standin).1 - after_bytes);
    assert!(requests <= 2 * changed + 15, "{requests} requests");
    assert!(bytes <= changed * (FILE_LEN as u64 + 400) + 2_000, "{bytes} bytes for {changed} files");
    holds(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_directory_of_large_files_sends_less_than_a_mebibyte() {
    const LARGE: usize = 40;
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let rig = Rig::new(&site, "on_delete = \"mirror\"");
    // One of them is hashed in two steps.
    let content = |n: usize| vec![u8::try_from(n).unwrap(); if n == 0 { 40 << 20 } else { 3 << 20 }];
    for n in 0..LARGE {
        rig.write(&format!("d/{n}"), content(n));
    }
    assert_eq!(rig.push().await.code, Some(0));
    let (_, before) = sent(&standin);
    fs::rename(rig.folder.join("d"), rig.folder.join("e")).unwrap();
    for n in 0..LARGE {
        rig.ledger.finished(&format!("e/{n}"), &content(n));
    }
    assert_eq!(rig.push().await.code, Some(0));
    holds(&rig).await;
    let (_, after) = sent(&standin);
    assert!(after - before < 1 << 20, "{} bytes", after - before);
}

/// Runs `push` and says how often it asked the kernel for what, by `strace -f -c`.
async fn calls_of_a_push(rig: &mut Rig) -> Vec<(String, u64)> {
    let counts = rig.dir().join("calls");
    rig.set_wrapper(&["strace", "-f", "-c", "-o", counts.to_str().unwrap()]);
    let said = rig.push().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let table = fs::read_to_string(&counts).unwrap();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((*words.last()?).to_owned(), words.get(3)?.parse().ok()?))
    };
    table.lines().filter_map(row).filter(|(name, _)| name != "total").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_unchanged_files_asks_the_kernel_once_for_each() {
    if let Err(why) = tool(&["strace", "-f", "-c", "-o", "/dev/null", "true"]) {
        leave_out(&format!("strace may not trace here: {why}"));
        return;
    }
    let site = Arc::new(Site::standin().await);
    let mut rig = rig_of_many(&site, "");
    assert_eq!(rig.push().await.code, Some(0));
    let calls = calls_of_a_push(&mut rig).await;
    let of = |names: &[&str]| -> u64 {
        calls.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, count)| count).sum()
    };
    let stats = of(&["newfstatat", "statx", "fstat", "stat", "lstat"]);
    let (files, dirs) = (FILES as u64, DIRS as u64);
    assert!(
        (files..files + files / 10 + 2 * dirs).contains(&stats),
        "{stats} looks at {files} files: {calls:?}"
    );
    let opens = of(&["openat", "openat2", "open"]);
    assert!(opens <= dirs + 200, "{opens} opened, with {dirs} directories: {calls:?}");
    let reads = of(&["getdents64"]);
    assert!(reads <= 4 * (dirs + 1), "{reads} times read of {dirs} directories: {calls:?}");
}
