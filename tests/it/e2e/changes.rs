//! Whatever happens in the folder, the branch becomes what the folder is.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::work::Work;
use super::{MIRROR_WITHOUT_BRAKE, on_both};
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    random_changes_end_up_on_the_branch,
    #[ignore = "takes two minutes: tests/run --long"]
    long_random_changes_end_up_on_the_branch,
    a_branch_with_a_slash_in_an_empty_repository,
    a_directory_becomes_a_file_and_a_directory_again,
    a_file_that_becomes_a_directory_takes_nothing_along,
    a_file_in_place_of_a_directory_that_the_branch_keeps_is_refused,
}

async fn random_changes_end_up_on_the_branch(site: &Arc<Site>) {
    change(site, 150, Duration::from_secs(10)).await;
}

async fn long_random_changes_end_up_on_the_branch(site: &Arc<Site>) {
    change(site, 1_000, Duration::from_secs(120)).await;
}

async fn change(site: &Arc<Site>, count: u32, time: Duration) {
    // Random work may remove most of a small folder.
    let mut rig = Rig::new(site, MIRROR_WITHOUT_BRAKE);
    let mut work = Work::in_folder_of(&rig);
    // Some is there before the start.
    (0..20).for_each(|_| work.change());
    rig.start();
    work.run(count, time).await;
    work.finish();
    let commits = rig.assert_all_holds().await;
    assert!(commits > 3, "the changes came in {commits} commits, so none was seen on its way");
    rig.assert_a_restart_changes_nothing().await;
    eprintln!("{count} changes in {time:?}: {} files in {commits} commits", rig.wanted().len());
}

async fn a_branch_with_a_slash_in_an_empty_repository(site: &Arc<Site>) {
    let repo = site.empty_repo().await;
    let mut rig = Rig::of(site, &repo.to_string(), "rig/7/raw", "camera/left", "");
    rig.write("a.tif", "1");
    rig.write("d/b.tif", "2");
    rig.start();
    rig.assert_all_holds().await;
    let branches = site.client.branches(&repo).await.unwrap();
    let names: Vec<&str> = branches.iter().map(|branch| branch.name.as_str()).collect();
    assert_eq!(names, ["rig/7/raw"]);
    rig.write("d/b.tif", "3");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_directory_becomes_a_file_and_a_directory_again(site: &Arc<Site>) {
    let mut rig = Rig::new(site, MIRROR_WITHOUT_BRAKE);
    rig.write("t/u/x", "1");
    rig.write("t/y", "1");
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    // At once, and after the branch has long had an empty directory.
    fs::remove_dir_all(rig.folder.join("t")).unwrap();
    rig.write("t", "a file");
    rig.settled().await;
    fs::remove_file(rig.folder.join("t")).unwrap();
    rig.write("t/u/x", "2");
    rig.settled().await;
    fs::remove_dir_all(rig.folder.join("t")).unwrap();
    rig.settled().await;
    rig.write("t", "a file again");
    (0..20).for_each(|number| rig.write(&format!("many/{number}/file"), "1"));
    rig.assert_all_holds().await;
    (0..20).for_each(|number| fs::remove_dir_all(rig.folder.join(format!("many/{number}"))).unwrap());
    rig.settled().await;
    (0..20).for_each(|number| rig.write(&format!("many/{number}"), "a file, too"));
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_file_in_place_of_a_directory_that_the_branch_keeps_is_refused(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.write("t/x", "1");
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    fs::remove_dir_all(rig.folder.join("t")).unwrap();
    rig.write("t", "a file");
    rig.write("other", "2");
    rig.left_out = vec![b"t".to_vec()];
    let report = rig.until_status("t is refused", |report| report.folders[0].failed == 1).await;
    assert_eq!(report.folders[0].problems[0].path, "t");
    assert!(report.folders[0].problems[0].reason.contains("t/x"), "{report:?}");
    rig.assert_all_holds().await;
    let head = rig.oracle().head().await.unwrap();
    let tree: Vec<String> = rig.oracle().tree(&head).await.into_keys().collect();
    assert_eq!(tree, ["other", "t/x"], "the branch is an archive");
}

async fn a_file_that_becomes_a_directory_takes_nothing_along(site: &Arc<Site>) {
    let mut rig = Rig::new(site, &format!("{MIRROR_WITHOUT_BRAKE}\nbatch.quiet = \"0s\""));
    (0..10).for_each(|number| rig.write(&format!("{number}"), "a file"));
    rig.start();
    rig.settled().await;
    for number in 0..10 {
        fs::remove_file(rig.folder.join(format!("{number}"))).unwrap();
        fs::create_dir(rig.folder.join(format!("{number}"))).unwrap();
        // Some directories stay empty, some get their file at once, some later than the removal is seen.
        if number % 3 > 0 {
            rig.write(&format!("{number}/inside"), format!("{number}"));
        }
        if number % 2 > 0 {
            sleep(Duration::from_millis(150)).await;
            rig.write(&format!("{number}/later"), format!("{number}"));
        }
    }
    rig.assert_all_holds().await;
    rig.stop().await;
}
