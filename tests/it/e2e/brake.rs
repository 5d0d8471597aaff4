//! Nothing goes from the branch because a folder was emptied by mistake: the brake of `on_delete = "mirror"`.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxen_sync::path::printable;
use oxen_sync::status::Report;
use serde_json::Value;
use tokio::time::sleep;

use super::on_both;
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

on_both! {
    a_folder_that_is_emptied_at_once_keeps_its_files_on_the_branch_and_pushes_on,
    a_folder_that_is_emptied_while_nothing_runs_keeps_its_files_and_gets_them_back,
    push_exits_with_one_while_removals_are_held,
    a_large_deletion_goes_or_stays_as_a_whole,
    a_file_in_place_of_a_held_directory_waits_for_the_release,
    a_folder_that_gets_another_name_for_everything_is_not_held,
}

// However slow the machine is, no deletion takes longer than is waited for its end.
const MIRROR: &str = "on_delete = \"mirror\"\nbatch.max_wait = \"1m\"";
const TOLD: &str = "so nothing is removed from the branch";

/// A rig that has pushed this many files in some directories.
async fn with_files(site: &Arc<Site>, keys: &str, count: usize) -> Rig {
    let mut rig = Rig::new(site, keys);
    (0..count).for_each(|number| rig.write(&path(number), number.to_string()));
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    rig
}

fn path(number: usize) -> String {
    format!("d{}/file {number}", number % 4)
}

fn remove(rig: &Rig, numbers: impl IntoIterator<Item = usize>) {
    numbers.into_iter().for_each(|number| fs::remove_file(rig.folder.join(path(number))).unwrap());
}

/// Writes files as they were.
fn write_again(rig: &Rig, numbers: impl IntoIterator<Item = usize>) {
    numbers.into_iter().for_each(|number| rig.write(&path(number), number.to_string()));
}

fn holds(files: u64) -> impl Fn(&Report) -> bool {
    move |report| report.folders[0].held == files
}

async fn paths(rig: &Rig) -> Vec<String> {
    rig.oracle().tree(&rig.oracle().head().await.unwrap()).await.into_keys().collect()
}

async fn release(rig: &Rig) -> Said {
    rig.run(&["release".as_ref()]).await
}

async fn a_folder_that_is_emptied_at_once_keeps_its_files_on_the_branch_and_pushes_on(site: &Arc<Site>) {
    let mut rig = with_files(site, MIRROR, 24).await;
    (0..4).for_each(|dir| fs::remove_dir_all(rig.folder.join(format!("d{dir}"))).unwrap());
    let report = rig.until_status("all are held", holds(24)).await;
    let since = report.folders[0].held_since.clone().unwrap();
    assert!(since.parse::<jiff::Timestamp>().is_ok(), "{since}");
    rig.write("new", "goes on");
    rig.until_status("it is pushed", |report| report.folders[0].files == 1).await;
    assert_eq!(paths(&rig).await.len(), 25, "nothing is removed");
    let text = rig.run(&["status".as_ref()]).await.out;
    let command = format!("oxen-sync release {} --config {}", printable(&rig.folder), printable(&rig.config));
    assert!(text.contains("24 removals") && text.contains(&command), "{text}");
    assert!(text.contains("1 here and on the branch (7 B), 24 there alone (held)"), "{text}");

    // A restart holds them still, and says so once more.
    rig.stop().await;
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(text.contains("24 removals"), "also while nothing runs: {text}");
    rig.start();
    rig.assert_idle().await;
    let folder = rig.folder_status().await;
    assert_eq!((folder.held, folder.held_since), (24, Some(since)));
    // What is removed while some are held is held too.
    fs::remove_file(rig.folder.join("new")).unwrap();
    rig.until_status("it is held", holds(25)).await;
    assert_eq!(paths(&rig).await.len(), 25);
    assert_eq!(rig.log().matches(TOLD).count(), 2, "once in each life\n{}", rig.log());

    let said = release(&rig).await;
    assert!(said.code == Some(0) && said.out.contains("25 removals let go; the service"), "{said:?}");
    rig.settled().await;
    rig.write("last", "1");
    rig.assert_all_holds().await;
    rig.until("it is told", |rig| rig.log().contains("no removal is held any more")).await;
    assert_eq!(rig.folder_status().await.held, 0);
    let said = release(&rig).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "nothing is held\n"));
    rig.stop().await;
}

async fn a_folder_that_is_emptied_while_nothing_runs_keeps_its_files_and_gets_them_back(site: &Arc<Site>) {
    let mut rig = with_files(site, MIRROR, 24).await;
    let head = rig.oracle().head().await;
    rig.stop().await;
    remove(&rig, 0..24);
    rig.start();
    rig.until_status("all are held", holds(24)).await;
    rig.kill();
    rig.start();
    rig.until_status("all are held still", holds(24)).await;
    write_again(&rig, 0..23);
    rig.until_status("one is left", holds(1)).await;
    rig.stop().await;
    write_again(&rig, [23]);
    rig.start();
    rig.until_status("none is held", holds(0)).await;
    rig.until("it is told", |rig| rig.log().contains("no removal is held any more")).await;
    rig.assert_all_holds().await;
    assert_eq!(rig.oracle().head().await, head, "nothing had to be committed");
    // The brake is off.
    remove(&rig, [0, 5]);
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn push_exits_with_one_while_removals_are_held(site: &Arc<Site>) {
    let rig = Rig::new(site, MIRROR);
    write_again(&rig, 0..24);
    assert_eq!(rig.push().await.code, Some(0));
    let head = rig.oracle().head().await;
    remove(&rig, 0..24);
    let said = rig.push().await;
    let command = format!("oxen-sync release {} --config", printable(&rig.folder));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("REMOVALS ARE HELD"), "{said:?}");
    assert!(said.out.contains("24 removals held") && said.out.contains(&command), "{said:?}");
    assert_eq!(rig.oracle().head().await, head);
    rig.write("new", "goes on");
    let said = rig.run(&["push".as_ref(), "--json".as_ref()]).await;
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let folder = &json["folders"][0];
    assert_eq!((said.code, &folder["held"], &folder["files"]), (Some(1), &24.into(), &1.into()));
    assert_eq!(paths(&rig).await.len(), 25);

    let said = rig.run(&["release".as_ref(), "/not/of/the/config".as_ref()]).await;
    assert!(said.code == Some(2) && said.err.contains("is no folder of"), "{said:?}");
    let said = rig.run(&["release".as_ref(), rig.folder.as_os_str()]).await;
    assert!(said.code == Some(0) && said.out.contains("24 removals let go; the next start"), "{said:?}");
    assert_eq!(paths(&rig).await.len(), 25, "the release itself asks no server");
    assert_eq!(rig.push().await.code, Some(0));
    assert_eq!(paths(&rig).await, ["new"]);
}

/// In batches of a few, while the kernel tells of one removal after the other.
async fn a_large_deletion_goes_or_stays_as_a_whole(site: &Arc<Site>) {
    let keys = format!("{MIRROR}\nbatch.max_files = 25\nbatch.quiet = \"300ms\"");
    let mut rig = with_files(site, &keys, 300).await;
    let head = rig.oracle().head().await;
    for number in 0..151 {
        remove(&rig, [number]);
        sleep(Duration::from_millis(5)).await;
    }
    rig.until_status("all are held", holds(151)).await;
    assert_eq!(rig.oracle().head().await, head, "nothing at all is removed");
    write_again(&rig, 0..151);
    rig.until("it is told", |rig| rig.log().contains("no removal is held any more")).await;
    rig.assert_all_holds().await;
    assert_eq!(rig.oracle().head().await, head, "nothing had to be committed");

    for number in 0..150 {
        remove(&rig, [number]);
        sleep(Duration::from_millis(5)).await;
    }
    rig.assert_all_holds().await;
    assert_eq!(rig.log().matches(TOLD).count(), 1, "{}", rig.log());
    rig.stop().await;
}

async fn a_file_in_place_of_a_held_directory_waits_for_the_release(site: &Arc<Site>) {
    let mut rig = with_files(site, MIRROR, 24).await;
    remove(&rig, 0..24);
    rig.until_status("all are held", holds(24)).await;
    fs::remove_dir(rig.folder.join("d0")).unwrap();
    rig.write("d0", "a file");
    let report = rig.until_status("it is told", |report| report.folders[0].failed == 1).await;
    let problem = &report.folders[0].problems[0];
    assert!(problem.path == "d0" && problem.reason.contains("oxen-sync release"), "{problem:?}");
    assert_eq!(paths(&rig).await.len(), 24);
    assert_eq!(release(&rig).await.code, Some(0));
    rig.assert_all_holds().await;
    assert_eq!(rig.folder_status().await.failed, 0);
    rig.stop().await;
}

async fn a_folder_that_gets_another_name_for_everything_is_not_held(site: &Arc<Site>) {
    // Time enough for a slow machine to see all of it before a batch is closed.
    let mut rig = Rig::new(site, &format!("{MIRROR}\nbatch.quiet = \"1s\""));
    (0..24).for_each(|number| rig.write(&format!("old/{number}"), number.to_string()));
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    (0..24).for_each(|number| rig.ledger.finished(&format!("new/{number}"), number.to_string().as_bytes()));
    fs::rename(rig.folder.join("old"), rig.folder.join("new")).unwrap();
    assert_eq!(rig.assert_all_holds().await, 3, "it is one commit");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_deletion_gets_through_while_files_come_faster_than_they_go() {
    let keys = "on_delete = \"mirror\"\nbatch.max_files = 25";
    let mut rig = with_files(&standin().await, keys, 24).await;
    let start = Instant::now();
    remove(&rig, 0..3);
    let mut number = 0;
    while paths(&rig).await.contains(&path(2)) {
        assert!(start.elapsed() < Duration::from_secs(60), "it waits behind {number} new files");
        // All of them sort before what is removed, and some batches wait all the time.
        while rig.folder_status().await.waiting < 100 {
            for _ in 0..50 {
                rig.write(&format!("a/{number:06}"), number.to_string());
                number += 1;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    let waiting = rig.folder_status().await.waiting;
    assert!(waiting > 25, "no batch waits behind it: {waiting}");
    rig.settled().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/run --long"]
async fn long_a_deletion_of_very_many_files_is_held_as_a_whole() {
    const FILES: usize = 30_000;
    let mut rig = Rig::new(&standin().await, MIRROR);
    let path = |number: usize| format!("{}/file {number}", number % 30);
    (0..FILES).for_each(|number| rig.write(&path(number), number.to_string()));
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let head = rig.oracle().head().await;
    let start = std::time::Instant::now();
    (0..30).for_each(|dir| fs::remove_dir_all(rig.folder.join(dir.to_string())).unwrap());
    let removed = start.elapsed();
    rig.until_status("all are held", holds(FILES as u64)).await;
    let held = start.elapsed();
    assert_eq!(rig.oracle().head().await, head, "nothing at all is removed");
    assert_eq!(release(&rig).await.code, Some(0));
    let start = std::time::Instant::now();
    rig.assert_all_holds().await;
    eprintln!(
        "{FILES} files removed in {removed:?}, held after {held:?}, gone {:?} after the release; peak memory {} KiB",
        start.elapsed(),
        rig.peak_memory_kib()
    );
    rig.stop().await;
}

async fn standin() -> Arc<Site> {
    Arc::new(Site::standin().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_files_go_whatever_their_share() {
    let mut rig = with_files(&standin().await, MIRROR, 9).await;
    remove(&rig, 0..9);
    rig.assert_all_holds().await;
    rig.write("a", "1");
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_puts_a_file_in_the_place_of_a_directory_at_one_go() {
    let rig = Rig::new(&standin().await, MIRROR);
    write_again(&rig, 0..24);
    assert_eq!(rig.push().await.code, Some(0));
    fs::remove_dir_all(rig.folder.join("d0")).unwrap();
    rig.write("d0", "a file");
    let said = rig.push().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_come_and_go_are_not_held() {
    let keys = "on_delete = \"mirror\"\nbatch.max_wait = \"500ms\"";
    let mut rig = with_files(&standin().await, keys, 12).await;
    for number in 12..150 {
        write_again(&rig, [number]);
        remove(&rig, [number - 12]);
        sleep(Duration::from_millis(40)).await;
    }
    rig.assert_all_holds().await;
    assert!(!rig.log().contains(TOLD), "{}", rig.log());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_in_pieces_is_one() {
    let mut rig = with_files(&standin().await, MIRROR, 40).await;
    remove(&rig, 0..20);
    rig.assert_all_holds().await;
    remove(&rig, 20..25);
    rig.until_status("they are held", holds(5)).await;
    assert_eq!(paths(&rig).await.len(), 20);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_in_pieces_between_pushes_is_one() {
    let rig = Rig::new(&standin().await, MIRROR);
    write_again(&rig, 0..40);
    assert_eq!(rig.push().await.code, Some(0));
    remove(&rig, 0..20);
    assert_eq!(rig.push().await.code, Some(0));
    remove(&rig, 20..30);
    assert_eq!(rig.push().await.code, Some(1), "more than half is gone");
    assert_eq!(paths(&rig).await.len(), 20);
    assert_eq!(release(&rig).await.code, Some(0));
    remove(&rig, 30..35);
    assert_eq!(rig.push().await.code, Some(0), "what went before the release does not count");
    assert_eq!(paths(&rig).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_during_which_the_service_is_killed_is_held_as_a_whole() {
    let site = standin().await;
    for _ in 0..4 {
        let mut rig = with_files(&site, MIRROR, 80).await;
        let head = rig.oracle().head().await;
        let mut left = 0..80;
        while let Some(number) = left.next() {
            remove(&rig, [number]);
            sleep(Duration::from_millis(fastrand::u64(0..8))).await;
            if fastrand::u8(..20) == 0 {
                rig.kill();
                remove(&rig, left.by_ref().take(4));
                rig.start();
            }
        }
        rig.until_status("all are held", holds(80)).await;
        rig.assert_idle().await;
        assert_eq!(rig.oracle().head().await, head, "nothing at all is removed");
        assert_eq!(release(&rig).await.code, Some(0));
        // Killed again on the way.
        sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        rig.kill();
        rig.start();
        rig.until_status("all are gone", holds(0)).await;
        rig.assert_all_holds().await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_released_goes_once_the_server_is_back() {
    let site = standin().await;
    let standin = site.as_standin().unwrap();
    let mut rig = with_files(&site, MIRROR, 24).await;
    standin.go_down().await;
    remove(&rig, 0..24);
    rig.until_status("they are held also without a server", holds(24)).await;
    assert_eq!(release(&rig).await.code, Some(0));
    rig.until_status("they wait", |report| report.folders[0].waiting == 24).await;
    rig.stop().await;
    standin.come_up();
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_stays_for_good_where_the_branch_is_to_keep_everything() {
    let mut rig = with_files(&standin().await, MIRROR, 24).await;
    remove(&rig, 0..24);
    rig.until_status("all are held", holds(24)).await;
    let mirrors = rig.config_text();
    rig.write_config(&mirrors.replace("\"mirror\"", "\"keep\""));
    rig.until_status("nothing is held", holds(0)).await;
    rig.assert_idle().await;
    rig.write_config(&mirrors);
    rig.until("it is taken", |rig| rig.log().matches("config reloaded").count() == 2).await;
    rig.write("new", "1");
    rig.until_status("it is pushed", |report| report.folders[0].files == 1).await;
    rig.assert_idle().await;
    assert_eq!((paths(&rig).await.len(), rig.folder_status().await.held), (25, 0));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_says_that_a_branch_keeps_what_it_is_to_keep_by_now() {
    let rig = Rig::new(&standin().await, MIRROR);
    write_again(&rig, 0..24);
    assert_eq!(rig.push().await.code, Some(0));
    remove(&rig, 0..24);
    assert_eq!(rig.push().await.code, Some(1));
    rig.write_config(&rig.config_text().replace("\"mirror\"", "\"keep\""));
    let said = release(&rig).await;
    assert!(said.code == Some(0) && said.out.contains("keeps them all the same"), "{said:?}");
    assert_eq!(rig.push().await.code, Some(0));
    assert_eq!(paths(&rig).await.len(), 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_where_nothing_is_removed() {
    let mut rig = with_files(&standin().await, "", 24).await;
    let head = rig.oracle().head().await;
    remove(&rig, 0..24);
    rig.until_status("they are gone here", |report| report.folders[0].files == 0).await;
    rig.assert_idle().await;
    assert_eq!((rig.folder_status().await.held, rig.oracle().head().await), (0, head));
    rig.stop().await;
    let said = release(&rig).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "nothing is held\n"));
    assert_eq!(rig.push().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_all_turns_the_brake_off() {
    let keys = format!("{MIRROR}\ndelete_brake.share = \"100%\"");
    let mut rig = with_files(&standin().await, &keys, 24).await;
    remove(&rig, 0..24);
    rig.settled().await;
    rig.assert_idle().await;
    assert!(!rig.log().contains(TOLD));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_lost_while_removals_are_held_removes_nothing() {
    let mut rig = with_files(&standin().await, MIRROR, 24).await;
    remove(&rig, 0..24);
    rig.until_status("all are held", holds(24)).await;
    rig.stop().await;
    fs::remove_dir_all(&rig.state_dir).unwrap();
    let said = rig.run(&["release".as_ref()] as &[&OsStr]).await;
    assert_eq!((said.code, rig.state_dir.exists()), (Some(0), false), "asking makes no state: {said:?}");
    rig.start();
    rig.write("new", "1");
    rig.until_status("it is pushed", |report| report.folders[0].files == 1).await;
    rig.assert_idle().await;
    assert_eq!(paths(&rig).await.len(), 25);
    rig.stop().await;
}
