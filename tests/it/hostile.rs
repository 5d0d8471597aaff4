//! What the client makes of a server that means harm, or is not one at all: an error, in bounded time and memory, and
//! the key for nobody else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use oxen_sync::oxen::{Client, Error, Kind, Op, RepoName, UploadStart};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::standin::{Action, Rule, StandIn};
use crate::support::site::{branch, file, info, options, path};

/// The longest silence that these clients bear.
const SILENCE: Duration = Duration::from_millis(500);
/// Nothing here may take longer, on a machine under load.
const TIME_MAX: Duration = Duration::from_secs(20);

/// A chunk of 1 KiB.
const CHUNK: [u8; 1031] = {
    let mut chunk = [b'x'; 1031];
    let (head, end) = (*b"400\r\n", *b"\r\n");
    let mut at = 0;
    while at < head.len() {
        chunk[at] = head[at];
        at += 1;
    }
    [chunk[1029], chunk[1030]] = end;
    chunk
};

/// A server that answers every connection with whatever `answer` writes.
pub(crate) struct Raw {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    fn start(answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, seen, answer) = (socket.unwrap(), Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte), Ok(1)) {
                        head.push(byte[0]);
                    }
                    seen.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                    // Whoever reads may have had enough. What they still write is read, or they would see a reset.
                    if answer(&mut socket).is_ok() {
                        let _ = socket.shutdown(std::net::Shutdown::Write);
                        let _ = std::io::copy(&mut socket, &mut std::io::sink());
                    }
                });
            }
        });
        Self { url, heads }
    }

    fn saying(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self::start(move |socket| socket.write_all(&text))
    }

    fn client(&self) -> Client {
        client(&self.url)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn client(url: &str) -> Client {
    let mut options = options(url);
    options.silence_timeout = SILENCE;
    Client::new(options).unwrap()
}

fn repo() -> RepoName {
    "lab/cells".parse().unwrap()
}

/// Writes a beginning and then the same again and again.
pub(crate) fn endless(head: &'static str, piece: &'static [u8]) -> Raw {
    Raw::start(move |socket| {
        socket.write_all(head.as_bytes())?;
        let pieces = piece.repeat(1 + (16 << 10) / piece.len());
        loop {
            socket.write_all(&pieces)?;
        }
    })
}

/// The same, slowly.
fn dripping(head: &'static str, piece: &'static [u8]) -> Raw {
    Raw::start(move |socket| {
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        socket.write_all(head.as_bytes())?;
        loop {
            socket.write_all(piece)?;
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
    })
}

/// Every request of the API by its name.
fn every_request(client: &Client) -> Vec<(&'static str, BoxFuture<'_, Result<(), Error>>)> {
    fn of<'a, T>(
        request: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<(), Error>> {
        request.map(|done| done.map(|_| ())).boxed()
    }
    macro_rules! requests {
        ($($name:literal => $request:expr,)+) => { vec![$(($name, of(async move { $request.await }))),+] };
    }
    requests! {
        "health" => client.health(),
        "repo" => client.repo_exists(&repo()),
        "create repo" => client.create_repo(&repo(), None, None),
        "branch" => client.branch(&repo(), &branch("main")),
        "branches" => client.branches(&repo()),
        "create branch" => client.create_branch(&repo(), &branch("x"), &branch("main")),
        "put" => client.put_files(&repo(), &branch("main"), &path("d"), vec![file("a", b"1")], &info("m")),
        "open workspace" => client.open_workspace(&repo(), "w", &branch("main")),
        "workspaces" => client.workspaces(&repo()),
        "delete workspace" => client.delete_workspace(&repo(), "w"),
        "stage" => client.stage_files(&repo(), "w", vec![file("a", b"1")]),
        "remove" => client.stage_removals(&repo(), "w", &["a"]),
        "merge" => client.merge_workspace(&repo(), "w", &branch("main"), &info("m")),
        "begin upload" => client.begin_upload(&repo(), 7, 100, None),
        "part" => client.put_part(&repo(), "u", 1, Bytes::from_static(b"1")),
        "entry" => client.entry(&repo(), "main", &path("a")),
        "list" => client.list_dir(&repo(), "main", &path(""), 1, 10),
        "history" => client.history(&repo(), "main", 1, 10),
    }
}

/// Every request fails, soon.
async fn assert_all_fail(client: &Client, what: &str) -> Vec<Error> {
    assert_fail(every_request(client), what).await
}

async fn assert_fail(
    requests: Vec<(&'static str, BoxFuture<'_, Result<(), Error>>)>,
    what: &str,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (name, request) in requests {
        let start = Instant::now();
        let done = tokio::time::timeout(TIME_MAX, request).await;
        let done = done.unwrap_or_else(|_| panic!("{what}: {name} takes longer than {TIME_MAX:?}"));
        let Err(error) = done else {
            panic!("{what}: {name} is taken for success after {:?}", start.elapsed())
        };
        let said = format!("{error} {error:?}");
        assert!(!said.contains("key-of-the-tests") && said.len() < 2000, "{what}: {said}");
        assert!(!said.contains(|c: char| c.is_control()), "{what}: {said:?}");
        errors.push(error);
    }
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_end_is_given_up() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let table = [
        ("an endless body", endless("HTTP/1.1 200 OK\r\n\r\n", b"x")),
        ("an endless list", endless("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"success\",\"paths\":[", b"\"\",")),
        ("endless nesting", endless("HTTP/1.1 200 OK\r\n\r\n", b"[")),
        ("an endless refusal", endless("HTTP/1.1 500 Oh\r\n\r\n", b"x")),
        (
            "an endless chunk",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n", b"x"),
        ),
        ("endless chunks", endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &CHUNK)),
        (
            "endless trailers",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        ),
        (
            "an endless extension of a chunk",
            endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
        ),
        ("endless headers", endless(ok, b"a: b\r\n")),
        ("an endless header", endless("HTTP/1.1 200 OK\r\na: ", b"b")),
        ("an endless status", endless("HTTP/1.1 200 ", b"O")),
        ("endless 100s", endless("", b"HTTP/1.1 100 Continue\r\n\r\n")),
        ("endless 103s", endless("", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")),
        ("endless noise", endless("", b"\0\x1b\xff")),
    ];
    for (what, server) in table {
        // One for each bound: what is listed may be longer.
        let client = server.client();
        let mut requests = every_request(&client);
        requests.retain(|(name, _)| ["health", "put", "stage", "list"].contains(name));
        assert_fail(requests, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_head_drips_is_a_silent_one() {
    let table = [
        ("a header", dripping("HTTP/1.1 200 OK\r\na: ", b"b")),
        ("nothing but 100s", dripping("", b"HTTP/1.1 100 Continue\r\n\r\n")),
    ];
    for (what, server) in table {
        let start = Instant::now();
        let error = server.client().health().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{what}: {error:?}");
        assert!(start.elapsed() < TIME_MAX, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_http_is_an_error() {
    let body = "{\"status\":\"success\",\"oxen_version\":\"9\"}";
    let table: Vec<(&str, String)> = vec![
        ("nothing", String::new()),
        ("no status", "HTTP/1.1\r\n\r\n".to_owned()),
        ("another version", format!("HTTP/9.9 200 OK\r\n\r\n{body}")),
        ("no HTTP", body.to_owned()),
        (
            "a length that is too long",
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", u64::MAX),
        ),
        ("a length beyond all", format!("HTTP/1.1 200 OK\r\ncontent-length: {}0\r\n\r\n{body}", u64::MAX)),
        ("a negative length", format!("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{body}")),
        ("two lengths", format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{body}")),
        (
            "a chunk beyond all",
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}"),
        ),
        ("a negative chunk", format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n{body}")),
        (
            "a protocol that was not asked for",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(),
        ),
        ("a body that is packed", "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\u{1f}\u{8b}".to_owned()),
        ("a NUL", "HTTP/1.1 200 OK\r\na: \0\r\n\r\n".to_owned()),
        ("a folded header", "HTTP/1.1 200 OK\r\na: b\r\n c\r\nd\r\n\r\n".to_owned()),
    ];
    for (what, text) in table {
        assert_all_fail(&Raw::saying(text).client(), what).await;
    }
    // Whatever is packed is not asked for, so nothing is ever unpacked.
    let server = Raw::saying("");
    let _ = server.client().health().await;
    assert!(!server.heads()[0].to_lowercase().contains("accept-encoding"), "{:?}", server.heads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_and_nobody_else_gets_the_key() {
    let body = "{\"status\":\"success\"}";
    let other = Raw::saying(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    for code in [300, 301, 302, 303, 305, 307, 308] {
        for to in [
            other.url.clone(),
            format!("{}/api/health", other.url),
            "/api/other".to_owned(),
            "//x".to_owned(),
        ] {
            let server = Raw::saying(format!(
                "HTTP/1.1 {code} Over there\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            ));
            for error in assert_all_fail(&server.client(), &format!("{code} to {to}")).await {
                assert_eq!(error.kind(), Kind::Redirect, "{error:?}");
            }
            assert!(
                server.heads().iter().all(|head| head.contains("authorization: Bearer key-of-the-tests"))
            );
            let count = server.heads().len();
            assert_eq!(
                count,
                every_request(&server.client()).len(),
                "each is sent once: {:?}",
                server.heads()
            );
        }
    }
    assert_eq!(other.heads(), Vec::<String>::new());
}

/// Values in place of an answer, and in place of any of its fields.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("../../x"),
        json!("\u{1b}[31m\n\u{202e}\0"),
        json!("x".repeat(1 << 15)),
        json!([]),
        json!([[]]),
        json!([null, {}, 1]),
        json!({}),
        json!({"status": 7}),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_json_is_an_error_whatever_was_asked() {
    let standin = StandIn::start().await;
    let client = client(&standin.url());
    for wrong in wrong_values() {
        let mut bodies = vec![wrong.to_string()];
        for field in ["status", "status_message", "error"] {
            bodies.push(json!({"status": "error", field: wrong}).to_string());
        }
        for body in bodies {
            standin.fault(Rule::any(Action::reply(400, &body)).forever());
            assert_all_fail(&client, &body[..body.len().min(80)]).await;
            standin.clear_faults();
        }
    }
    // A success is believed where nothing else was asked for; where something was, it must be there and be right.
    let fields = [
        "branch",
        "branches",
        "commit",
        "workspace",
        "workspaces",
        "paths",
        "file",
        "completed",
        "entry",
        "entries",
        "commits",
        "upload_id",
        "part_size",
        "num_parts",
    ];
    for wrong in wrong_values() {
        let mut answer = json!({"status": "success"});
        for field in fields {
            answer[field] = wrong.clone();
        }
        if wrong == json!([]) || wrong == json!(true) {
            // An empty list is a list, and a part may complete an upload.
            continue;
        }
        standin.fault(Rule::any(Action::reply(200, &answer.to_string())).forever());
        for (name, request) in every_request(&client) {
            let done = tokio::time::timeout(TIME_MAX, request).await.expect("it ends");
            let needs_nothing =
                ["health", "repo", "create repo", "delete workspace", "remove"].contains(&name);
            assert_eq!(done.is_ok(), needs_nothing, "{name} with {}", &answer.to_string()[..100]);
        }
        standin.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_numbers_are_refused() {
    let standin = StandIn::start().await;
    let client = client(&standin.url());
    let reply = |body: &Value| standin.fault(Rule::any(Action::reply(200, &body.to_string())));
    let upload = |part_size: u64, num_parts: u64| {
        json!({"status": "success", "file": "awaiting_parts", "upload_id": "u", "part_size": part_size,
            "num_parts": num_parts, "part_window": u64::MAX})
    };
    let size = 1 << 40;
    for (part_size, num_parts) in [(0, 0), (0, 1), (1, size), (u64::MAX, 0), (u64::MAX, 2), (size, u64::MAX)]
    {
        reply(&upload(part_size, num_parts));
        let error = client.begin_upload(&repo(), 7, size, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{part_size} x {num_parts}: {error}");
    }
    reply(&upload(u64::MAX, 1));
    let begun = client.begin_upload(&repo(), 7, size, None).await.unwrap();
    assert!(matches!(begun, UploadStart::AwaitingParts(_)), "one part is enough for all");

    let page = |size: &Value, total_pages: &Value| {
        let entry = json!({"filename": "a", "is_dir": false, "size": size, "hash": "1"});
        json!({"status": "success", "entries": [entry], "total_pages": total_pages, "total_entries": 1})
    };
    for (size, total_pages) in [
        (json!(-1), json!(1)),
        (json!(u64::MAX), json!(1)),
        (json!(1.5), json!(1)),
        (json!(1), json!(u64::MAX)),
        (json!(1), json!(-1)),
    ] {
        reply(&page(&size, &total_pages));
        let error = client.list_dir(&repo(), "main", &path(""), 1, 10).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{size} {total_pages}: {error}");
    }
    for wait in
        ["-1", "99999999999999999999", "18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT", "1e9", "\t"]
    {
        let headers = vec![("retry-after", wait.to_owned())];
        standin.fault(Rule::any(Action::Reply { status: 429, headers, body: String::new() }));
        let error = client.health().await.unwrap_err();
        assert_eq!(error.code(), Some(429), "{wait}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_leads_to_another_page_is_never_asked_for() {
    let standin = StandIn::start().await;
    let client = client(&standin.url());
    for id in ["../../../x", "..", "a/b", "a\nb", "", "a?b"] {
        let reply = |body: Value| standin.fault(Rule::any(Action::reply(200, &body.to_string())));
        reply(json!({"status": "success", "branch": {"name": "main", "commit_id": id}}));
        let error = client.branch(&repo(), &branch("main")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{id:?}: {error}");
        reply(json!({"status": "success", "commits": [{"id": id}]}));
        client.history(&repo(), "main", 1, 10).await.unwrap_err();
        reply(
            json!({"status": "success", "file": "awaiting_parts", "upload_id": id, "part_size": 9, "num_parts": 1}),
        );
        client.begin_upload(&repo(), 7, 9, None).await.unwrap_err();
        // Others give their workspaces what ids they like; ours are still found among them.
        let workspace = |id: &str| json!({"id": id, "commit": {"id": "c0ffee"}});
        reply(json!({"status": "success", "workspaces": [workspace(id), workspace("ours")]}));
        let ids: Vec<_> =
            client.workspaces(&repo()).await.unwrap().into_iter().map(|found| found.id).collect();
        assert_eq!(ids, ["ours"], "{id:?}");
        reply(json!({"status": "success", "workspace": workspace("another")}));
        client.open_workspace(&repo(), "ours", &branch("main")).await.unwrap_err();
    }
    let requests = standin.requests();
    for id in ["..", "x/../../../branches/main", "."] {
        let error = client.delete_workspace(&repo(), id).await.unwrap_err();
        assert_eq!((error.op(), error.kind()), (Op::DeleteWorkspace, Kind::Unsendable), "{error}");
    }
    assert_eq!(standin.requests(), requests, "nothing was sent");
}
