//! The traps in the tree: removals, and files and directories that take each other's place.

use super::contract;
use super::workspace::{merge, open, pairs, stage};
use crate::support::site::{Site, path};

contract! {
    removals_of_what_is_not_there_are_listed,
    a_directory_stays_after_its_last_file,
    a_directory_removed_before_its_files_are_staged_keeps_them,
    a_directory_removed_after_its_files_are_staged_loses_them,
    files_removed_by_name_lose_nothing,
    a_file_becomes_a_directory_by_itself,
    a_directory_becomes_a_file_in_the_commit_after_its_removal,
    a_file_is_lost_where_its_directory_is_removed_in_the_same_commit,
    a_file_over_a_directory_is_listed_and_cannot_be_read,
}

async fn removals_of_what_is_not_there_are_listed(site: &Site) {
    let repo = site.repo(&[("d/a", "1"), ("d/b", "1"), ("c d", "1")]).await;
    let id = open(site, &repo).await;
    let missing = site.client.stage_removals(&repo, &id, &["d/a", "d/x", "y", "c d"]).await.unwrap();
    assert_eq!(missing, ["d/x", "y"]);
    assert_eq!(site.client.stage_removals(&repo, &id, &["d/a"]).await.unwrap(), [""; 0], "again is fine");
    assert_eq!(site.client.stage_removals(&repo, &id, &[]).await.unwrap(), [""; 0]);
    // What is only staged can be taken back.
    stage(site, &repo, &id, &[("e/f", "1")]).await;
    assert_eq!(site.client.stage_removals(&repo, &id, &["e/f"]).await.unwrap(), [""; 0]);
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("d/b", "1")]));
}

async fn a_directory_stays_after_its_last_file(site: &Site) {
    let repo = site.repo(&[("d/e/a", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    site.client.stage_removals(&repo, &id, &["d/e/a"]).await.unwrap();
    let commit = merge(site, &repo, &id).await.unwrap();
    let dir = site.client.entry(&repo, &commit.id, &path("d/e")).await.unwrap().unwrap();
    assert!(dir.is_dir);
    let page = site.client.list_dir(&repo, &commit.id, &path("d/e"), 1, 10).await.unwrap().unwrap();
    assert_eq!(page.total_entries, 0);

    let id = open(site, &repo).await;
    assert_eq!(site.client.stage_removals(&repo, &id, &["d"]).await.unwrap(), [""; 0]);
    let commit = merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.client.entry(&repo, &commit.id, &path("d")).await.unwrap(), None);
}

async fn a_directory_removed_before_its_files_are_staged_keeps_them(site: &Site) {
    for put in ["t/x", "t/a", "t/u/c", "t/n/x"] {
        let repo = site.repo(&[("t/a", "1"), ("t/u/c", "1"), ("b", "1")]).await;
        let id = open(site, &repo).await;
        site.client.stage_removals(&repo, &id, &["t"]).await.unwrap();
        assert_eq!(stage(site, &repo, &id, &[(put, "2")]).await, [put]);
        merge(site, &repo, &id).await.unwrap();
        assert_eq!(site.files(&repo).await, pairs(&[("b", "1"), (put, "2")]));
    }
}

async fn a_directory_removed_after_its_files_are_staged_loses_them(site: &Site) {
    let repo = site.repo(&[("t/a", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    assert_eq!(stage(site, &repo, &id, &[("t/x", "2")]).await, ["t/x"]);
    site.client.stage_removals(&repo, &id, &["t"]).await.unwrap();
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("b", "1")]));
}

async fn files_removed_by_name_lose_nothing(site: &Site) {
    let repo = site.repo(&[("t/a", "1"), ("t/u/c", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    site.client.stage_removals(&repo, &id, &["t/a", "t/u/c"]).await.unwrap();
    stage(site, &repo, &id, &[("t/x", "2"), ("t/u/y", "2")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("b", "1"), ("t/u/y", "2"), ("t/x", "2")]));
}

async fn a_file_becomes_a_directory_by_itself(site: &Site) {
    let repo = site.repo(&[("t", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("t/x/y", "2")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("b", "1"), ("t/x/y", "2")]));
    let entry = site.client.entry(&repo, &site.head(&repo).await, &path("t")).await.unwrap().unwrap();
    assert!(entry.is_dir);
}

async fn a_directory_becomes_a_file_in_the_commit_after_its_removal(site: &Site) {
    let repo = site.repo(&[("t/x/y", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    site.client.stage_removals(&repo, &id, &["t"]).await.unwrap();
    merge(site, &repo, &id).await.unwrap();
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("t", "2")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("b", "1"), ("t", "2")]));
    // And back again.
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("t/x/y", "3")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("b", "1"), ("t/x/y", "3")]));
}

async fn a_file_is_lost_where_its_directory_is_removed_in_the_same_commit(site: &Site) {
    for removals in [&["t"][..], &["t/x/y", "t/z"]] {
        let repo = site.repo(&[("t/x/y", "1"), ("t/z", "1"), ("b", "1")]).await;
        let id = open(site, &repo).await;
        site.client.stage_removals(&repo, &id, removals).await.unwrap();
        assert_eq!(stage(site, &repo, &id, &[("t", "2")]).await, ["t"]);
        let commit = merge(site, &repo, &id).await.unwrap();
        let entry = site.client.entry(&repo, &commit.id, &path("t")).await.unwrap().unwrap();
        assert_eq!((entry.is_dir, entry.size), (true, 0), "an empty directory stands there");
        assert_eq!(site.files(&repo).await, pairs(&[("b", "1")]));
    }
}

async fn a_file_over_a_directory_is_listed_and_cannot_be_read(site: &Site) {
    // A directory that its files left is one as well.
    for empty in [false, true] {
        let repo = site.repo(&[("t/x", "1"), ("b", "1")]).await;
        if empty {
            let id = open(site, &repo).await;
            site.client.stage_removals(&repo, &id, &["t/x"]).await.unwrap();
            merge(site, &repo, &id).await.unwrap();
        }
        let id = open(site, &repo).await;
        stage(site, &repo, &id, &[("t", "2")]).await;
        let commit = merge(site, &repo, &id).await.unwrap();
        let page = site.client.list_dir(&repo, &commit.id, &path(""), 1, 10).await.unwrap().unwrap();
        let listed: Vec<_> = page.entries.iter().map(|entry| (entry.name.as_str(), entry.is_dir)).collect();
        assert_eq!(listed, [("b", false), ("t", false)]);
        assert!(site.client.entry(&repo, &commit.id, &path("t")).await.unwrap().unwrap().is_dir);
        assert_eq!(site.read(&repo, "t").await, None);
        assert_eq!(site.read(&repo, "t/x").await.is_some(), !empty);

        // The next file below brings the directory back, with all that it held.
        let id = open(site, &repo).await;
        stage(site, &repo, &id, &[("t/y", "3")]).await;
        merge(site, &repo, &id).await.unwrap();
        let expected = if empty {
            pairs(&[("b", "1"), ("t/y", "3")])
        } else {
            pairs(&[("b", "1"), ("t/x", "1"), ("t/y", "3")])
        };
        assert_eq!(site.files(&repo).await, expected);
    }
}
