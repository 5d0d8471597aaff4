//! What may not be read is told and waits; as soon as it may be read, it is taken.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use oxen_sync::status::{FolderState, Report};

use crate::support::means::bound_by_modes;
use crate::support::rig::Rig;
use crate::support::site::Site;

/// A rig whose service is bound by the modes of files; `None` where it cannot be.
async fn bound_rig(keys: &str) -> Option<Rig> {
    let wrapper = bound_by_modes()?;
    let mut rig = Rig::new(&Arc::new(Site::standin().await), keys);
    rig.set_wrapper(&wrapper);
    Some(rig)
}

fn set_mode(rig: &Rig, path: &str, mode: u32) {
    fs::set_permissions(rig.folder.join(path), Permissions::from_mode(mode)).unwrap();
}

fn blames(paths: &[&str]) -> impl Fn(&Report) -> bool {
    move |report| {
        let problems: Vec<&str> =
            report.folders[0].problems.iter().map(|problem| problem.path.as_str()).collect();
        report.folders[0].problems.iter().all(|problem| problem.kind == "unreadable") && problems == paths
    }
}

/// Where a file or directory may not be read from the start, or not any more, in both modes of deleting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_or_directory_is_taken_as_soon_as_it_may_be_read() {
    for on_delete in ["keep", "mirror"] {
        let Some(mut rig) = bound_rig(&format!("on_delete = \"{on_delete}\"")).await else { return };
        for path in ["file", "dir/a", "dir/below/b", "names/c", "free/d"] {
            rig.write(path, path);
        }
        set_mode(&rig, "file", 0o000);
        set_mode(&rig, "dir", 0o000);
        // Its names could be read, and nothing else.
        set_mode(&rig, "names", 0o400);
        rig.start();
        let told = ["dir", "file", "names"];
        let report = rig.until_status("it is told", blames(&told)).await;
        assert!(report.folders[0].problems[1].reason.contains("read access"), "{report:#?}");
        rig.until_status("the rest is pushed", |report| report.folders[0].files == 1).await;
        // No scan of everything is needed: that would come in an hour.
        set_mode(&rig, "file", 0o600);
        set_mode(&rig, "dir", 0o700);
        set_mode(&rig, "names", 0o700);
        rig.assert_all_holds().await;
        rig.until_status("nothing is wrong any more", |report| report.folders[0].failed == 0).await;

        // Taken away from what is on the branch.
        set_mode(&rig, "dir", 0o000);
        set_mode(&rig, "names", 0o400);
        rig.until_status("it is told", blames(&["dir", "names"])).await;
        set_mode(&rig, "file", 0o000);
        rig.until_status("it is told", blames(&["dir", "file", "names"])).await;
        rig.write("free/e", "e");
        rig.until_status("the rest is pushed", |report| report.folders[0].waiting == 0).await;
        let head = rig.oracle().head().await.unwrap();
        let tree = rig.oracle().tree(&head).await;
        assert!(["file", "dir/a", "dir/below/b", "names/c"].iter().all(|path| tree.contains_key(*path)));
        for (path, mode) in [("file", 0o600), ("dir", 0o700), ("names", 0o700)] {
            set_mode(&rig, path, mode);
        }
        rig.write("dir/below/later", "1");
        rig.assert_all_holds().await;
        rig.until_status("nothing is wrong any more", |report| report.folders[0].failed == 0).await;
        rig.assert_a_restart_changes_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_may_not_be_read_removes_nothing_and_comes_back_by_itself() {
    let Some(mut rig) = bound_rig("on_delete = \"mirror\"").await else { return };
    rig.write("a", "1");
    rig.write("d/b", "2");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let head = rig.oracle().head().await;
    // While it runs, and from its start on; all of it, and its names alone.
    let is_told = |report: &Report| {
        let why = report.folders[0].why.as_deref().unwrap_or_default();
        report.folders[0].state == FolderState::Broken && why.contains("read access")
    };
    for mode in [0o000, 0o400] {
        set_mode(&rig, "", mode);
        rig.until_status("it is told", is_told).await;
        rig.stop().await;
        rig.start();
        rig.until_status("it is told again", is_told).await;
        assert_eq!(rig.oracle().head().await, head, "nothing is removed");
        set_mode(&rig, "", 0o700);
        rig.assert_idle().await;
        assert_eq!(rig.oracle().head().await, head, "nothing is committed that was committed");
    }
    rig.write("d/c", "3");
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// What it leaves out must not be pushed, so nothing is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ignore_file_that_may_not_be_read_is_not_taken_for_none() {
    let Some(mut rig) = bound_rig("").await else { return };
    rig.write(".oxenignore", "*.raw\n");
    rig.write("a.raw", "never to be pushed");
    rig.write("b", "1");
    rig.left_out = vec![b"a.raw".to_vec()];
    set_mode(&rig, ".oxenignore", 0o000);
    rig.start();
    let is_held = |report: &Report| {
        let why = report.folders[0].why.as_deref().unwrap_or_default();
        report.folders[0].state == FolderState::Broken
            && why.contains(".oxenignore")
            && why.contains("read access")
    };
    rig.until_status("it is told", is_held).await;
    set_mode(&rig, ".oxenignore", 0o600);
    rig.assert_all_holds().await;
    let head = rig.oracle().head().await;
    // And while it runs.
    set_mode(&rig, ".oxenignore", 0o000);
    rig.until_status("it is told", is_held).await;
    rig.write("c", "2");
    rig.write("d.raw", "never to be pushed");
    rig.left_out.push(b"d.raw".to_vec());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(rig.oracle().head().await, head, "nothing is pushed");
    set_mode(&rig, ".oxenignore", 0o600);
    rig.assert_all_holds().await;
    let tree = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
    assert_eq!(tree.into_keys().collect::<Vec<_>>(), [".oxenignore", "b", "c"]);
    rig.stop().await;
}
