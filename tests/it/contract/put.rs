//! Committing files of one directory in one request, and what it does to them on the way.

use bytes::Bytes;
use oxen_sync::oxen::{Branch, FileBody, Kind, PUT_FORM_MAX, Reason, RepoName, fits_put_name, put_form_len};
use reqwest::Response;

use super::contract;
use crate::support::site::{Site, branch, file, fresh_id, info, path};

contract! {
    a_put_commits_all_its_files_at_once,
    a_put_reaches_directories_of_every_name,
    names_that_fit_are_stored_as_they_are,
    names_that_do_not_fit_are_changed_or_refused,
    of_several_file_parts_one_is_kept,
    a_file_part_becomes_a_file_of_the_directorys_name,
    a_form_holds_at_most_two_mebibytes,
    nothing_different_is_422,
    only_what_differs_is_in_the_commit,
    a_missing_branch_is_said_to_be_missing,
    the_author_must_be_named,
    a_file_cannot_stand_where_a_directory_is_needed,
    a_put_of_a_file_over_a_directory_is_listed_and_cannot_be_read,
    an_empty_repository_takes_one_segment_as_the_branch,
    an_empty_repository_decodes_nothing,
    the_longest_branch_takes_the_put,
    a_reserved_name_is_refused,
    gzip_files_stay_gzip_files,
    equal_commits_within_a_second_are_429,
    commits_side_by_side_all_land,
}

/// A PUT that the client would not make: parts of name, file name and content.
async fn raw_put(site: &Site, repo: &RepoName, tail: &str, parts: &[(&str, Option<&str>, &str)]) -> Response {
    let mut body = String::new();
    for (name, filename, content) in parts {
        let filename = filename
            .map(|name| format!("; filename=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
        let filename = filename.unwrap_or_default();
        body += &format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{content}\r\n"
        );
    }
    body += "--xyz--\r\n";
    let request =
        site.http.put(site.page(repo, tail)).header("content-type", "multipart/form-data; boundary=xyz");
    request.body(body).send().await.unwrap()
}

const AUTHOR: [(&str, Option<&str>, &str); 2] = [("name", None, "rig"), ("email", None, "rig@lab.example")];

async fn a_put_commits_all_its_files_at_once(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let before = site.head(&repo).await;
    let files = vec![file("a.txt", b"1"), file("b.bin", &[0, 255, 13, 10, 45, 45]), file("empty", b"")];
    let message = "two lines\n\"quoted\" größe 🐂 --boundary\r\n";
    let commit =
        site.client.put_files(&repo, &branch("main"), &path("x/y"), files, &info(message)).await.unwrap();
    assert_eq!((commit.parent_ids, commit.message.as_str()), (vec![before], message));
    assert_eq!((commit.author.as_str(), commit.email.as_str()), ("rig-07", "rig-07@lab.example"));
    assert_eq!(site.head(&repo).await, commit.id);
    assert_eq!(site.read(&repo, "x/y/a.txt").await.unwrap(), b"1");
    assert_eq!(site.read(&repo, "x/y/b.bin").await.unwrap(), [0, 255, 13, 10, 45, 45]);
    assert_eq!(site.read(&repo, "x/y/empty").await.unwrap(), b"");
    assert_eq!(site.read(&repo, "old").await.unwrap(), b"0");
}

async fn a_put_reaches_directories_of_every_name(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    for dir in [
        "a b",
        "100%",
        "%41",
        "c#d",
        "e?f=g&h",
        "i+j;k",
        "l\"m'n",
        "größe/🐂",
        "o\np",
        "12:30",
        "...",
        "~",
        "@",
    ] {
        let (dir, content) = (path(dir), dir.as_bytes());
        let files = vec![file("file", content)];
        site.client.put_files(&repo, &branch("main"), &dir, files, &info(dir.as_str())).await.unwrap();
        assert_eq!(site.read(&repo, &format!("{dir}/file")).await.as_deref(), Some(content), "{dir:?}");
        let entry = site.client.entry(&repo, &site.head(&repo).await, &dir).await.unwrap().unwrap();
        assert_eq!((entry.is_dir, entry.name.as_str()), (true, dir.name()));
    }
}

async fn names_that_fit_are_stored_as_they_are(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let longest = "n".repeat(240);
    let names = [
        "a b",
        " lead",
        "trail ",
        "trail.",
        ".hidden",
        "...x",
        "#",
        "%",
        "%41",
        "+",
        "&",
        "=",
        ";",
        "'",
        "`",
        "~",
        "$(x)",
        "!",
        "@",
        "^",
        "{}",
        "[]",
        "()",
        ",",
        "größe",
        "gro\u{308}ße",
        "漢字",
        "🦀",
        "\u{a0}",
        "\u{200b}",
        "con",
        "NUL.txt",
        "a.csv",
        "b.parquet",
        "c.json",
        "d.png",
        "e.mp4",
        "f.zip",
        "g.gz",
        "\u{ad}",
        "_",
        "-",
        "--",
        &longest,
    ];
    assert!(names.iter().all(|name| fits_put_name(name)));
    let files = names.iter().map(|name| file(name, name.as_bytes())).collect();
    site.client.put_files(&repo, &branch("main"), &path("d"), files, &info("names")).await.unwrap();
    let mut expected: Vec<_> = names.iter().map(|name| (format!("d/{name}"), (*name).to_owned())).collect();
    expected.push(("old".to_owned(), "0".to_owned()));
    expected.sort();
    assert_eq!(site.files(&repo).await, expected);
}

async fn names_that_do_not_fit_are_changed_or_refused(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let changed = [
        ("12:30:05.csv", "123005.csv"),
        ("a?b", "ab"),
        ("a<b>c", "abc"),
        ("x/y", "xy"),
        ("x\\y2", "xy2"),
        ("a*b*", "ab"),
        ("p|q", "pq"),
        ("\"r\"", "r"),
        ("t\tu", "tu"),
        ("v\u{85}w", "vw"),
    ];
    for (index, (sent, stored)) in changed.into_iter().enumerate() {
        assert!(!fits_put_name(sent), "{sent:?}");
        let dir = format!("d{index}");
        let mut parts = AUTHOR.to_vec();
        parts.extend([("files[]", Some(sent), "1"), ("message", None, sent)]);
        let answer = raw_put(site, &repo, &format!("/file/main/{dir}"), &parts).await;
        assert_eq!(answer.status(), 200, "{sent:?}");
        assert_eq!(
            site.read(&repo, &format!("{dir}/{stored}")).await.as_deref(),
            Some(&b"1"[..]),
            "{sent:?}"
        );

        // The client does not send what the server would rename.
        let files = vec![file(sent, b"1")];
        let error =
            site.client.put_files(&repo, &branch("main"), &path("d"), files, &info("m")).await.unwrap_err();
        assert_eq!((error.kind(), error.request_reached_server()), (Kind::Unsendable, false));
    }
    for sent in [".", "..", "..."] {
        let mut parts = AUTHOR.to_vec();
        parts.push(("files[]", Some(sent), "1"));
        assert_eq!(raw_put(site, &repo, "/file/main/e", &parts).await.status(), 400, "{sent:?}");
    }
    let long = "n".repeat(241);
    let mut parts = AUTHOR.to_vec();
    parts.push(("files[]", Some(&long), "1"));
    let answer = raw_put(site, &repo, "/file/main/f", &parts).await;
    assert_eq!(answer.status(), 500);
    assert!(answer.text().await.unwrap().contains("File name too long"));
}

async fn of_several_file_parts_one_is_kept(site: &Site) {
    let repo = site.repo(&[("d/old", "0")]).await;
    let mut parts = AUTHOR.to_vec();
    parts.extend([("file", Some("a"), "1"), ("file", Some("b"), "2"), ("file", Some("c"), "3")]);
    assert_eq!(raw_put(site, &repo, "/file/main/d", &parts).await.status(), 200);
    let files = site.files(&repo).await;
    assert_eq!(files, [("d/a".to_owned(), "1".to_owned()), ("d/old".to_owned(), "0".to_owned())]);
}

async fn a_file_part_becomes_a_file_of_the_directorys_name(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let mut parts = AUTHOR.to_vec();
    parts.push(("file", Some("a"), "1"));
    assert_eq!(raw_put(site, &repo, "/file/main/new", &parts).await.status(), 200);
    assert_eq!(site.read(&repo, "new").await.unwrap(), b"1");
    parts.push(("files[]", Some("b"), "2"));
    assert_eq!(raw_put(site, &repo, "/file/main/new2", &parts).await.status(), 400);
}

async fn a_form_holds_at_most_two_mebibytes(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let info = info("as much as fits");
    let room = PUT_FORM_MAX - put_form_len([1], &info);
    let put = async |len: usize| {
        let large = FileBody { name: "large".to_owned(), bytes: Bytes::from(vec![b'x'; len]) };
        let files = vec![large, file("small", b"1")];
        site.client.put_files(&repo, &branch("main"), &path("d"), files, &info).await
    };
    put(room).await.unwrap();
    assert_eq!(site.read(&repo, "d/large").await.unwrap().len(), room);
    let error = put(room + 1).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(400), Reason::PayloadTooLarge), "{error}");
    assert_eq!(site.read(&repo, "d/large").await.unwrap().len(), room);
}

async fn nothing_different_is_422(site: &Site) {
    let repo = site.repo(&[("d/a", "1")]).await;
    let before = site.head(&repo).await;
    let put = site.put(&repo, "main", "d", &[("a", b"1")]);
    let error = put.await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(422), Reason::NoChanges), "{error}");
    assert_eq!(site.head(&repo).await, before);
}

async fn only_what_differs_is_in_the_commit(site: &Site) {
    let repo = site.repo(&[("d/a", "1"), ("d/b", "1")]).await;
    let before = site.head(&repo).await;
    let files = vec![file("a", b"1"), file("b", b"2")];
    let commit =
        site.client.put_files(&repo, &branch("main"), &path("d"), files, &info("one")).await.unwrap();
    let last = async |name: &str| {
        site.client.entry(&repo, &commit.id, &path(name)).await.unwrap().unwrap().last_commit_id.unwrap()
    };
    assert_eq!((last("d/a").await, last("d/b").await), (before, commit.id.clone()));
}

async fn a_missing_branch_is_said_to_be_missing(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let put = site.put(&repo, "rig/7", "d", &[("a", b"1")]);
    let error = put.await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(404), Reason::BranchNotFound), "{error}");
    assert_eq!(site.client.branches(&repo).await.unwrap().len(), 1);
}

async fn the_author_must_be_named(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    for author in AUTHOR {
        let answer = raw_put(site, &repo, "/file/main/d", &[author, ("files[]", Some("b"), "2")]).await;
        assert_eq!(answer.status(), 400);
    }
}

async fn a_file_cannot_stand_where_a_directory_is_needed(site: &Site) {
    let repo = site.repo(&[("t", "1"), ("d/u", "1")]).await;
    for dir in ["t", "t/below", "d/u", "d/u/v/w"] {
        let put = site.put(&repo, "main", dir, &[("x", b"1")]);
        let error = put.await.unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Some(400), Reason::TargetMustBeDirectory),
            "{dir}: {error}"
        );
    }
}

async fn a_put_of_a_file_over_a_directory_is_listed_and_cannot_be_read(site: &Site) {
    let repo = site.repo(&[("d/t/x", "1"), ("a", "1")]).await;
    let commit = site.put(&repo, "main", "d", &[("t", b"2")]).await.unwrap();
    let page = site.client.list_dir(&repo, &commit.id, &path("d"), 1, 10).await.unwrap().unwrap();
    assert_eq!((page.entries[0].name.as_str(), page.entries[0].is_dir), ("t", false));
    // By path there is still the directory, with all that it held.
    assert!(site.client.entry(&repo, &commit.id, &path("d/t")).await.unwrap().unwrap().is_dir);
    assert_eq!(site.read(&repo, "d/t").await, None);
    assert_eq!(site.read(&repo, "d/t/x").await.unwrap(), b"1");
}

async fn an_empty_repository_takes_one_segment_as_the_branch(site: &Site) {
    let repo = site.empty_repo().await;
    let commit = site.put(&repo, "rig/7", "d", &[("a", b"1")]).await.unwrap();
    let expected = Branch { name: "rig".to_owned(), commit_id: commit.id.clone() };
    assert_eq!(site.client.branches(&repo).await.unwrap(), [expected]);
    assert!(site.client.entry(&repo, &commit.id, &path("7/d/a")).await.unwrap().is_some());
    assert_eq!(commit.parent_ids, [""; 0]);
}

async fn an_empty_repository_decodes_nothing(site: &Site) {
    let repo = site.empty_repo().await;
    let commit = site.put(&repo, "main", "100%/a b", &[("a", b"1")]).await.unwrap();
    assert_eq!(site.client.entry(&repo, &commit.id, &path("100%/a b/a")).await.unwrap(), None);
    assert!(site.client.entry(&repo, &commit.id, &path("100%25/a b/a")).await.unwrap().is_some());
}

async fn the_longest_branch_takes_the_put(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    for name in ["rig", "rig/7"] {
        site.client.create_branch(&repo, &branch(name), &branch("main")).await.unwrap().unwrap();
    }
    // Meant for directory 7 on rig, and for the root of rig/7.
    let put = async |to: &str, dir: &str| {
        site.client
            .put_files(&repo, &branch(to), &path(dir), vec![file("b", b"2")], &info(&format!("{to} {dir}")))
            .await
    };
    put("rig", "7/x").await.unwrap();
    let head = async |name: &str| site.client.branch(&repo, &branch(name)).await.unwrap().unwrap().commit_id;
    let there = async |name: &str, file: &str| {
        site.client.entry(&repo, &head(name).await, &path(file)).await.unwrap().is_some()
    };
    assert!(there("rig/7", "x/b").await && !there("rig", "7/x/b").await);
    put("rig/7", "").await.unwrap();
    assert!(there("rig", "7/b").await && !there("rig/7", "b").await);
    // Reading by name goes the same wrong way.
    assert!(site.client.entry(&repo, "rig", &path("7/x/b")).await.unwrap().is_some());
    assert!(site.client.entry(&repo, "rig/7", &path("b")).await.unwrap().is_none());
}

async fn a_reserved_name_is_refused(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let mut parts = AUTHOR.to_vec();
    parts.push(("files[]", Some("b"), "2"));
    for dir in [".oxen", "d/.OXEN", "OXEN~1/e", "d/.oxen.%20/e"] {
        let answer = raw_put(site, &repo, &format!("/file/main/{dir}"), &parts).await;
        assert_eq!(answer.status(), 400, "{dir}");
    }
    for name in [".oxen", ".Oxen. ", "oxen~2"] {
        let mut parts = AUTHOR.to_vec();
        parts.push(("files[]", Some(name), "2"));
        assert_eq!(raw_put(site, &repo, "/file/main/d", &parts).await.status(), 400, "{name}");
    }
}

async fn gzip_files_stay_gzip_files(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let gzip = super::GZIP_OF_HELLO;
    site.client
        .put_files(&repo, &branch("main"), &path("d"), vec![file("x.gz", gzip)], &info("m"))
        .await
        .unwrap();
    assert_eq!(site.read(&repo, "d/x.gz").await.unwrap(), gzip);
}

async fn equal_commits_within_a_second_are_429(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    for round in 0..20 {
        let (one, other) = (branch(&fresh_id()), branch(&fresh_id()));
        for name in [&one, &other] {
            site.client.create_branch(&repo, name, &branch("main")).await.unwrap().unwrap();
        }
        // Of no other round, whose commits have the same parent.
        let info = info(&format!("the same message in round {round}"));
        let put = async |to| site.client.put_files(&repo, to, &path("d"), vec![file("b", b"2")], &info).await;
        put(&one).await.unwrap();
        // Another second may have begun in between.
        if let Err(error) = put(&other).await {
            assert_eq!((error.code(), error.reason()), (Some(429), Reason::CommitIdTaken), "{error}");
            assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(1));
            return;
        }
    }
    panic!("no two of twenty commits fell into one second");
}

async fn commits_side_by_side_all_land(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let puts = (0..8).map(|n| {
        let (client, repo) = (site.client.clone(), repo.clone());
        tokio::spawn(async move {
            let files = vec![file(&format!("f{n}"), b"2")];
            client.put_files(&repo, &branch("main"), &path("d"), files, &info(&format!("number {n}"))).await
        })
    });
    let puts: Vec<_> = puts.collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(site.files(&repo).await.len(), 9);
    assert!(site.client.history(&repo, "main", 1, 100).await.unwrap().len() >= 9);
}
