//! That the oracle sees what it is there to see.

use std::fs;
use std::sync::Arc;

use oxen_sync::oxen::RepoName;
use oxen_sync::path::Place;

use crate::support::ledger::Ledger;
use crate::support::oracle::Oracle;
use crate::support::site::{Site, branch, file, info};
use crate::support::tree::{differences, folder_tree};

async fn site() -> (Arc<Site>, RepoName) {
    let site = Arc::new(Site::standin().await);
    let repo = site.repo(&[("a", "1"), ("d/b", "2")]).await;
    (site, repo)
}

/// Whether a check comes to an end without a panic.
async fn passes(check: impl Future<Output = ()> + Send + 'static) -> bool {
    tokio::spawn(check).await.is_ok()
}

async fn history_passes(site: &Arc<Site>, repo: &RepoName, known: &[(&str, &str)]) -> bool {
    let ledger = Ledger::default();
    known.iter().for_each(|(path, content)| ledger.finished(path, content.as_bytes()));
    let (site, repo) = (Arc::clone(site), repo.clone());
    passes(async move {
        let oracle = Oracle { site: &site, repo: &repo, branch: &branch("main") };
        oracle.assert_history(&ledger).await;
    })
    .await
}

#[tokio::test]
async fn a_content_that_never_was_a_finished_file_is_seen_also_when_it_is_gone_by_now() {
    let (site, repo) = site().await;
    let known = [("a", "1"), ("d/b", "2"), ("a", "whole")];
    assert!(history_passes(&site, &repo, &known).await);
    site.commit(&repo, &[("a", "who")]).await;
    site.commit(&repo, &[("a", "whole")]).await;
    assert!(!history_passes(&site, &repo, &known).await, "a torn content");
    assert!(!history_passes(&site, &repo, &[("a", "1"), ("d/b", "2"), ("a", "who"), ("b", "whole")]).await);
    assert!(history_passes(&site, &repo, &[("a", "1"), ("d/b", "2"), ("a", "who"), ("a", "whole")]).await);
}

#[tokio::test]
async fn a_commit_that_repeats_its_parent_is_seen() {
    let (site, repo) = site().await;
    let main = branch("main");
    let known = [("a", "1"), ("d/b", "2"), ("c", "3")];
    site.client.open_workspace(&repo, "late", &main).await.unwrap();
    site.client.stage_files(&repo, "late", vec![file("c", b"3")]).await.unwrap();
    site.commit(&repo, &[("c", "3")]).await;
    assert!(history_passes(&site, &repo, &known).await);
    site.client.merge_workspace(&repo, "late", &main, &info("once more")).await.unwrap();
    assert!(!history_passes(&site, &repo, &known).await);
}

#[tokio::test]
async fn a_workspace_that_is_left_is_seen() {
    let (site, repo) = site().await;
    let check = |site: Arc<Site>, repo: RepoName| async move {
        Oracle { site: &site, repo: &repo, branch: &branch("main") }.assert_no_workspaces().await;
    };
    site.client.open_workspace(&repo, "someone-elses", &branch("main")).await.unwrap();
    assert!(passes(check(Arc::clone(&site), repo.clone())).await);
    site.client.open_workspace(&repo, "oxen-sync-1-2-3", &branch("main")).await.unwrap();
    assert!(!passes(check(site, repo)).await);
}

#[tokio::test]
async fn a_file_that_is_missing_other_or_too_much_is_seen() {
    let (site, repo) = site().await;
    let main = branch("main");
    let oracle = Oracle { site: &site, repo: &repo, branch: &main };
    let dir = tempfile::tempdir().unwrap();
    let tree = oracle.tree(&oracle.head().await.unwrap()).await;
    let compared = |exact| differences(&folder_tree(dir.path(), &Place::default(), |_| false), &tree, exact);
    assert_eq!(compared(false), None);
    assert!(compared(true).unwrap().contains("extra \"a\""));
    fs::write(dir.path().join("a"), "1").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/b"), "2").unwrap();
    assert_eq!(compared(true), None);
    fs::write(dir.path().join("a"), "3").unwrap();
    assert!(compared(false).unwrap().contains("other content at \"a\""));
    fs::write(dir.path().join("c"), "").unwrap();
    assert!(compared(false).unwrap().contains("missing \"c\""));
}

#[tokio::test]
async fn other_bytes_than_the_folders_are_seen() {
    let (site, repo) = site().await;
    for (content, same) in [("1", true), ("2", false), ("12", false), ("", false)] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), content).unwrap();
        let (site, repo) = (Arc::clone(&site), repo.clone());
        let check = async move {
            let wanted = folder_tree(dir.path(), &Place::default(), |_| false);
            let oracle = Oracle { site: &site, repo: &repo, branch: &branch("main") };
            oracle.assert_bytes(dir.path(), &Place::default(), &wanted).await;
        };
        assert_eq!(passes(check).await, same, "{content:?}");
    }
}
