//! A server in trouble costs time and no file, and no file is blamed for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use futures_util::future::join_all;
use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};

use super::on_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    large_files_side_by_side_wait_for_no_memory_that_nobody_gives_back,
    a_directory_that_becomes_a_link_is_mirrored,
    a_file_that_comes_back_is_put_where_others_have_removed_it,
    push_puts_back_what_others_have_changed_and_the_service_does_not,
    what_others_have_changed_is_not_removed,
}

async fn standin() -> (Arc<Site>, Arc<crate::standin::StandIn>) {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    (site, standin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_doubles_nothing_and_loses_nothing() {
    let ops = [
        ("workspace", Op::OpenWorkspace),
        ("workspace", Op::StageFiles),
        ("workspace", Op::MergeWorkspace),
        ("put", Op::PutFiles),
    ];
    let actions = [Action::ResetBefore, Action::ResetInside { after_bytes: 10 }, Action::ResetAfter];
    let cases = ops.iter().flat_map(|op| actions.iter().map(move |action| (*op, action.clone())));
    join_all(cases.map(|((transport, op), action)| lose_an_answer(transport, op, action))).await;
}

/// Tries in a row that failed.
fn attempts(report: &Report) -> u32 {
    report.folders[0].retry.as_ref().map_or(0, |retry| retry.attempts)
}

/// Waits for so many tries that fail, holds each report against `check`, and cuts the wait for the next one short.
async fn hurry_through(rig: &Rig, tries: u32, check: impl Fn(&Report)) {
    for number in 1..=tries {
        check(&rig.until_status("it has tried", |report| attempts(report) >= number).await);
        rig.kick();
    }
}

async fn lose_an_answer(transport: &str, op: Op, action: Action) {
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, &format!("transport = \"{transport}\""));
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    standin.fault(Rule::on(op, action));
    rig.write("d/a", "1");
    rig.write("d/b", "2");
    rig.assert_all_holds().await;
    assert_eq!(standin.faults_left(), 0, "the fault was met");
    rig.assert_a_restart_changes_nothing().await;
}

/// What a full disk, a broken proxy or a quota makes a server say to everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_is_set_aside_for_a_server_that_fails_with_everything() {
    let sick = [
        (Op::StageFiles, Action::reply(500, "disk full")),
        (Op::StageFiles, Action::reply(400, "<html><title>Bad Request</title></html>")),
        (Op::StageFiles, Action::StageHalf),
        (Op::MergeWorkspace, Action::reply(500, "")),
        (
            Op::MergeWorkspace,
            Action::reply(422, r#"{"status":"error","status_message":"IO(Os { code: 28 })"}"#),
        ),
        (Op::OpenWorkspace, Action::reply(402, "quota")),
        (Op::ReadBranch, Action::reply(400, "plain HTTP request sent to HTTPS port")),
    ];
    join_all(sick.into_iter().map(|(op, action)| meet_a_sick_server(op, action))).await;
}

async fn meet_a_sick_server(op: Op, action: Action) {
    let (site, standin) = standin().await;
    let mut rig = Rig::at_rest(&site, "transport = \"workspace\"", &[("first", "1")]).await;
    standin.fault(Rule::on(op, action).forever());
    (0..5).for_each(|n| rig.write(&format!("d{n}/file"), format!("{n}")));
    // Long enough for the content to be suspected.
    hurry_through(&rig, 6, |report| assert_eq!(report.folders[0].failed, 0, "{op}: {report:#?}")).await;
    standin.clear_faults();
    rig.kick();
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// However far the search for the file at fault has come by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_is_set_aside_where_the_server_gets_well_meanwhile() {
    join_all((4..=12).map(get_well_after)).await;
}

async fn get_well_after(faults: usize) {
    let (site, standin) = standin().await;
    let mut rig = Rig::at_rest(&site, "transport = \"workspace\"", &[("first", "1")]).await;
    standin.fault(Rule::on(Op::MergeWorkspace, Action::reply(500, "")).times(faults));
    (0..5).for_each(|n| rig.write(&format!("d{n}/file"), format!("{n}")));
    let all_met = || standin.faults_left() == 0;
    let mut tries = 0;
    // From the fifth try on it looks for the file at fault, as far as the faults reach.
    while !all_met() {
        let report = rig.until_status("it has tried", |report| all_met() || attempts(report) > tries).await;
        tries = attempts(&report);
        rig.kick();
    }
    rig.assert_all_holds().await;
    let problems = &rig.folder_status().await.problems;
    assert!(problems.is_empty(), "{faults}: {problems:?}");
    assert!(!rig.log().contains("not pushed"), "{faults}: {}", rig.log());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_the_server_will_not_have_are_set_aside_and_the_rest_goes_on() {
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, "transport = \"put\"");
    rig.write("first", "1");
    rig.start();
    rig.settled().await;
    standin.fault(Rule::on(Op::PutFiles, Action::reply(400, "no such thing")).path("poison").forever());
    (0..5).for_each(|n| rig.write(&format!("d{n}/file"), format!("{n}")));
    let poison = |n: u8| format!("poison {n}/file");
    (0..5).for_each(|n| rig.write(&poison(n), "p"));
    rig.left_out = (0..5).map(|n| poison(n).into_bytes()).collect();
    hurry_through(&rig, 3, |_| {}).await;
    rig.settled().await;
    // That other files pass shows whose fault it is.
    rig.write("later/file", "l");
    rig.settled().await;
    let report = rig.until_status("they are set aside", |report| report.folders[0].failed == 5).await;
    assert_eq!(report.folders[0].problems[0].kind, "quarantined");
    assert!(report.folders[0].problems[0].reason.contains("400"), "{report:#?}");
    rig.assert_all_holds().await;

    // By hand, it is tried again.
    standin.clear_faults();
    rig.left_out.clear();
    rig.kick();
    rig.assert_all_holds().await;
    let report = rig.status().await.unwrap();
    assert_eq!(report.folders[0].failed, 0, "{report:#?}");
    rig.stop().await;
}

/// The server speaks so while it makes the repository for another client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_is_there_and_not_found_is_asked_for_again() {
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, "");
    let body = r#"{"status":"error","status_message":"resource_not_found","status_description":"Repository 'a/b' not found"}"#;
    standin.fault(Rule::on(Op::ListBranches, Action::reply(404, body)).times(2));
    rig.write("a", "1");
    rig.start();
    rig.assert_all_holds().await;
    assert!(rig.log().contains("another client may be making it"), "{}", rig.log());
    rig.stop().await;
}

/// A server that goes down with one commit, each time it is asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_comes_to_an_end_does_not_hold_up_the_folder() {
    let (site, standin) = standin().await;
    let mut rig = Rig::at_rest(&site, "transport = \"workspace\"", &[("first", "1")]).await;
    standin.fault(Rule::on(Op::MergeWorkspace, Action::ResetInside { after_bytes: usize::MAX }).times(3));
    rig.write("a", "1");
    hurry_through(&rig, 2, |_| {}).await;
    standin.until("it was asked three times", |standin| standin.faults_left() == 0).await;
    rig.assert_all_holds().await;
    // Not the fourth request for the first workspace, but a workspace of its own.
    assert_eq!(standin.count(Op::OpenWorkspace).requests, 4, "{}", rig.log());
    rig.assert_a_restart_changes_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_did_after_a_reset_is_theirs() {
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    rig.write("b", "2");
    rig.settled().await;
    rig.assert_idle().await;
    rig.stop().await;
    // Our last commit is lost, and its file is gone here, so that nothing of it is pushed again.
    standin.lose_commits(&rig.repo.to_string(), "main", 1);
    fs::remove_file(rig.folder.join("b")).unwrap();
    rig.start();
    rig.until_status("it has looked", |report| report.folders[0].files == 1).await;
    rig.assert_idle().await;
    site.commit(&rig.repo, &[("a", "theirs")]).await;
    rig.kick();
    rig.write("c", "3");
    rig.until_status("it is pushed", |report| report.folders[0].files == 2).await;
    rig.assert_idle().await;
    assert_eq!(site.read(&rig.repo, "a").await.unwrap(), b"theirs");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_branch_has_lost_is_pushed_again() {
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, "rescan_interval = \"1s\"");
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    rig.write("b", "2");
    rig.settled().await;
    rig.assert_idle().await;
    // While it runs, with nothing to be pushed.
    standin.lose_commits(&rig.repo.to_string(), "main", 1);
    rig.settled().await;
    assert!(rig.log().contains("the branch has lost files"), "{}", rig.log());
    // And while nothing runs.
    rig.stop().await;
    standin.lose_commits(&rig.repo.to_string(), "main", 1);
    assert_eq!(rig.push().await.code, Some(0));
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_branch_has_lost_is_pushed_again_also_when_the_first_listing_of_it_fails() {
    let (site, standin) = standin().await;
    let mut rig = Rig::at_rest(&site, "", &[("a", "1")]).await;
    rig.stop().await;
    standin.lose_commits(&rig.repo.to_string(), "main", 1);
    standin.fault(Rule::on(Op::ListDir, Action::reply(500, "")));
    rig.start();
    standin.until("the listing fails", |standin| standin.faults_left() == 0).await;
    rig.settled().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_asks_the_server_even_when_nothing_has_changed() {
    let (site, standin) = standin().await;
    let rig = Rig::new(&site, "");
    rig.write("a", "1");
    assert_eq!(rig.push().await.code, Some(0));
    standin.go_down().await;
    let said = rig.push().await;
    assert_eq!(said.code, Some(1), "nothing is proved without the server: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_gets_all_of_it() {
    let (site, _standin) = standin().await;
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    assert_eq!(rig.push().await.code, Some(0));
    let other = Arc::new(Site::standin().await);
    rig.write_config(&rig.config_text().replace(&site.url, &other.url));
    assert_eq!(rig.push().await.code, Some(0));
    rig.site = other;
    rig.settled().await;
}

async fn large_files_side_by_side_wait_for_no_memory_that_nobody_gives_back(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    (0..4).for_each(|n| rig.write(&format!("large {n}"), vec![n; 25 << 20]));
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Of forty folders, which push to twenty repositories, some have uploads that do not move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_folder_waits_for_the_upload_of_another() {
    // Each has an inotify instance, of which a user has 128, and other tests run beside this one.
    const FOLDERS: usize = 40;
    const REPOS: usize = 20;
    const HANGING: usize = 8;
    let (site, standin) = standin().await;
    let mut rig = Rig::new(&site, "remote_dir = \"0\"");
    rig.write("small", "0");
    let first = rig.repo.clone();
    let repo = |number: usize| match number % REPOS {
        0 => first.clone(),
        number => format!("{first}-{number}").parse().unwrap(),
    };
    let mut text = rig.config_text().replace("remote_dir = \"\"\n", "");
    for number in 1..FOLDERS {
        let folder = rig.dir().join(number.to_string());
        fs::create_dir_all(&folder).unwrap();
        let keys = format!("remote_dir = \"{number}\"");
        text += &rig.folder_text(&folder, &repo(number), &keys).replace("remote_dir = \"\"\n", "");
    }
    rig.write_config(&text);
    rig.start();
    rig.assert_idle().await;
    // Threads that have nothing to do end after 10 s, and the memory that the start took is given back as late.
    rig.until("folders with nothing to do take little memory", |rig| rig.memory_kib() <= 48 << 10).await;

    standin.fault(Rule::on(Op::PutPart, Action::HangBefore).forever());
    let in_folder = |number: usize, name: &str| rig.dir().join(number.to_string()).join(name);
    for number in 1..=HANGING {
        fs::write(in_folder(number, "large"), vec![u8::try_from(number).unwrap(); 25 << 20]).unwrap();
    }
    standin.until("all of them hang", |s| s.count(Op::PutPart).requests >= HANGING as u64).await;
    for number in 1 + HANGING..FOLDERS {
        fs::write(in_folder(number, "small"), number.to_string()).unwrap();
        fs::write(in_folder(number, "larger"), vec![0; 900 << 10]).unwrap();
    }
    let is_through = |report: &Report| {
        let done = report.folders.iter().skip(1 + HANGING).filter(|folder| folder.files == 2);
        done.count() == FOLDERS - 1 - HANGING
    };
    rig.until_status("all that do not hang are through", is_through).await;

    standin.clear_faults();
    standin.cut_connections();
    rig.until_status("the others come after", |report| {
        report.folders.iter().skip(1).take(HANGING).all(|folder| folder.files == 1)
    })
    .await;
    for number in 0..REPOS {
        let files = site.files(&repo(number)).await.len();
        assert!(files >= 3, "{files} files in {}", repo(number));
    }
    let peak = rig.peak_memory_kib();
    assert!(peak <= 128 << 10, "peak memory {peak} KiB");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_larger_than_the_memory_for_them_are_streamed() {
    let (site, standin) = standin().await;
    standin.set_parts(30 << 20, 8);
    let mut rig = Rig::new(&site, "");
    let content: Vec<u8> = (0..70_u32 << 18).flat_map(u32::to_le_bytes).collect();
    rig.write("large", &content);
    rig.write("also large", &content[1..]);
    standin.fault(Rule::on(Op::PutPart, Action::ResetInside { after_bytes: 20 << 20 }).after(1));
    rig.start();
    rig.assert_all_holds().await;
    assert_eq!(standin.faults_left(), 0);
    let peak = rig.peak_memory_kib();
    assert!(peak <= 64 << 10, "peak memory {peak} KiB");
    rig.stop().await;
}

async fn a_directory_that_becomes_a_link_is_mirrored(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "on_delete = \"mirror\"");
    rig.write("d/e/f", "1");
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    fs::rename(rig.folder.join("d"), rig.folder.join("d2")).unwrap();
    symlink("d2", rig.folder.join("d")).unwrap();
    rig.ledger.finished("d2/e/f", b"1");
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// The folder has a file that is on the branch, loses it, and gets it back; meanwhile others have removed it.
async fn a_file_that_comes_back_is_put_where_others_have_removed_it(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.write("d/a", "1");
    rig.write("d/b", "2");
    rig.start();
    rig.settled().await;
    fs::remove_file(rig.folder.join("d/a")).unwrap();
    rig.assert_idle().await;
    remove(site, &rig, "d/a").await;
    rig.write("d/a", "1");
    rig.settled().await;
    rig.stop().await;
}

/// Another client removes a file from the branch.
async fn remove(site: &Site, rig: &Rig, path: &str) {
    site.client.open_workspace(&rig.repo, "another", &rig.branch).await.unwrap();
    site.client.stage_removals(&rig.repo, "another", &[path]).await.unwrap();
    let info = crate::support::site::info("tidied up");
    site.client.merge_workspace(&rig.repo, "another", &rig.branch, &info).await.unwrap();
}

async fn push_puts_back_what_others_have_changed_and_the_service_does_not(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.write("d/a", "1");
    rig.write("d/b", "2");
    assert_eq!(rig.push().await.code, Some(0));
    remove(site, &rig, "d/a").await;
    rig.start();
    rig.assert_idle().await;
    rig.write("d/c", "3");
    rig.until_status("it is pushed", |report| report.folders[0].files == 3).await;
    rig.assert_idle().await;
    let tree = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(tree.into_keys().collect::<Vec<_>>(), ["d/b", "d/c"], "what others removed is theirs");
    rig.stop().await;
    assert_eq!(rig.push().await.code, Some(0));
    rig.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_started_says_why() {
    let (site, _standin) = standin().await;
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    let key = rig.dir().join("key");
    rig.write_config(&rig.config_text().replace("[author]", &format!("key_file = {key:?}\n[author]")));
    rig.start();
    let report =
        rig.until_status("it is told", |report| report.folders[0].state == FolderState::Broken).await;
    assert!(report.folders[0].why.as_ref().unwrap().contains("key"), "{report:#?}");
    fs::write(&key, "secret").unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    rig.kick();
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// In mirror mode a removal takes away what the folder had, and nothing that another writer has put there since.
async fn what_others_have_changed_is_not_removed(site: &Arc<Site>) {
    let mut rig =
        Rig::at_rest(site, "on_delete = \"mirror\"", &[("d/theirs", "1"), ("d/ours", "2"), ("stays", "3")])
            .await;
    site.commit(&rig.repo, &[("d/theirs", "another")]).await;
    fs::remove_file(rig.folder.join("d/theirs")).unwrap();
    fs::remove_file(rig.folder.join("d/ours")).unwrap();
    let is_over = |report: &Report| report.folders[0].files == 1;
    rig.until_status("it is removed", is_over).await;
    rig.assert_idle().await;
    let tree = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(tree.into_keys().collect::<Vec<_>>(), ["d/theirs", "stays"]);
    rig.assert_a_restart_changes_nothing().await;
}
