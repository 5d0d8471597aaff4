//! Where a file that is taken off could be lost, or be taken for something that it is not.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{chown, symlink};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use oxen_sync::fault_point::Point;
use oxen_sync::path::printable;
use tokio::time::sleep;

use super::{
    DELETE, QUIET, all, ended_behind_the_nth, files_in, moving, on_branch, owned, rig_with, set_keys,
    until_taken_off,
};
use crate::support::means::{Mount, is_root, leave_out};
use crate::support::rig::Rig;
use crate::support::site::Site;

const MIRROR: &str = "settle.quiet = \"300ms\"\non_delete = \"mirror\"\ndelete_brake.share = \"100%\"";

async fn standin() -> Arc<Site> {
    Arc::new(Site::standin().await)
}

/// Waits until all of the folder was compared with the branch.
async fn looked_through(rig: &Rig) {
    let looked = rig.run(&["flush".as_ref()]).await;
    assert_eq!(looked.code, Some(0), "{looked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_between_two_names_is_found_again_when_nothing_is_remembered_of_it() {
    let site = standin().await;
    for keys in [DELETE, QUIET, MIRROR] {
        let (mut rig, _) = ended_behind_the_nth(&site, Point::SetApart, 2, |_| DELETE.to_owned()).await;
        let head = rig.oracle().head().await;
        fs::remove_dir_all(&rig.state_dir).unwrap();
        set_keys(&rig, keys);
        rig.start();
        rig.until("it has its own name", |rig| files_in(&rig.folder) == ["a", "d/b", "d/c"]).await;
        rig.assert_all_holds().await;
        looked_through(&rig).await;
        assert_eq!((on_branch(&rig).await, rig.oracle().head().await), (all(), head), "{keys}");
        rig.assert_a_restart_changes_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_off_stays_on_the_branch_when_nothing_is_remembered_of_it() {
    let site = standin().await;
    let mut rig = Rig::new(&site, DELETE);
    ["a", "d/b", "d/c"].into_iter().for_each(|path| rig.write(path, path));
    rig.start();
    until_taken_off(&rig, 3).await;
    rig.stop().await;
    let head = rig.oracle().head().await;
    // First with all that is remembered, then without.
    for forgets in [false, true] {
        if forgets {
            fs::remove_dir_all(&rig.state_dir).unwrap();
        }
        set_keys(&rig, MIRROR);
        rig.start();
        looked_through(&rig).await;
        rig.assert_idle().await;
        assert_eq!((on_branch(&rig).await, rig.oracle().head().await), (all(), head.clone()));
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_links_and_what_steers_the_folder_are_left_alone() {
    let site = standin().await;
    let mut rig = Rig::new(&site, QUIET);
    rig.write(".oxenignore", "*.never\n");
    rig.write("read", "to its end");
    rig.write("linked", "twice");
    let long = "x".repeat(240);
    rig.write(&long, "long");
    rig.start();
    rig.settled().await;
    rig.stop().await;
    let mut reader = File::open(rig.folder.join("read")).unwrap();
    let outside = rig.dir().join("outside");
    fs::hard_link(rig.folder.join("linked"), &outside).unwrap();
    symlink(&outside, rig.folder.join("link")).unwrap();
    set_keys(&rig, DELETE);
    rig.start();
    until_taken_off(&rig, 2).await;
    rig.until("the long name is told", |rig| rig.log().contains("have more than 233 bytes")).await;
    assert_eq!(files_in(&rig.folder), [".oxenignore", "link", &long]);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!((read.as_str(), fs::read_to_string(&outside).unwrap().as_str()), ("to its end", "twice"));
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_one_file_go_one_after_the_other() {
    let site = standin().await;
    let mut rig = Rig::new(&site, DELETE);
    rig.write("a", "1");
    rig.ledger.finished("b", b"1");
    fs::hard_link(rig.folder.join("a"), rig.folder.join("b")).unwrap();
    rig.start();
    until_taken_off(&rig, 2).await;
    assert_eq!(on_branch(&rig).await, owned(&[("a", "1"), ("b", "1")]));
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Programs open a file again and again, and write a piece, at any moment: also while it is taken off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_piece_that_a_program_writes_is_lost() {
    const WRITERS: u64 = 6;
    let mut rig = Rig::new(&standin().await, DELETE);
    rig.start();
    join_all((0..WRITERS).map(|number| write_on(&rig, number))).await;
    rig.stop().await;
}

/// Writes pieces to a file until it went some times; each time, the branch must hold all of them.
async fn write_on(rig: &Rig, number: u64) {
    const TIMES: u32 = 4;
    let name = format!("file {number}");
    let mut rng = fastrand::Rng::with_seed(number);
    let (mut went, mut content) = (0, Vec::new());
    while went < TIMES {
        let piece = format!("{name} {}\n", rng.u32(..));
        let mut options = OpenOptions::new();
        match options.append(true).create_new(content.is_empty()).open(rig.folder.join(&name)) {
            Ok(mut file) => {
                content.extend_from_slice(piece.as_bytes());
                // Before it can be pushed.
                rig.ledger.finished(&name, &content);
                file.write_all(piece.as_bytes()).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}");
                let on_branch = rig.site.read(&rig.repo, &name).await;
                assert!(
                    on_branch.as_ref() == Some(&content),
                    "{name} went with what the branch does not hold"
                );
                content.clear();
                went += 1;
            }
        }
        sleep(Duration::from_millis(rng.u64(1..2_500))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_knows_who_writes_nothing_goes() {
    let mut rig = Rig::new(&standin().await, DELETE);
    let behind = rig.dir().join("behind");
    fs::create_dir(&behind).unwrap();
    let Some(mount) = Mount::fuse(&behind, &rig.folder) else { return };
    rig.write("a", "1");
    let check = rig.run(&["check".as_ref()]).await;
    assert!(check.code == Some(1) && check.out.contains("it lies on FUSE"), "{check:?}");
    rig.start();
    rig.settled().await;
    rig.until("it is told", |rig| rig.log().contains("nothing more is taken off for now: it lies on FUSE"))
        .await;
    assert_eq!(files_in(&behind), ["a"]);
    rig.stop().await;
    drop(mount);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_be_told_who_writes_nothing_goes() {
    if !is_root() {
        return leave_out("only root can give a file to somebody else");
    }
    let mut rig = Rig::new(&standin().await, DELETE);
    rig.set_wrapper(&["setpriv", "--bounding-set=-lease"]);
    rig.write("ours", "1");
    rig.write("somebody's", "2");
    chown(rig.folder.join("somebody's"), Some(65_534), None).unwrap();
    rig.start();
    rig.until("it is told", |rig| {
        rig.log().contains("the kernel does not tell whether a program writes to them")
    })
    .await;
    until_taken_off(&rig, 1).await;
    assert_eq!(files_in(&rig.folder), ["somebody's"]);
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_finds_a_link_to_a_folder_whose_files_would_go() {
    let rig = Rig::new(&standin().await, DELETE);
    let link = rig.dir().join("link");
    symlink(&rig.folder, &link).unwrap();
    let second = rig.folder_text(&link, &"e2e/another".parse().unwrap(), "");
    rig.write_config(&(rig.config_text() + &second));
    let check = rig.run(&["check".as_ref()]).await;
    let said =
        format!("after_push would take files off that {} watches too, through a link", printable(&link));
    assert!(check.code == Some(1) && check.out.contains(&said), "{check:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_moved_to_another_filesystem() {
    let (mut rig, pushed) = rig_with(&standin().await, moving);
    let Some(mount) = Mount::tmpfs(&pushed, 1024) else { return };
    rig.write("a", "1");
    let check = rig.run(&["check".as_ref()]).await;
    let said = format!("{} lies on another filesystem than the folder", printable(&pushed));
    assert!(check.code == Some(1) && check.out.contains(&said), "{check:?}");
    rig.start();
    rig.settled().await;
    rig.until("it is told", |rig| rig.log().contains("it lies on another filesystem than the folder")).await;
    assert_eq!((files_in(&rig.folder), files_in(&pushed)), (vec!["a".to_owned()], Vec::new()));
    rig.stop().await;
    drop(mount);
}

/// As the unit of a service leaves all that no line of it opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_mounted_read_only_is_told_with_what_to_do() {
    let mut rig = Rig::new(&standin().await, DELETE);
    rig.write("a", "1");
    let Some(mount) = Mount::bind(&rig.folder, &rig.folder) else { return };
    if !mount.make_read_only() {
        return;
    }
    let check = rig.run(&["check".as_ref()]).await;
    assert!(
        check.code == Some(1) && check.out.contains("name it in ReadWritePaths of its unit"),
        "{check:?}"
    );
    rig.start();
    rig.settled().await;
    rig.until("it is told", |rig| rig.log().contains("oxen-sync may not write to their directories")).await;
    assert_eq!(files_in(&rig.folder), ["a"]);
    rig.stop().await;
    drop(mount);
}
