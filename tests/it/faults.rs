//! What the client makes of a server, or a network, that fails.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oxen_sync::oxen::{ApiKey, Client, Error, Kind, Op, Reason, RepoName};
use serde_json::json;

use crate::standin::{Action, Rule, StandIn};
use crate::support::site::{branch, file, fresh_id, info, options, path};

/// For tests that do not wait for it.
const SILENCE: Duration = Duration::from_secs(30);

fn patient_for(url: &str, silence: Duration) -> Client {
    let mut options = options(url);
    options.silence_timeout = silence;
    Client::new(options).unwrap()
}

/// A repository with one file on `main`.
async fn repo(client: &Client) -> RepoName {
    let repo = "lab/cells".parse().unwrap();
    client.create_repo(&repo, None, None).await.unwrap();
    client.open_workspace(&repo, "w", &branch("main")).await.unwrap();
    client.stage_files(&repo, "w", vec![file("a", b"1")]).await.unwrap();
    client.merge_workspace(&repo, "w", &branch("main"), &info("first")).await.unwrap();
    repo
}

async fn start(silence: Duration) -> (StandIn, Client, RepoName) {
    let standin = StandIn::start().await;
    let repo = repo(&patient_for(&standin.url(), SILENCE)).await;
    let client = patient_for(&standin.url(), silence);
    (standin, client, repo)
}

async fn put(client: &Client, repo: &RepoName, len: usize) -> Result<oxen_sync::oxen::Commit, Error> {
    let files = vec![oxen_sync::oxen::FileBody { name: "b".to_owned(), bytes: Bytes::from(vec![b'x'; len]) }];
    client.put_files(repo, &branch("main"), &path("d"), files, &info(&fresh_id())).await
}

#[tokio::test]
async fn a_server_that_is_down_never_had_the_request() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.go_down().await;
    let error = put(&client, &repo, 10).await.unwrap_err();
    // A pooled connection that died is tried once more by nobody, so both kinds are right.
    assert!(matches!(error.kind(), Kind::Connect | Kind::Broken), "{error:?}");
    let error = put(&client, &repo, 10).await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Connect, false), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("commit files") && said.contains("connection refused"), "{said}");

    standin.come_up();
    put(&client, &repo, 10).await.unwrap();
    assert_eq!(standin.commits("lab/cells", "main").len(), 3);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_no_connection() {
    let client = patient_for("http://nowhere.invalid:3000", SILENCE);
    let error = client.health().await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Connect, false), "{error:?}");
}

#[tokio::test]
async fn a_reset_tells_whether_the_whole_request_may_have_arrived() {
    let (standin, client, repo) = start(SILENCE).await;
    let len = 32 << 20;
    standin.fault(Rule::on(Op::PutFiles, Action::ResetInside { after_bytes: 1 << 16 }));
    let error = put(&client, &repo, len).await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Broken, false), "{error:?}");

    standin.fault(Rule::on(Op::PutFiles, Action::ResetAfter));
    let error = put(&client, &repo, 100).await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Broken, true), "{error:?}");
    assert_eq!(standin.tree("lab/cells", "main").get("d/b").map(Bytes::len), Some(100), "the work is done");

    standin.fault(Rule::any(Action::ResetBefore).path("/branches/"));
    let error = client.branch(&repo, &branch("main")).await.unwrap_err();
    assert_eq!((error.op(), error.kind()), (Op::ReadBranch, Kind::Broken), "{error:?}");
    assert_eq!(standin.faults_left(), 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_silence() {
    let (standin, client, repo) = start(SILENCE).await;
    let impatient = patient_for(&standin.url(), Duration::from_millis(200));
    for (action, done) in [(Action::HangBefore, false), (Action::HangAfter, true)] {
        standin.fault(Rule::on(Op::MergeWorkspace, action));
        let id = fresh_id();
        client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
        client.stage_files(&repo, &id, vec![file(&id, b"1")]).await.unwrap();
        let merged = impatient.merge_workspace(&repo, &id, &branch("main"), &info(&id)).await;
        let error = merged.unwrap_err();
        assert_eq!((error.kind(), error.request_reached_server()), (Kind::Timeout, true), "{error:?}");
        assert_eq!(standin.tree("lab/cells", "main").contains_key(&id), done);
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_never_had_the_request() {
    let (standin, client, repo) = start(Duration::from_millis(200)).await;
    standin.fault(Rule::on(Op::PutFiles, Action::HangBefore));
    let error = put(&client, &repo, 64 << 20).await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Timeout, false), "{error:?}");
}

#[tokio::test]
async fn a_slow_network_is_no_silence() {
    let (standin, client, repo) = start(Duration::from_secs(2)).await;
    // More than the sockets' buffers hold, and longer under way than the silence.
    let content = Bytes::from(vec![7; 40 << 20]);
    let bytes_per_s = 16 << 20;
    standin.fault(Rule::on(Op::StageFiles, Action::Throttle { bytes_per_s }));
    client.open_workspace(&repo, "slow", &branch("main")).await.unwrap();
    let slow = oxen_sync::oxen::FileBody { name: "slow".to_owned(), bytes: content.clone() };
    assert_eq!(client.stage_files(&repo, "slow", vec![slow]).await.unwrap(), ["slow"]);
    let commit = client.merge_workspace(&repo, "slow", &branch("main"), &info("slow")).await.unwrap();

    standin.fault(Rule::on(Op::ReadFile, Action::Throttle { bytes_per_s }));
    let download = client.file(&repo, &commit.id, &path("slow")).await.unwrap().unwrap();
    assert_eq!(download.size(), Some(content.len() as u64));
    let chunks: Vec<Bytes> = download.try_collect().await.unwrap();
    assert!(chunks.concat() == content);
    assert_eq!(standin.faults_left(), 0);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_broken() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.fault(Rule::on(Op::PutFiles, Action::CutAnswer { after_bytes: 20 }));
    let error = put(&client, &repo, 10).await.unwrap_err();
    assert_eq!((error.kind(), error.request_reached_server()), (Kind::Broken, true), "{error:?}");

    standin.fault(Rule::on(Op::ReadFile, Action::CutAnswer { after_bytes: 4 }));
    let head = client.branch(&repo, &branch("main")).await.unwrap().unwrap().commit_id;
    let download = client.file(&repo, &head, &path("d/b")).await.unwrap().unwrap();
    let error = download.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.op(), error.kind()), (Op::ReadFile, Kind::Broken), "{error:?}");
}

#[tokio::test]
async fn answers_that_are_not_the_servers_are_sorted() {
    let (standin, client, repo) = start(SILENCE).await;
    let status = |code: u16, reason: Reason| Kind::Status { code, reason, retry_after: None };
    let after_7_s =
        Kind::Status { code: 429, reason: Reason::Other, retry_after: Some(Duration::from_secs(7)) };
    let failed = json!({ "status": "error", "status_message": "disk full" }).to_string();
    let no_commit = json!({ "status": "success", "status_message": "resource_created" }).to_string();
    let html = "<html><head><title>502 Bad Gateway</title></head><body><h1>oh</h1></body></html>";
    let wait = vec![("retry-after", "7".to_owned()), ("content-type", "text/html".to_owned())];
    let away = vec![("location", "https://user:s3cret@elsewhere.example/login?key=1".to_owned())];
    let table = [
        (Action::reply(502, html), status(502, Reason::Other), "502 Bad Gateway"),
        (Action::reply(500, &"x".repeat(2 << 20)), status(500, Reason::Other), "xxx…"),
        (Action::reply(503, ""), status(503, Reason::Other), "answered 503"),
        (Action::Reply { status: 429, headers: wait, body: String::new() }, after_7_s, "answered 429"),
        (Action::reply(200, &failed), status(200, Reason::Other), "disk full"),
        (Action::reply(200, "{\"status\": \"succ"), Kind::Malformed, "eof while parsing"),
        (Action::reply(200, "<html>Log in, please</html>"), Kind::Malformed, "check that the address"),
        (Action::reply(200, &no_commit), Kind::Malformed, "no commit"),
        (Action::reply(200, &"x".repeat(2 << 20)), Kind::Malformed, "more than 1048576 bytes"),
        (
            Action::Reply { status: 302, headers: away, body: String::new() },
            Kind::Redirect,
            "https://elsewhere.example",
        ),
        (Action::reply(404, "<html>no such page</html>"), status(404, Reason::Other), "answered 404"),
        (Action::reply(413, "<html>too large</html>"), status(413, Reason::PayloadTooLarge), "answered 413"),
    ];
    for (action, kind, words) in table {
        standin.fault(Rule::on(Op::PutFiles, action));
        let error = put(&client, &repo, 10).await.unwrap_err();
        assert_eq!((error.kind(), error.request_reached_server()), (kind, true), "{error:?}");
        let said = error.to_string();
        assert!(said.to_lowercase().contains(words) || said.contains(words), "{said} should say {words}");
        assert!(
            !said.contains("s3cret") && !said.contains('<') && !said.contains("key-of-the-tests"),
            "{said}"
        );
    }
    assert_eq!(standin.faults_left(), 0);
    assert!(!standin.tree("lab/cells", "main").contains_key("d/b"), "a reply in place of the work does none");
}

#[tokio::test]
async fn a_404_of_a_proxy_is_not_taken_for_an_absence() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.fault(Rule::any(Action::reply(404, "404 page not found")).forever());
    let main = branch("main");
    for error in [
        client.repo_exists(&repo).await.unwrap_err(),
        client.branch(&repo, &main).await.unwrap_err(),
        client.create_branch(&repo, &branch("x"), &main).await.unwrap_err(),
        client.delete_workspace(&repo, "w").await.unwrap_err(),
        client.entry(&repo, "main", &path("a")).await.unwrap_err(),
        client.list_dir(&repo, "main", &path(""), 1, 10).await.unwrap_err(),
        client.file(&repo, "main", &path("a")).await.err().unwrap(),
    ] {
        assert_eq!((error.code(), error.reason()), (Some(404), Reason::Other), "{error}");
    }
    standin.clear_faults();
    assert!(client.repo_exists(&repo).await.unwrap());
}

#[tokio::test]
async fn the_key_is_sent_and_asked_for() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.require_key("key-of-the-tests");
    client.branches(&repo).await.unwrap();
    let mut options = options(&standin.url());
    options.key = Some(ApiKey::from("wrong".to_owned()));
    let stranger = Client::new(options.clone()).unwrap();
    options.key = None;
    for client in [stranger, Client::new(options).unwrap()] {
        let error = put(&client, &repo, 10).await.unwrap_err();
        assert_eq!(error.code(), Some(401), "{error}");
        assert!(error.to_string().contains("check the API key"), "{error}");
    }
}

#[tokio::test]
async fn every_second_and_every_nth_request_can_be_picked() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.fault(Rule::on(Op::ListBranches, Action::reply(500, "")).after(1).times(2));
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(client.branches(&repo).await.err().and_then(|error| error.code()));
    }
    assert_eq!(codes, [None, Some(500), Some(500), None]);
}

#[tokio::test]
async fn half_a_batch_staged_is_seen_in_the_answer() {
    let (standin, client, repo) = start(SILENCE).await;
    client.open_workspace(&repo, "half", &branch("main")).await.unwrap();
    standin.fault(Rule::on(Op::StageFiles, Action::StageHalf));
    let files = vec![file("p", b"1"), file("q", b"1"), file("r", b"1")];
    assert_eq!(client.stage_files(&repo, "half", files).await.unwrap(), ["p"]);
    assert_eq!(standin.workspaces("lab/cells"), ["half"]);
}

#[tokio::test]
async fn files_lost_without_a_word_are_seen_on_the_branch_alone() {
    let (standin, client, repo) = start(SILENCE).await;
    let files = || vec![file("p", b"1"), file("q", b"1")];
    client.open_workspace(&repo, "half", &branch("main")).await.unwrap();
    standin.fault(Rule::any(Action::LoseHalf).path("/file").times(2));
    assert_eq!(client.stage_files(&repo, "half", files()).await.unwrap(), ["p", "q"]);
    client.put_files(&repo, &branch("main"), &path("d"), files(), &info("m")).await.unwrap();
    client.merge_workspace(&repo, "half", &branch("main"), &info("m")).await.unwrap();
    let tree: Vec<_> = standin.tree("lab/cells", "main").into_keys().collect();
    assert_eq!(tree, ["a", "d/p", "p"]);
}

#[tokio::test]
async fn a_delay_within_the_silence_is_waited_for() {
    let (standin, client, repo) = start(Duration::from_secs(5)).await;
    standin.fault(Rule::on(Op::PutFiles, Action::Delay(Duration::from_millis(100))));
    put(&client, &repo, 10).await.unwrap();
    let commit = &standin.all_commits()[2];
    assert_eq!((commit.repo.as_str(), commit.branch.as_str()), ("lab/cells", "main"));
    assert_eq!(
        (commit.put.as_slice(), commit.removed.as_slice(), commit.bytes),
        (&["d/b".to_owned()][..], &[][..], 10)
    );
}

#[tokio::test]
async fn uploads_end_with_the_server_that_holds_them() {
    let (standin, client, repo) = start(SILENCE).await;
    standin.set_parts(4, 2);
    for restart in [true, false] {
        let hash = xxhash_rust::xxh3::xxh3_128(b"12345678");
        let start = client.begin_upload(&repo, hash, 8, None).await.unwrap();
        let oxen_sync::oxen::UploadStart::AwaitingParts(upload) = start else { panic!("it is not stored") };
        assert_eq!((upload.part_size, upload.num_parts, upload.part_window), (4, 2, 2));
        if restart {
            standin.go_down().await;
            standin.come_up();
            // The first request may meet the connection that died.
            let _ = client.health().await;
        } else {
            standin.forget_uploads();
        }
        let error = client.put_part(&repo, &upload.id, 1, Bytes::from_static(b"1234")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::UploadNotFound, "{error}");
    }
}

#[tokio::test]
async fn what_happens_can_be_waited_for_and_counted() {
    let (standin, client, repo) = start(SILENCE).await;
    let before = standin.requests();
    let puts = tokio::spawn(async move { put(&client, &repo, 1000).await });
    standin.commits_made(3).await;
    assert_eq!(standin.commits("lab/cells", "main")[2].message, puts.await.unwrap().unwrap().message);
    let count = standin.count(Op::PutFiles);
    assert_eq!((count.requests, standin.requests()), (1, before + 1));
    assert!(count.body_bytes > 1000, "{count:?}");
}
