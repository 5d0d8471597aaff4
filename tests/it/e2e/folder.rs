//! What counts as a finished file, and what counts as the folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::FolderState;
use tokio::time::sleep;
use xxhash_rust::xxh3::Xxh3;

use super::on_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    a_log_that_never_rests_is_taken_as_it_was_at_one_moment,
    a_file_that_is_opened_for_each_of_its_pieces_is_taken_whole,
    an_ignore_file_counts_as_soon_as_it_changes,
    a_folder_that_comes_back_as_another_is_held_in_mirror_mode,
}

async fn a_log_that_never_rests_is_taken_as_it_was_at_one_moment(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "settle.quiet = \"300ms\"\nsettle.max_wait = \"1s\"");
    rig.write("other", "1");
    rig.start();
    let mut log = File::create(rig.folder.join("log")).unwrap();
    let (mut content, mut lines) = (Vec::new(), 0);
    let is_there = async |rig: &Rig| match rig.oracle().head().await {
        Some(head) => rig.oracle().tree(&head).await.contains_key("log"),
        None => false,
    };
    while !is_there(&rig).await {
        assert!(lines < 10_000, "it is never taken\n{}", rig.log());
        // At any moment it holds whole lines, and each of these states may be taken.
        content.extend_from_slice(format!("line {lines}\n").as_bytes());
        rig.ledger.finished("log", &content);
        log.write_all(&content[content.len() - format!("line {lines}\n").len()..]).unwrap();
        lines += 1;
        sleep(Duration::from_millis(20)).await;
    }
    drop(log);
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Reading it takes longer than its writer ever pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_log_that_never_rests_is_taken_too() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "settle.quiet = \"300ms\"\nsettle.max_wait = \"1s\"");
    let mut hash = Xxh3::new();
    let mut log = File::create(rig.folder.join("log")).unwrap();
    let mut grow = |rig: &Rig, more: &[u8]| {
        hash.update(more);
        rig.ledger.finished_as("log", hash.digest128());
        log.write_all(more).unwrap();
    };
    grow(&rig, &vec![7; 96 << 20]);
    rig.start();
    let standin = site.as_standin().unwrap();
    let repo = rig.repo.to_string();
    let mut lines = 0;
    while !standin.tree(&repo, "main").contains_key("log") {
        assert!(lines < 3_000, "it is never taken\n{}", rig.log());
        grow(&rig, format!("line {lines}\n").as_bytes());
        lines += 1;
        sleep(Duration::from_millis(10)).await;
    }
    drop(log);
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_file_that_is_opened_for_each_of_its_pieces_is_taken_whole(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "settle.quiet = \"2s\"");
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    let content: Vec<u8> = (0..200).map(|n| n as u8).collect();
    // Only the whole of it may ever stand on the branch.
    rig.ledger.finished("pieces", &content);
    for piece in content.chunks(5) {
        let mut file = OpenOptions::new().create(true).append(true).open(rig.folder.join("pieces")).unwrap();
        file.write_all(piece).unwrap();
        drop(file);
        sleep(Duration::from_millis(50)).await;
    }
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn an_ignore_file_counts_as_soon_as_it_changes(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.write(".oxenignore", "*.raw\n/scratch/\n");
    rig.write("a.raw", "1");
    rig.write("scratch/b", "2");
    rig.write("c", "3");
    rig.left_out = vec![b"a.raw".to_vec(), b"scratch/b".to_vec()];
    rig.start();
    rig.assert_all_holds().await;
    let tree = async |rig: &Rig| {
        let head = rig.oracle().head().await.unwrap();
        rig.oracle().tree(&head).await.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(tree(&rig).await, [".oxenignore", "c"]);
    rig.write(".oxenignore", "/scratch/\n");
    rig.left_out.remove(0);
    rig.assert_all_holds().await;
    fs::remove_file(rig.folder.join(".oxenignore")).unwrap();
    rig.left_out.clear();
    rig.assert_all_holds().await;
    // One that cannot be read is not taken for none.
    fs::create_dir(rig.folder.join(".oxenignore")).unwrap();
    let is_broken = |report: &oxen_sync::status::Report| report.folders[0].state == FolderState::Broken;
    let report = rig.until_status("it is told", is_broken).await;
    assert!(report.folders[0].why.as_ref().unwrap().contains(".oxenignore"), "{report:#?}");
    fs::remove_dir(rig.folder.join(".oxenignore")).unwrap();
    rig.write("d", "4");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_folder_that_comes_back_as_another_is_held_in_mirror_mode(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "on_delete = \"mirror\"", &[("a", "1"), ("d/b", "2")]).await;
    let head = rig.oracle().head().await;
    // The disk is gone, and the camera writes on into the directory below.
    let away = rig.dir().join("away");
    fs::rename(&rig.folder, &away).unwrap();
    fs::create_dir(&rig.folder).unwrap();
    fs::write(rig.folder.join("stray"), "3").unwrap();
    rig.kick();
    let is_held = |report: &oxen_sync::status::Report| {
        let why = report.folders[0].why.as_deref().unwrap_or_default();
        report.folders[0].state == FolderState::Broken && why.contains("not the directory it was")
    };
    rig.until_status("it is told", is_held).await;
    // Also from its start on.
    rig.stop().await;
    rig.start();
    rig.until_status("it is told again", is_held).await;
    assert_eq!(rig.oracle().head().await, head, "nothing is removed, and nothing strange is put");
    fs::remove_dir_all(&rig.folder).unwrap();
    fs::rename(&away, &rig.folder).unwrap();
    rig.write("e", "5");
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_that_the_server_has_sends_no_bytes() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    let content = vec![7; 3 << 20];
    rig.write("d/large", &content);
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let parts = standin.count(Op::PutPart).requests;
    assert!(parts > 0);
    rig.write("copy", &content);
    rig.settled().await;
    fs::rename(rig.folder.join("d"), rig.folder.join("renamed")).unwrap();
    rig.ledger.finished("renamed/large", &content);
    rig.assert_all_holds().await;
    assert_eq!(standin.count(Op::PutPart).requests, parts, "a copy and a rename send nothing");
    rig.stop().await;
}
