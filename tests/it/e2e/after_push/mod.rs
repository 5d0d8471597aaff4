//! Files that are taken off the machine once they are on the branch, and those that must not be.

mod hard;

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxen_sync::fault_point::Point;
use oxen_sync::status::{FolderReport, Report};
use tempfile::TempDir;

use super::on_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    a_proved_file_is_deleted_and_stays_on_the_branch,
    a_proved_file_is_moved_and_nothing_is_replaced,
    what_is_not_as_it_was_pushed_stays,
    an_end_behind_any_step_loses_nothing,
    what_was_half_taken_off_is_put_back_also_by_a_folder_that_mirrors_since,
}

/// Steps that only a folder passes whose files are taken off, in their order.
pub(super) const ENDS: [Point; 3] = [Point::TakingOffNoted, Point::SetApart, Point::TakenOff];

const KILL_AT: &str = "OXEN_SYNC_KILL_AT";
/// Longer than what a clock of the kernel may stand still, so that no file must be read once more first.
const QUIET: &str = "settle.quiet = \"300ms\"";
const DELETE: &str = "settle.quiet = \"300ms\"\nafter_push.do = \"delete\"\nafter_push.min_age = \"0s\"";

/// A rig, and a directory beside its folder to move files to.
fn rig_with(site: &Arc<Site>, keys: impl Fn(&Path) -> String) -> (Rig, PathBuf) {
    let dir = TempDir::with_prefix("oxen-sync-rig-").unwrap();
    let pushed = dir.path().join("pushed");
    fs::create_dir(&pushed).unwrap();
    let repo = Rig::new(site, "").repo.to_string();
    (Rig::within(dir, site, &repo, "main", "", &keys(&pushed)), pushed)
}

fn moving(pushed: &Path) -> String {
    format!("{QUIET}\nafter_push = {{ do = \"move\", min_age = \"0s\", move_to = {pushed:?} }}")
}

/// Every file below a directory, by its path there.
fn files_in(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(below) = dirs.pop() {
        for entry in fs::read_dir(below).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// Puts other keys into the folder of the config.
fn set_keys(rig: &Rig, keys: &str) {
    let folder = rig.folder_text(&rig.folder, &rig.repo, keys);
    rig.write_config(&(rig.head_text() + &folder));
}

async fn until_taken_off(rig: &Rig, files: u64) -> FolderReport {
    let done = |folder: &FolderReport| folder.done.is_some_and(|done| done.taken_off >= files);
    let report = rig.until_status("they are taken off", |report| done(&report.folders[0])).await;
    report.folders.into_iter().next().unwrap()
}

async fn on_branch(rig: &Rig) -> Vec<(String, String)> {
    rig.site.files(&rig.repo).await
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

async fn why(rig: &Rig, path: &str) -> String {
    rig.run(&["why".as_ref(), rig.folder.join(path).as_os_str()]).await.out
}

async fn a_proved_file_is_deleted_and_stays_on_the_branch(site: &Arc<Site>) {
    let mut rig = Rig::new(site, DELETE);
    rig.write("a", "1");
    rig.write("d/b", "22");
    rig.start();
    let folder = until_taken_off(&rig, 2).await;
    let done = folder.done.unwrap();
    assert_eq!((done.taken_off, done.taken_off_bytes, done.removed), (2, 3, 0));
    assert!(
        folder.timers.iter().any(|timer| timer.what.contains("after_push takes off")),
        "{:?}",
        folder.timers
    );
    assert_eq!(files_in(&rig.folder), Vec::<String>::new());
    assert!(rig.folder.join("d").is_dir(), "directories stay");
    rig.assert_all_holds().await;
    let pushed = owned(&[("a", "1"), ("d/b", "22")]);
    assert_eq!(on_branch(&rig).await, pushed);
    let answer = why(&rig, "d/b").await;
    let head = rig.oracle().head().await.unwrap();
    assert!(
        answer.contains("It was deleted here at 20") && answer.contains("as after_push says"),
        "{answer}"
    );
    assert!(answer.contains(&format!("it is on the branch, in commit {head}")), "{answer}");
    assert!(rig.log().contains("deleted here; the branch holds them"), "{}", rig.log());
    // One that comes back with the same content is not committed again, and goes again.
    rig.write("a", "1");
    until_taken_off(&rig, 3).await;
    assert_eq!(rig.oracle().head().await.as_ref(), Some(&head));
    rig.assert_a_restart_changes_nothing().await;
    // A new version of it is pushed as ever.
    rig.start();
    rig.write("a", "another");
    until_taken_off(&rig, 1).await;
    assert_eq!(on_branch(&rig).await, owned(&[("a", "another"), ("d/b", "22")]));
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_proved_file_is_moved_and_nothing_is_replaced(site: &Arc<Site>) {
    let (mut rig, pushed) = rig_with(site, moving);
    fs::create_dir(pushed.join("d")).unwrap();
    fs::write(pushed.join("d/taken"), "somebody's").unwrap();
    rig.write("d/taken", "1");
    rig.write("d/e/b", "22");
    let check = rig.run(&["check".as_ref()]).await;
    assert!(check.out.contains(&format!("files are moved below {}", pushed.to_str().unwrap())), "{check:?}");
    rig.start();
    until_taken_off(&rig, 1).await;
    rig.until("what stays is told", |rig| rig.log().contains("in move_to already, and is not replaced"))
        .await;
    let stays = |report: &Report| report.folders[0].staying.is_some();
    rig.until_status("who asks hears of it", stays).await;
    let status = rig.run(&["status".as_ref()]).await;
    assert!(
        status.out.contains("stays     after_push: 1 file stays, for one d/taken: something of"),
        "{status:?}"
    );
    let answer = why(&rig, "d/taken").await;
    assert!(
        answer.contains("after_push moves it below") && answer.contains("when it looks next; where"),
        "{answer}"
    );
    assert_eq!(files_in(&rig.folder), ["d/taken"]);
    assert_eq!(files_in(&pushed), ["d/e/b", "d/taken"]);
    assert_eq!(fs::read_to_string(pushed.join("d/taken")).unwrap(), "somebody's");
    assert_eq!(fs::read_to_string(pushed.join("d/e/b")).unwrap(), "22");
    rig.assert_all_holds().await;
    assert_eq!(on_branch(&rig).await, owned(&[("d/e/b", "22"), ("d/taken", "1")]));
    let answer = why(&rig, "d/e/b").await;
    assert!(answer.contains("It was moved below") && answer.contains("/pushed at 20"), "{answer}");
    fs::remove_file(pushed.join("d/taken")).unwrap();
    until_taken_off(&rig, 2).await;
    assert_eq!(fs::read_to_string(pushed.join("d/taken")).unwrap(), "1");
    rig.until_status("nothing stays", |report| !stays(report)).await;
    rig.stop().await;
    set_keys(&rig, "after_push = { do = \"delete\", min_age = \"2d\" }");
    rig.start();
    rig.write("young", "1");
    rig.settled().await;
    rig.assert_idle().await;
    let answer = why(&rig, "young").await;
    assert!(
        answer.contains("It is on the branch") && answer.contains(". after_push deletes it here from 20"),
        "{answer}"
    );
    rig.assert_a_restart_changes_nothing().await;
}

async fn what_is_not_as_it_was_pushed_stays(site: &Arc<Site>) {
    let files = [
        ("busy", "1"),
        ("changed", "2"),
        ("excluded", "3"),
        ("goes", "4"),
        ("theirs changed", "5"),
        ("theirs removed", "6"),
        ("too young", "7"),
    ];
    let mut rig = Rig::at_rest(site, QUIET, &files[..6]).await;
    rig.stop().await;
    site.commit(&rig.repo, &[("theirs changed", "by another")]).await;
    site.remove(&rig.repo, &["theirs removed"]).await;
    fs::write(rig.folder.join("changed"), "a new version").unwrap();
    let writer = OpenOptions::new().append(true).open(rig.folder.join("busy")).unwrap();
    // Nothing new is pushed for now.
    let never = "exclude = [\"excluded\"]\nsettle.quiet = \"1h\"\nsettle.max_wait = \"1d\"\nafter_push.do = \"delete\"";
    set_keys(&rig, &format!("{never}\nafter_push.min_age = \"0s\""));
    rig.start();
    until_taken_off(&rig, 1).await;
    rig.until("the pass is over", |rig| rig.log().contains("they are the only copy")).await;
    assert!(rig.log().contains("2 files stay, for one theirs"), "{}", rig.log());
    let left = ["busy", "changed", "excluded", "theirs changed", "theirs removed"];
    assert_eq!(files_in(&rig.folder), left);
    let contents: Vec<String> =
        left.iter().map(|path| fs::read_to_string(rig.folder.join(path)).unwrap()).collect();
    assert_eq!(contents, ["1", "a new version", "3", "5", "6"]);
    // Nobody has it open any more.
    drop(writer);
    until_taken_off(&rig, 2).await;
    assert_eq!(files_in(&rig.folder), &left[1..]);
    // The new version goes once it is on the branch, and what is not old enough does not.
    rig.ledger.finished("changed", b"a new version");
    set_keys(&rig, DELETE);
    rig.until("the new version goes", |rig| !rig.folder.join("changed").exists()).await;
    set_keys(&rig, &DELETE.replace("0s", "1d"));
    rig.until_status("that is in use", |report| {
        report.folders[0].timers.iter().any(|timer| timer.what.contains("after_push") && timer.every_s > 1.0)
    })
    .await;
    rig.write("too young", "7");
    rig.settled_but(&["theirs changed", "theirs removed"]).await;
    rig.assert_idle().await;
    let wanted = [
        ("busy", "1"),
        ("changed", "a new version"),
        ("excluded", "3"),
        ("goes", "4"),
        ("theirs changed", "by another"),
        ("too young", "7"),
    ];
    assert_eq!(on_branch(&rig).await, owned(&wanted));
    assert!(rig.folder.join("too young").exists() && rig.folder.join("theirs removed").exists());
    rig.stop().await;
}

/// A rig that ended behind a step while its files were taken off, and where these were moved to.
async fn ended_behind(site: &Arc<Site>, point: Point, keys: impl Fn(&Path) -> String) -> (Rig, PathBuf) {
    ended_behind_the_nth(site, point, 1, keys).await
}

/// The same where it had done the step so often.
async fn ended_behind_the_nth(
    site: &Arc<Site>,
    point: Point,
    nth: usize,
    keys: impl Fn(&Path) -> String,
) -> (Rig, PathBuf) {
    let (mut rig, pushed) = rig_with(site, keys);
    ["a", "d/b", "d/c"].into_iter().for_each(|path| rig.write(path, path));
    rig.set_env(KILL_AT, &format!("{}:{nth}", point.name()));
    rig.start();
    assert_eq!(rig.ended().await.signal(), Some(9), "{}\n{}", point.name(), rig.log());
    rig.unset_env(KILL_AT);
    (rig, pushed)
}

fn all() -> Vec<(String, String)> {
    owned(&[("a", "a"), ("d/b", "d/b"), ("d/c", "d/c")])
}

async fn an_end_behind_any_step_loses_nothing(site: &Arc<Site>) {
    for point in ENDS {
        for moves in [false, true] {
            let keys = move |pushed: &Path| if moves { moving(pushed) } else { DELETE.to_owned() };
            let (mut rig, pushed) = ended_behind(site, point, keys).await;
            assert_eq!(on_branch(&rig).await, all());
            let head = rig.oracle().head().await;
            let left = files_in(&rig.folder);
            let apart = left.iter().filter(|path| path.contains(".oxen-sync-taking-off.")).count();
            assert_eq!(
                (left.len(), apart),
                match point {
                    Point::TakingOffNoted => (3, 0),
                    Point::SetApart => (3, 1),
                    _ => (2, 2),
                }
            );
            rig.start();
            rig.until("all of it goes", |rig| files_in(&rig.folder).is_empty()).await;
            assert_eq!(files_in(&pushed), if moves { vec!["a", "d/b", "d/c"] } else { vec![] });
            rig.assert_all_holds().await;
            assert_eq!((on_branch(&rig).await, rig.oracle().head().await), (all(), head), "{}", point.name());
            rig.assert_a_restart_changes_nothing().await;
        }
    }
}

/// Someone has changed their mind about the folder while nothing ran.
async fn what_was_half_taken_off_is_put_back_also_by_a_folder_that_mirrors_since(site: &Arc<Site>) {
    for point in ENDS {
        let (mut rig, _) = ended_behind(site, point, |_| DELETE.to_owned()).await;
        let head = rig.oracle().head().await;
        set_keys(&rig, &format!("{QUIET}\non_delete = \"mirror\"\ndelete_brake.share = \"100%\""));
        rig.start();
        let gone = usize::from(point == Point::TakenOff);
        rig.until("they are back", |rig| {
            let files = files_in(&rig.folder);
            files.len() == 3 - gone && files.iter().all(|path| !path.contains(".oxen-sync"))
        })
        .await;
        rig.assert_all_holds().await;
        let looked = rig.run(&["flush".as_ref()]).await;
        assert_eq!(looked.code, Some(0), "{looked:?}");
        assert_eq!((on_branch(&rig).await, rig.oracle().head().await), (all(), head), "{}", point.name());
        rig.assert_a_restart_changes_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_take_files_from_the_branch_is_refused() {
    let site = Arc::new(Site::standin().await);
    let rig = Rig::new(&site, &format!("{DELETE}\non_delete = \"mirror\""));
    let check = rig.run(&["check".as_ref()]).await;
    let said = format!("{}{}", check.out, check.err);
    assert_eq!(check.code, Some(2), "{check:?}");
    assert!(
        said.contains("what is taken off here would be removed from the branch, and be nowhere"),
        "{said}"
    );
    assert!(said.contains("write on_delete = \"keep\""), "{said}");
}
