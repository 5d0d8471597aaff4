//! The server, repositories, branches.

use oxen_sync::oxen::{Author, Created, Reason};
use reqwest::header::CONTENT_TYPE;

use super::contract;
use crate::support::site::{Site, branch, fresh_id, path};

contract! {
    health_names_the_version,
    a_repository_is_made_once_and_begins_empty,
    a_repository_needs_a_good_name_and_plain_json,
    a_missing_repository_is_said_to_be_missing,
    a_branch_is_made_from_another_once,
    branch_names_hold_slashes_and_more,
}

async fn health_names_the_version(site: &Site) {
    let info = site.client.health().await.unwrap();
    assert_eq!(info.version.as_deref(), Some("0.65.2"));
}

async fn a_repository_is_made_once_and_begins_empty(site: &Site) {
    let name = format!("contract/{}", fresh_id()).parse().unwrap();
    let author = Author { name: "rig".to_owned(), email: "rig@lab.example".to_owned() };
    assert!(!site.client.repo_exists(&name).await.unwrap());
    let created = site.client.create_repo(&name, Some("cells"), Some(&author)).await.unwrap();
    assert_eq!(created, Created::New);
    assert_eq!(site.client.create_repo(&name, None, None).await.unwrap(), Created::Existed);
    assert!(site.client.repo_exists(&name).await.unwrap());

    assert_eq!(site.client.branches(&name).await.unwrap(), []);
    assert_eq!(site.client.branch(&name, &branch("main")).await.unwrap(), None);
    assert_eq!(site.client.history(&name, "main", 1, 10).await.unwrap(), []);
    assert_eq!(site.client.entry(&name, "main", &path("a")).await.unwrap(), None);
    assert!(site.client.file(&name, "main", &path("a")).await.unwrap().is_none());
    assert_eq!(site.client.list_dir(&name, "main", &path(""), 1, 10).await.unwrap(), None);
    assert_eq!(site.client.workspaces(&name).await.unwrap(), []);
}

async fn a_repository_needs_a_good_name_and_plain_json(site: &Site) {
    let post = |kind: &'static str, namespace: &str, name: &str| {
        let body = format!(r#"{{"namespace":"{namespace}","name":"{name}"}}"#);
        site.http.post(format!("{}/api/repos", site.url)).header(CONTENT_TYPE, kind).body(body).send()
    };
    for (namespace, name) in
        [("l.b", "cells"), ("repo", "cells"), ("a", "cells"), ("lab", "a b"), ("lab", ".x")]
    {
        let status = post("application/json", namespace, name).await.unwrap().status();
        assert_eq!(status, 400, "{namespace}/{name}");
    }
    let status = post("application/json; charset=utf-8", "contract", &fresh_id()).await.unwrap().status();
    assert!(!status.is_success(), "{status}");
}

async fn a_missing_repository_is_said_to_be_missing(site: &Site) {
    let name = "contract/nowhere".parse().unwrap();
    for error in [
        site.client.branches(&name).await.unwrap_err(),
        site.client.branch(&name, &branch("main")).await.unwrap_err(),
        site.client.entry(&name, "main", &path("a")).await.unwrap_err(),
        site.client.history(&name, "main", 1, 10).await.unwrap_err(),
        site.client.open_workspace(&name, "w", &branch("main")).await.unwrap_err(),
        site.client.begin_upload(&name, 1, 1, None).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.reason()), (Some(404), Reason::RepoNotFound), "{error}");
    }
}

async fn a_branch_is_made_from_another_once(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let first = site.head(&repo).await;
    let made = site.client.create_branch(&repo, &branch("rig/7"), &branch("main")).await.unwrap().unwrap();
    assert_eq!((made.name.as_str(), &made.commit_id), ("rig/7", &first));

    let second = site.commit(&repo, &[("b", "2")]).await.id;
    let found = site.client.create_branch(&repo, &branch("rig/7"), &branch("main")).await.unwrap().unwrap();
    assert_eq!(found.commit_id, first, "a branch that is there stays where it is, not at {second}");
    assert_eq!(site.client.create_branch(&repo, &branch("x"), &branch("nowhere")).await.unwrap(), None);

    let mut names: Vec<_> = site.client.branches(&repo).await.unwrap().into_iter().map(|b| b.name).collect();
    names.sort();
    assert_eq!(names, ["main", "rig/7"]);
}

async fn branch_names_hold_slashes_and_more(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    for name in ["rig/7/day+1", "a/versions/b", "größe", "v1.2", "x@y", "q=1&r;s,t"] {
        let name = branch(name);
        let made = site.client.create_branch(&repo, &name, &branch("main")).await.unwrap().unwrap();
        assert_eq!(site.client.branch(&repo, &name).await.unwrap(), Some(made), "{name}");
        let (id, file) = (fresh_id(), crate::support::site::file("b", b"2"));
        site.client.open_workspace(&repo, &id, &name).await.unwrap();
        site.client.stage_files(&repo, &id, vec![file]).await.unwrap();
        let commit = site
            .client
            .merge_workspace(&repo, &id, &name, &crate::support::site::info(name.as_str()))
            .await
            .unwrap();
        assert_eq!(site.client.branch(&repo, &name).await.unwrap().unwrap().commit_id, commit.id, "{name}");
    }
    assert_eq!(site.client.branch(&repo, &branch("rig/7")).await.unwrap(), None);
}
