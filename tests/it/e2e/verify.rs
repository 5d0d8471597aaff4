//! All of the folder compared with all of the branch: every difference is said, and nothing is changed.

use std::fs;
use std::sync::Arc;

use serde_json::Value;

use super::on_both;
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

on_both! {
    every_difference_between_folder_and_branch_is_said,
    a_mirror_that_lags_behind_is_said,
}

async fn verify(rig: &Rig) -> Said {
    rig.run(&["verify".as_ref()]).await
}

async fn every_difference_between_folder_and_branch_is_said(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "exclude = [\"*.tmp\"]\nremote_path = \"raw/{dir}/x/{name}\"");
    let none = verify(&rig).await;
    assert!(none.code == Some(1) && none.err.contains("has not run with the state directory"), "{none:?}");
    (0..20).for_each(|n| rig.write(&format!("run {}/{n}", n % 3), format!("{n}")));
    rig.write("large", vec![7; 3 << 20]);
    rig.start();
    rig.settled().await;
    let same = verify(&rig).await;
    assert!(same.code == Some(0) && same.out.contains("the same; 21 files (3.0 MiB) compared"), "{same:?}");

    let head = rig.oracle().head().await.unwrap();
    let [changed, removed, theirs] = ["run 0/0", "run 1/1", "theirs"].map(|path| rig.on_branch(path));
    site.commit(&rig.repo, &[(&changed, "other bytes"), (&theirs, "1"), ("elsewhere", "1")]).await;
    site.remove(&rig.repo, &[&removed]).await;
    fs::remove_file(rig.folder.join("run 2/2")).unwrap();
    fs::write(rig.folder.join("a.tmp"), "left out").unwrap();
    rig.write("bad\\name", "1");
    rig.until_status("all is noticed", |report| {
        report.folders[0].files == 20 && report.folders[0].failed == 1 && report.folders[0].waiting == 0
    })
    .await;
    for is_running in [true, false] {
        let said = verify(&rig).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let expected = [
            "3 files DIFFER; 20 files (3.0 MiB) compared",
            "content  run 0/0: the branch holds other bytes, although they were proved to be the same",
            "missing  run 1/1: it is not on the branch, although",
            "missing  bad\\\\name: ",
            "1 on the branch alone: gone from the folder, and kept there",
            "2 on the branch alone: never in this folder",
        ];
        for expected in expected {
            assert!(said.out.contains(expected), "{is_running}: {expected:?} is not in {}", said.out);
        }
        if is_running {
            rig.stop().await;
        }
    }
    let said = rig.run(&["verify".as_ref(), "--json".as_ref()]).await;
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["done"], &json["folders"][0]["different"]), (&true.into(), &3.into()), "{said:?}");
    assert_ne!(rig.oracle().head().await.unwrap(), head);
    let unchanged = rig.oracle().head().await;
    verify(&rig).await;
    assert_eq!(rig.oracle().head().await, unchanged, "nothing is changed");
    assert_eq!(site.read(&rig.repo, &changed).await.as_deref(), Some(&b"other bytes"[..]));
}

async fn a_mirror_that_lags_behind_is_said(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "on_delete = \"mirror\"");
    (0..20).for_each(|n| rig.write(&format!("{n}"), format!("{n}")));
    rig.start();
    rig.settled().await;
    (0..15).for_each(|n| fs::remove_file(rig.folder.join(format!("{n}"))).unwrap());
    rig.until_status("they are held", |report| report.folders[0].held == 15).await;
    let said = verify(&rig).await;
    assert!(said.code == Some(1) && said.out.contains("15 files DIFFER; 5 files"), "{said:?}");
    assert!(said.out.contains("extra    0: it is gone from the folder, and its removal waits"), "{said:?}");
    assert_eq!(rig.run(&["release".as_ref()]).await.code, Some(0));
    rig.assert_all_holds().await;
    let said = verify(&rig).await;
    assert!(said.code == Some(0) && said.out.contains("the same; 5 files"), "{said:?}");
    rig.stop().await;
}
