//! Reading what a branch holds.

use oxen_sync::oxen::Reason;
use xxhash_rust::xxh3::xxh3_128;

use super::contract;
use crate::support::site::{Site, path};

contract! {
    an_entry_says_what_it_is_and_who_changed_it,
    what_is_not_there_is_none,
    a_directory_is_listed_page_by_page,
    a_revision_may_be_an_older_commit,
    history_goes_back_page_by_page,
    an_empty_file_has_content,
}

async fn an_entry_says_what_it_is_and_who_changed_it(site: &Site) {
    let repo = site.repo(&[("d/a", "one"), ("b", "1")]).await;
    let first = site.head(&repo).await;
    let second = site.commit(&repo, &[("b", "two")]).await.id;
    for revision in [second.as_str(), "main"] {
        let entry = site.client.entry(&repo, revision, &path("d/a")).await.unwrap().unwrap();
        assert_eq!((entry.name.as_str(), entry.is_dir, entry.size), ("a", false, 3));
        assert_eq!((entry.xxh3, entry.last_commit_id), (Some(xxh3_128(b"one")), Some(first.clone())));
        let entry = site.client.entry(&repo, revision, &path("b")).await.unwrap().unwrap();
        assert_eq!(entry.last_commit_id.as_ref(), Some(&second));
        let entry = site.client.entry(&repo, revision, &path("d")).await.unwrap().unwrap();
        assert_eq!((entry.name.as_str(), entry.is_dir, entry.size, entry.xxh3), ("d", true, 3, None));
        let root = site.client.entry(&repo, revision, &path("")).await.unwrap().unwrap();
        assert!(root.is_dir);
    }
}

async fn what_is_not_there_is_none(site: &Site) {
    let repo = site.repo(&[("d/a", "one")]).await;
    let head = site.head(&repo).await;
    for (revision, name) in [
        (head.as_str(), "x"),
        (&head, "d/x"),
        (&head, "d/a/x"),
        (&head, "x/y/z"),
        ("nowhere", "d/a"),
        ("main", "x"),
    ] {
        assert_eq!(site.client.entry(&repo, revision, &path(name)).await.unwrap(), None, "{revision} {name}");
        let file = site.client.file(&repo, revision, &path(name)).await.unwrap();
        assert!(file.is_none(), "{revision} {name}");
        let page = site.client.list_dir(&repo, revision, &path(name), 1, 10).await.unwrap();
        assert_eq!(page, None, "{revision} {name}");
    }
    assert!(site.client.file(&repo, &head, &path("d")).await.unwrap().is_none(), "a directory is no file");
    assert_eq!(
        site.client.list_dir(&repo, &head, &path("d/a"), 1, 10).await.unwrap(),
        None,
        "nor the reverse"
    );
    let error = site.client.history(&repo, "nowhere", 1, 10).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(404), Reason::NotFound), "{error}");
}

async fn a_directory_is_listed_page_by_page(site: &Site) {
    let repo = site
        .repo(&[("d/b", "1"), ("d/a b", "1"), ("d/C", "1"), ("d/z/x", "1"), ("d/é", "1"), ("e", "1")])
        .await;
    let head = site.head(&repo).await;
    let names = async |page: usize, page_size: usize| {
        let page = site.client.list_dir(&repo, &head, &path("d"), page, page_size).await.unwrap().unwrap();
        assert_eq!((page.total_entries, page.total_pages), (5, 5_usize.div_ceil(page_size)));
        page.entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    assert_eq!(names(1, 100).await, ["z", "C", "a b", "b", "é"], "directories first, then by bytes");
    assert_eq!(names(1, 2).await, ["z", "C"]);
    assert_eq!(names(3, 2).await, ["é"]);
    assert_eq!(names(4, 2).await, [""; 0]);
    let page = site.client.list_dir(&repo, &head, &path("d"), 1, 100).await.unwrap().unwrap();
    assert_eq!((page.entries[0].is_dir, page.entries[1].xxh3), (true, Some(xxh3_128(b"1"))));
    let root = site.client.list_dir(&repo, &head, &path(""), 1, 100).await.unwrap().unwrap();
    assert_eq!(root.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["d", "e"]);
}

async fn a_revision_may_be_an_older_commit(site: &Site) {
    let repo = site.repo(&[("a", "old")]).await;
    let first = site.head(&repo).await;
    site.commit(&repo, &[("a", "newer"), ("b", "1")]).await;
    let size =
        async |revision: &str| site.client.entry(&repo, revision, &path("a")).await.unwrap().unwrap().size;
    assert_eq!((size(&first).await, size("main").await), (3, 5));
    assert_eq!(site.client.entry(&repo, &first, &path("b")).await.unwrap(), None);
}

async fn history_goes_back_page_by_page(site: &Site) {
    let repo = site.repo(&[("a", "0")]).await;
    let mut ids = vec![site.head(&repo).await];
    for n in 1..4 {
        ids.push(site.commit(&repo, &[("a", &n.to_string())]).await.id);
    }
    // The first commit of a repository is the empty one that the workspace made.
    let all = site.client.history(&repo, "main", 1, 100).await.unwrap();
    let found: Vec<_> = all.iter().map(|commit| commit.id.clone()).collect();
    ids.reverse();
    assert_eq!(found[..4], ids[..]);
    assert_eq!((found.len(), all[4].parent_ids.len()), (5, 0));
    assert!(all.windows(2).all(|pair| pair[0].parent_ids == [pair[1].id.clone()]));
    assert!(all[0].timestamp.parse::<jiff::Timestamp>().is_ok(), "{}", all[0].timestamp);

    let page = async |revision: &str, page: usize, page_size: usize| {
        let commits = site.client.history(&repo, revision, page, page_size).await.unwrap();
        commits.into_iter().map(|commit| commit.id).collect::<Vec<_>>()
    };
    assert_eq!(page("main", 2, 2).await, found[2..4]);
    assert_eq!(page("main", 4, 2).await, [""; 0]);
    assert_eq!(page(&found[1], 1, 2).await, found[1..3]);
}

async fn an_empty_file_has_content(site: &Site) {
    let repo = site.repo(&[("empty", "")]).await;
    let entry = site.client.entry(&repo, &site.head(&repo).await, &path("empty")).await.unwrap().unwrap();
    assert_eq!((entry.size, entry.xxh3), (0, Some(xxh3_128(b""))));
    assert_eq!(site.read(&repo, "empty").await.unwrap(), b"");
}
