//! Where files stand on the branch when the config says more than a directory: by their time, and for good.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::on_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    a_file_stands_where_its_time_says_and_stays_there,
    a_state_that_is_lost_moves_nothing,
    another_layout_counts_for_new_files_alone,
    no_file_takes_the_place_of_another,
}

/// 2026-11-05, 14:03:22 in UTC, and so many days later.
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_887_402 + days * 86_400)
}

fn write(rig: &Rig, path: &str, content: &str, at: SystemTime) {
    let file = rig.folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
}

/// The files of the branch after a push that went well.
async fn pushed(rig: &Rig) -> Vec<(String, String)> {
    let said = rig.push().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    rig.oracle().assert_no_workspaces().await;
    rig.site.files(&rig.repo).await
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

fn dated(site: &Arc<Site>, keys: &str) -> Rig {
    let mut rig = Rig::new(site, keys);
    rig.set_env("TZ", "UTC");
    rig
}

async fn a_file_stands_where_its_time_says_and_stays_there(site: &Arc<Site>) {
    let rig = dated(site, "remote_path = \"{dir}/{date}/{hour}/{name}\"\non_delete = \"mirror\"");
    write(&rig, "run 1/a.tif", "1", day(0));
    write(&rig, "run 1/b.tif", "2", day(1));
    write(&rig, "c.tif", "3", day(0));
    let first = [
        ("2026-11-05/14/c.tif", "3"),
        ("run 1/2026-11-05/14/a.tif", "1"),
        ("run 1/2026-11-06/14/b.tif", "2"),
    ];
    assert_eq!(pushed(&rig).await, files(&first));

    write(&rig, "run 1/a.tif", "1, written anew", day(30));
    fs::rename(rig.folder.join("c.tif"), rig.folder.join("d.tif")).unwrap();
    fs::remove_file(rig.folder.join("run 1/b.tif")).unwrap();
    let then = [("2026-11-05/14/d.tif", "3"), ("run 1/2026-11-05/14/a.tif", "1, written anew")];
    assert_eq!(pushed(&rig).await, files(&then));
    let head = rig.oracle().head().await;
    assert_eq!(pushed(&rig).await, files(&then));
    assert_eq!(rig.oracle().head().await, head, "nothing is left to do");
    let said = rig.run(&["status".as_ref()]).await;
    assert!(said.out.contains("branch main as {dir}/{date}/{hour}/{name} at "), "{said:?}");
}

async fn a_state_that_is_lost_moves_nothing(site: &Arc<Site>) {
    let rig = dated(site, "");
    rig.write_config(&rig.config_text().replace("remote_dir = \"\"", "remote_dir = \"cam/{date}\""));
    write(&rig, "a", "1", day(0));
    write(&rig, "b", "2", day(0));
    let head = [("cam/2026-11-05/a", "1"), ("cam/2026-11-05/b", "2")];
    assert_eq!(pushed(&rig).await, files(&head));
    fs::remove_dir_all(&rig.state_dir).unwrap();
    write(&rig, "a", "1, written anew", day(3));
    write(&rig, "new", "3", day(3));
    let then =
        [("cam/2026-11-05/a", "1, written anew"), ("cam/2026-11-05/b", "2"), ("cam/2026-11-08/new", "3")];
    assert_eq!(pushed(&rig).await, files(&then));
}

async fn another_layout_counts_for_new_files_alone(site: &Arc<Site>) {
    let rig = dated(site, "on_delete = \"mirror\"\n#layout");
    write(&rig, "kept", "1", day(0));
    write(&rig, "changed", "1", day(0));
    write(&rig, "removed", "1", day(0));
    pushed(&rig).await;
    rig.write_config(&rig.config_text().replace("#layout", "remote_path = \"raw/{date}/{path}\""));
    write(&rig, "changed", "2", day(1));
    write(&rig, "new", "3", day(1));
    write(&rig, "passing", "4", day(2));
    fs::remove_file(rig.folder.join("removed")).unwrap();
    let then =
        [("changed", "2"), ("kept", "1"), ("raw/2026-11-06/new", "3"), ("raw/2026-11-07/passing", "4")];
    assert_eq!(pushed(&rig).await, files(&then));
    // The branch is listed anew when others have written to it.
    rig.site.commit(&rig.repo, &[("elsewhere", "of another")]).await;
    let with_other = then.iter().copied().chain([("elsewhere", "of another")]);
    let mut with_other: Vec<_> = with_other.collect();
    with_other.sort_unstable();
    assert_eq!(pushed(&rig).await, files(&with_other));
    rig.write_config(&rig.config_text().replace("remote_path = \"raw/{date}/{path}\"", ""));
    write(&rig, "new", "5", day(4));
    fs::remove_file(rig.folder.join("passing")).unwrap();
    assert_eq!(
        pushed(&rig).await,
        files(&[("changed", "2"), ("elsewhere", "of another"), ("kept", "1"), ("raw/2026-11-06/new", "5")])
    );
}

async fn no_file_takes_the_place_of_another(site: &Arc<Site>) {
    let rig = dated(site, "#layout");
    write(&rig, "2026-11-05/a", "of the directory", day(0));
    write(&rig, "2026-11-06", "a file that is named so", day(0));
    let before = [("2026-11-05/a", "of the directory"), ("2026-11-06", "a file that is named so")];
    assert_eq!(pushed(&rig).await, files(&before));
    rig.write_config(&rig.config_text().replace("#layout", "remote_path = \"{date}/{path}\""));
    write(&rig, "a", "of that day", day(0));
    write(&rig, "b", "of the next day", day(1));
    write(&rig, "c", "of another", day(2));
    let said = rig.push().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let all = [before[0], before[1], ("2026-11-07/c", "of another")];
    assert_eq!(rig.site.files(&rig.repo).await, files(&all));
    for (file, other) in [("a", "2026-11-05/a"), ("b", "2026-11-06")] {
        let text = format!("the branch holds {other} where it would have to stand");
        let told = said.err.lines().any(|line| line.contains(&text) && line.contains(file));
        assert!(told, "{text}\n{}", said.err);
    }

    fs::rename(rig.folder.join("a"), rig.folder.join("a2")).unwrap();
    fs::rename(rig.folder.join("b"), rig.folder.join("b2")).unwrap();
    assert_eq!(rig.push().await.code, Some(1), "b2 is of that day too");
    assert_eq!(rig.site.read(&rig.repo, "2026-11-05/a2").await.as_deref(), Some(&b"of that day"[..]));
    assert!(Path::exists(&rig.folder.join("b2")));
}
