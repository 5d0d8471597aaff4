//! Workspaces: staging and committing.

use oxen_sync::oxen::{Branch, Kind, Reason, RepoName, UploadStart};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::{GZIP_OF_HELLO, contract};
use crate::support::site::{Site, branch, file, fresh_id, info, path};

contract! {
    a_workspace_is_opened_once_listed_and_deleted,
    an_empty_repository_gets_its_first_commit_on_a_branch_of_any_name,
    a_workspace_needs_a_branch_where_there_are_commits,
    files_of_many_directories_are_one_commit,
    a_committed_workspace_is_gone,
    a_workspace_or_branch_that_is_missing_is_told_apart,
    a_path_that_changed_on_the_branch_is_a_conflict,
    a_path_that_the_branch_holds_already_is_no_conflict,
    other_paths_changed_on_the_branch_are_no_conflict,
    nothing_staged_is_422,
    a_file_that_the_commit_holds_is_answered_and_not_staged,
    a_file_put_back_as_it_was_stays_staged_as_it_was,
    contents_stored_in_the_same_tick_pass_for_each_other,
    every_name_that_a_form_can_carry_is_stored_as_it_is,
    control_characters_cannot_be_carried,
    a_backslash_makes_a_directory_and_a_file_nobody_can_read,
    paths_that_lead_elsewhere_are_refused,
    a_name_of_255_bytes_is_stored,
    parts_of_type_gzip_are_unpacked,
    broken_data_files_are_taken_as_they_are,
    the_message_is_kept_as_it_is,
}

pub(super) async fn open(site: &Site, repo: &RepoName) -> String {
    let id = fresh_id();
    site.client.open_workspace(repo, &id, &branch("main")).await.unwrap();
    id
}

pub(super) async fn stage(site: &Site, repo: &RepoName, id: &str, files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(name, content)| file(name, content.as_bytes())).collect();
    site.client.stage_files(repo, id, files).await.unwrap()
}

pub(super) async fn merge(
    site: &Site,
    repo: &RepoName,
    id: &str,
) -> Result<oxen_sync::oxen::Commit, oxen_sync::oxen::Error> {
    site.client.merge_workspace(repo, id, &branch("main"), &info(&format!("commit {id}"))).await
}

/// Stages one file whose path the client would refuse, or of a type that it does not use.
async fn raw_stage(
    site: &Site,
    repo: &RepoName,
    id: &str,
    name: &str,
    kind: &str,
    content: &[u8],
) -> (u16, Value) {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    let head = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"file[]\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    let body = [head.as_bytes(), content, b"\r\n--xyz--\r\n"].concat();
    let url = site.page(repo, &format!("/workspaces/{id}/files/"));
    let request = site.http.post(url).header("content-type", "multipart/form-data; boundary=xyz").body(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

pub(super) fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

async fn a_workspace_is_opened_once_listed_and_deleted(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let first = site.head(&repo).await;
    let (id, main) = (fresh_id(), branch("main"));
    let opened = site.client.open_workspace(&repo, &id, &main).await.unwrap();
    assert_eq!((&opened.id, &opened.commit_id), (&id, &first));

    site.commit(&repo, &[("b", "2")]).await;
    let again = site.client.open_workspace(&repo, &id, &main).await.unwrap();
    assert_eq!(again, opened, "it stays on the commit it was opened on");
    assert_eq!(site.client.workspaces(&repo).await.unwrap(), [opened]);

    assert!(site.client.delete_workspace(&repo, &id).await.unwrap());
    assert!(!site.client.delete_workspace(&repo, &id).await.unwrap());
    assert_eq!(site.client.workspaces(&repo).await.unwrap(), []);
}

async fn an_empty_repository_gets_its_first_commit_on_a_branch_of_any_name(site: &Site) {
    let repo = site.empty_repo().await;
    let name = branch("rig/7/größe");
    let opened = site.client.open_workspace(&repo, "w", &name).await.unwrap();
    let expected = Branch { name: name.to_string(), commit_id: opened.commit_id.clone() };
    assert_eq!(site.client.branches(&repo).await.unwrap(), [expected]);
    assert_eq!(site.client.history(&repo, &opened.commit_id, 1, 10).await.unwrap().len(), 1);
    // An empty first commit has not even a root.
    assert_eq!(site.client.list_dir(&repo, &opened.commit_id, &path(""), 1, 10).await.unwrap(), None);
    assert_eq!(site.client.entry(&repo, &opened.commit_id, &path("")).await.unwrap(), None);

    stage(site, &repo, "w", &[("d/a", "1")]).await;
    let commit = site.client.merge_workspace(&repo, "w", &name, &info("first files")).await.unwrap();
    assert_eq!(commit.parent_ids, [opened.commit_id]);
    assert!(site.client.entry(&repo, &commit.id, &path("d/a")).await.unwrap().is_some());
}

async fn a_workspace_needs_a_branch_where_there_are_commits(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let error = site.client.open_workspace(&repo, "w", &branch("nowhere")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(400), Reason::BranchNotFound), "{error}");
}

async fn files_of_many_directories_are_one_commit(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let before = site.head(&repo).await;
    let id = open(site, &repo).await;
    let mut staged = stage(site, &repo, &id, &[("a", "1"), ("d/b", "2"), ("d/e/f/c", "")]).await;
    staged.extend(stage(site, &repo, &id, &[("g/h", "4")]).await);
    assert_eq!(staged, ["a", "d/b", "d/e/f/c", "g/h"]);
    assert_eq!(site.head(&repo).await, before, "nothing is on the branch before the commit");

    let commit = merge(site, &repo, &id).await.unwrap();
    assert_eq!((site.head(&repo).await, commit.parent_ids), (commit.id, vec![before]));
    let expected = pairs(&[("a", "1"), ("d/b", "2"), ("d/e/f/c", ""), ("g/h", "4"), ("old", "0")]);
    assert_eq!(site.files(&repo).await, expected);
}

async fn a_committed_workspace_is_gone(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("a", "1")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.client.workspaces(&repo).await.unwrap(), []);
    let error = merge(site, &repo, &id).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(404), Reason::WorkspaceNotFound), "{error}");
}

async fn a_workspace_or_branch_that_is_missing_is_told_apart(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    for error in [
        site.client.stage_files(&repo, "nowhere", vec![file("a", b"1")]).await.unwrap_err(),
        site.client.stage_removals(&repo, "nowhere", &["old"]).await.unwrap_err(),
        merge(site, &repo, "nowhere").await.unwrap_err(),
        site.client.begin_upload(&repo, 1, 1, Some(("nowhere", &path("a")))).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.reason()), (Some(404), Reason::WorkspaceNotFound), "{error}");
    }
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("a", "1")]).await;
    let error = site.client.merge_workspace(&repo, &id, &branch("nowhere"), &info("m")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(404), Reason::BranchNotFound), "{error}");
    merge(site, &repo, &id).await.unwrap();
}

async fn a_path_that_changed_on_the_branch_is_a_conflict(site: &Site) {
    let repo = site.repo(&[("a", "1"), ("b", "1")]).await;
    let (changes, removes, adds) =
        (open(site, &repo).await, open(site, &repo).await, open(site, &repo).await);
    stage(site, &repo, &changes, &[("a", "mine")]).await;
    site.client.stage_removals(&repo, &removes, &["a"]).await.unwrap();
    stage(site, &repo, &adds, &[("c", "mine")]).await;
    let head = site.commit(&repo, &[("a", "theirs"), ("c", "theirs")]).await.id;
    for id in [changes, removes, adds] {
        let error = merge(site, &repo, &id).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Some(409), Reason::Conflict), "{error}");
        assert!(site.client.delete_workspace(&repo, &id).await.unwrap(), "it is still there");
    }
    assert_eq!(site.head(&repo).await, head);
}

async fn a_path_that_the_branch_holds_already_is_no_conflict(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("a", "2"), ("b", "2")]).await;
    let head = site.commit(&repo, &[("a", "2"), ("b", "2")]).await.id;
    // Nothing differs any more, and yet a commit is made.
    let commit = merge(site, &repo, &id).await.unwrap();
    assert_eq!(commit.parent_ids, [head]);
    assert_eq!(site.files(&repo).await, pairs(&[("a", "2"), ("b", "2")]));
}

async fn other_paths_changed_on_the_branch_are_no_conflict(site: &Site) {
    let repo = site.repo(&[("d/a", "1"), ("d/b", "1")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("d/a", "mine"), ("e", "mine")]).await;
    site.commit(&repo, &[("d/b", "theirs"), ("d/c", "theirs")]).await;
    merge(site, &repo, &id).await.unwrap();
    let expected = pairs(&[("d/a", "mine"), ("d/b", "theirs"), ("d/c", "theirs"), ("e", "mine")]);
    assert_eq!(site.files(&repo).await, expected);
}

async fn nothing_staged_is_422(site: &Site) {
    let repo = site.repo(&[("a", "1")]).await;
    let id = open(site, &repo).await;
    let error = merge(site, &repo, &id).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(422), Reason::NoChanges), "{error}");
    assert!(site.client.delete_workspace(&repo, &id).await.unwrap(), "it is still there");
}

async fn a_file_that_the_commit_holds_is_answered_and_not_staged(site: &Site) {
    let repo = site.repo(&[("d/a", "1")]).await;
    let id = open(site, &repo).await;
    assert_eq!(stage(site, &repo, &id, &[("d/a", "1")]).await, ["d/a"]);
    let error = merge(site, &repo, &id).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NoChanges, "{error}");
}

async fn a_file_put_back_as_it_was_stays_staged_as_it_was(site: &Site) {
    let repo = site.repo(&[("a", "1"), ("b", "1")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("a", "2")]).await;
    site.client.stage_removals(&repo, &id, &["b"]).await.unwrap();
    // Back to what the commit holds: neither is taken back.
    stage(site, &repo, &id, &[("a", "1"), ("b", "1")]).await;
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.files(&repo).await, pairs(&[("a", "2")]));
}

async fn contents_stored_in_the_same_tick_pass_for_each_other(site: &Site) {
    let (one, other) = ("the content of one", "content of another");
    let repo = site.repo(&[("kept/one", one), ("kept/other", other)]).await;
    site.make_twins(&repo, one.as_bytes(), other.as_bytes());
    site.commit(&repo, &[("a", one)]).await;

    // Both say that they take it, and neither does: size and modification time are the same.
    let id = open(site, &repo).await;
    assert_eq!(stage(site, &repo, &id, &[("a", other)]).await, ["a"]);
    let hash = xxh3_128(other.as_bytes());
    let start =
        site.client.begin_upload(&repo, hash, other.len() as u64, Some((&id, &path("a")))).await.unwrap();
    assert_eq!(start, UploadStart::AlreadyStored);
    assert_eq!(merge(site, &repo, &id).await.unwrap_err().reason(), Reason::NoChanges);
    assert_eq!(site.read(&repo, "a").await.unwrap(), one.as_bytes());

    // The file's removal in a commit before helps, and so does a PUT, which gives the content a new time.
    let id = open(site, &repo).await;
    site.client.stage_removals(&repo, &id, &["a"]).await.unwrap();
    merge(site, &repo, &id).await.unwrap();
    site.commit(&repo, &[("a", other)]).await;
    assert_eq!(site.read(&repo, "a").await.unwrap(), other.as_bytes());
    site.put(&repo, "main", "", &[("a", one.as_bytes())]).await.unwrap();
    assert_eq!(site.read(&repo, "a").await.unwrap(), one.as_bytes());
}

async fn every_name_that_a_form_can_carry_is_stored_as_it_is(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let names = [
        "12:30:05.csv",
        "a?b",
        "a<b>c",
        "a*",
        "p|q",
        "\"r\"",
        "\"",
        "t\tu",
        "\t",
        "v\u{85}w",
        "...",
        " ",
        " x ",
        "x.",
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
        "größe",
        "gro\u{308}ße",
        "🦀",
        "\u{202e}",
        "con",
        "d/e f/g;h=\"i\"; name=\"x\"",
        "--",
        "C:",
        "a;b",
        ".oxenignore",
        "d/.hidden",
        "x, y",
    ];
    let id = open(site, &repo).await;
    let files: Vec<_> = names.iter().map(|name| (*name, *name)).collect();
    assert_eq!(stage(site, &repo, &id, &files).await, names);
    merge(site, &repo, &id).await.unwrap();
    let mut expected = pairs(&files);
    expected.push(("old".to_owned(), "0".to_owned()));
    expected.sort();
    assert_eq!(site.files(&repo).await, expected);
}

async fn control_characters_cannot_be_carried(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    for name in ["a\nb", "a\rb", "\u{1}", "\u{1b}x", "\u{7f}", "\0"] {
        let (status, body) = raw_stage(site, &repo, &id, name, "text/plain", b"1").await;
        assert_eq!(status, 400, "{name:?} {body}");
        let error = site.client.stage_files(&repo, &id, vec![file(name, b"1")]).await.unwrap_err();
        assert_eq!((error.kind(), error.request_reached_server()), (Kind::Unsendable, false));
    }
    assert_eq!(merge(site, &repo, &id).await.unwrap_err().reason(), Reason::NoChanges);
}

async fn a_backslash_makes_a_directory_and_a_file_nobody_can_read(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    let (status, body) = raw_stage(site, &repo, &id, "d/a\\b", "text/plain", b"1").await;
    assert_eq!((status, &body["paths"]), (200, &json!(["d/a\\b"])));
    let commit = merge(site, &repo, &id).await.unwrap();
    let page = site.client.list_dir(&repo, &commit.id, &path("d/a"), 1, 10).await.unwrap().unwrap();
    assert_eq!(page.entries[0].name, "a\\b");
    for tail in ["d/a/b", "d/a%5Cb"] {
        let url = site.page(&repo, &format!("/file/main/{tail}"));
        assert_eq!(site.http.get(url).send().await.unwrap().status(), 404, "{tail}");
    }
    assert_eq!(
        site.client.stage_files(&repo, &id, vec![file("a\\b", b"1")]).await.unwrap_err().kind(),
        Kind::Unsendable
    );
}

async fn paths_that_lead_elsewhere_are_refused(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    for name in
        ["../a", "d/../a", "/a", ".oxen/a", "d/.oxen/a", ".OXEN", "oxen~1/a", "d/.oxen. /a", ".oxen:x"]
    {
        let (status, body) = raw_stage(site, &repo, &id, name, "text/plain", b"1").await;
        assert_eq!(status, 400, "{name:?} {body}");
        let upload = json!({ "hash": "1", "size": 1, "destination": { "workspace_id": id, "path": name } });
        let request = site.http.post(site.page(&repo, "/versions/uploads")).json(&upload);
        assert_eq!(request.send().await.unwrap().status(), 400, "{name:?}");
    }
    let error = site.client.stage_files(&repo, &id, vec![file("d/.oxen/a", b"1")]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsendable);
}

async fn a_name_of_255_bytes_is_stored(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let (id, long) = (open(site, &repo).await, "n".repeat(255));
    stage(site, &repo, &id, &[(&long, "1"), (&format!("{long}/{long}x"), "2")]).await;
    merge(site, &repo, &id).await.unwrap();
    let repo2 = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo2).await;
    stage(site, &repo2, &id, &[(&long, "1")]).await;
    merge(site, &repo2, &id).await.unwrap();
    assert_eq!(site.read(&repo2, &long).await.unwrap(), b"1");
}

async fn parts_of_type_gzip_are_unpacked(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    let (status, _) = raw_stage(site, &repo, &id, "unpacked.gz", "application/gzip", GZIP_OF_HELLO).await;
    assert_eq!(status, 200);
    site.client.stage_files(&repo, &id, vec![file("kept.gz", GZIP_OF_HELLO)]).await.unwrap();
    // A part that fails is only missing in the answer.
    let (status, body) = raw_stage(site, &repo, &id, "broken.gz", "application/gzip", b"no gzip").await;
    assert_eq!((status, &body["paths"]), (200, &json!([])));
    merge(site, &repo, &id).await.unwrap();
    assert_eq!(site.read(&repo, "unpacked.gz").await.unwrap(), b"hello");
    assert_eq!(site.read(&repo, "kept.gz").await.unwrap(), GZIP_OF_HELLO);
    assert_eq!(site.read(&repo, "broken.gz").await, None);
}

async fn broken_data_files_are_taken_as_they_are(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let names =
        ["a.csv", "b.parquet", "c.json", "d.jsonl", "e.png", "f.mp4", "g.tsv", "h.jpg", "i.wav", "j.arrow"];
    let files: Vec<_> = names.iter().map(|name| (*name, "\u{0}no \"such, thing\n,,,\n{")).collect();
    let id = open(site, &repo).await;
    assert_eq!(stage(site, &repo, &id, &files).await, names);
    merge(site, &repo, &id).await.unwrap();
    for (name, content) in files {
        assert_eq!(site.read(&repo, name).await.unwrap(), content.as_bytes(), "{name}");
    }
}

async fn the_message_is_kept_as_it_is(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = open(site, &repo).await;
    stage(site, &repo, &id, &[("a", "1")]).await;
    let message = "two lines\n\"quoted\" größe 🐂 \\ \u{1b}";
    let commit = site.client.merge_workspace(&repo, &id, &branch("main"), &info(message)).await.unwrap();
    assert_eq!(commit.message, message);
    let history = site.client.history(&repo, &commit.id, 1, 1).await.unwrap();
    assert_eq!((history[0].message.as_str(), history[0].author.as_str()), (message, "rig-07"));
}
