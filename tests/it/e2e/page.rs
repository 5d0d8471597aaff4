//! The page of the running service: its figures and events follow the work, it shows names as text, and whoever asks for
//! it can stop nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};
use reqwest::{Response, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::standin::{Action, Rule};
use crate::support::browser::{Browser, keep_picture};
use crate::support::means::{leave_out, tool};
use crate::support::rig::Rig;
use crate::support::site::Site;

/// An address that nobody has at this moment.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn with_page(rig: &Rig, listen: SocketAddr) {
    let page = format!("[page]\nlisten = \"{listen}\"\n\n[author]");
    rig.write_config(&rig.config_text().replacen("[author]", &page, 1));
}

async fn rig_with_page(keys: &str) -> (Arc<Site>, Rig, SocketAddr) {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, keys);
    let listen = free_address();
    with_page(&rig, listen);
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    (site, rig, listen)
}

pub(super) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

pub(super) async fn get(listen: SocketAddr, path: &str) -> Response {
    client().get(format!("http://{listen}{path}")).send().await.unwrap()
}

/// Reads events until one holds a report as wanted.
async fn until_event(events: &mut Response, done: impl Fn(&Report) -> bool) -> Report {
    let mut text = Vec::new();
    loop {
        text.extend_from_slice(&events.chunk().await.unwrap().expect("the events go on"));
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let event = String::from_utf8(event).unwrap();
            if let Some(data) = event.trim_end().strip_prefix("event: report\ndata: ") {
                let report: Report = serde_json::from_str(data).unwrap();
                if done(&report) {
                    return report;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_and_events_follow_the_work() {
    let (_site, mut rig, listen) = rig_with_page("").await;
    let mut events = get(listen, "/events").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let pushed = |report: &Report| report.folders[0].done.map(|done| (done.commits, done.files, done.bytes));
    let first = until_event(&mut events, |_| true).await;
    assert!(first.running && first.folders[0].files == 1, "{first:#?}");
    assert_eq!(first.page.unwrap().url, format!("http://{listen}/"));
    rig.write("d/b", "22");
    let report = until_event(&mut events, |report| pushed(report) == Some((2, 2, 3))).await;
    let folder = &report.folders[0];
    let commit = &folder.recent_commits[0];
    assert!(commit.url.as_ref().unwrap().ends_with(&format!("/commits/{}", commit.id)), "{commit:?}");

    let figures = get(listen, "/metrics").await;
    assert!(figures.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let figures = figures.text().await.unwrap();
    for wanted in ["oxen_sync_commits_total{", "oxen_sync_pushed_bytes_total{", "oxen_sync_folder_files{"] {
        assert!(figures.lines().any(|line| line.starts_with(wanted)), "{wanted}: {figures}");
    }
    let commits = figures.lines().find(|line| line.starts_with("oxen_sync_commits_total{")).unwrap();
    assert!(commits.ends_with("} 2") && commits.contains(rig.folder.to_str().unwrap()), "{commits}");
    check_with_promtool(&rig, &figures);

    let status: Report = get(listen, "/api/status").await.json().await.unwrap();
    assert_eq!(status.folders[0].files, 2);
    for (path, status) in [
        ("/api/history", 200),
        ("/api/history?folder=0", 200),
        ("/api/history?folder=9", 404),
        ("/nothing", 404),
    ] {
        assert_eq!(get(listen, path).await.status(), status, "{path}");
    }
    let sent = client().post(format!("http://{listen}/api/status")).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed");
    rig.stop().await;
}

fn check_with_promtool(rig: &Rig, figures: &str) {
    if let Err(why) = tool(&["promtool", "--version"]) {
        return leave_out(&format!("the figures are not checked by promtool (Debian: prometheus): {why}"));
    }
    let file = rig.dir().join("figures");
    fs::write(&file, figures).unwrap();
    tool(&["sh", "-c", "promtool check metrics <\"$0\"", file.to_str().unwrap()]).unwrap();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus-alerts.yml");
    tool(&["promtool", "check", "rules", rules]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_by_a_foreign_name_is_told_nothing() {
    let (_site, rig, listen) = rig_with_page("").await;
    for path in ["/", "/events", "/api/status", "/api/history", "/metrics", "/nothing"] {
        for host in ["evil.example", "localhost.evil.example:80", "192.0.2.7"] {
            let url = format!("http://{listen}{path}");
            let answer = client().get(url).header("host", host).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} for {host}");
            assert!(answer.headers().contains_key("content-security-policy"));
            assert!(!answer.text().await.unwrap().contains(rig.folder.to_str().unwrap()));
        }
    }
    let by_name = client().get(format!("http://localhost:{}/", listen.port())).send().await.unwrap();
    let headers = by_name.headers().clone();
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    let page = by_name.text().await.unwrap();
    assert!(!page.contains("<script>") && !page.contains(" style=") && !page.contains("//"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_told_and_keeps_nothing_from_its_work() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    with_page(&rig, listen);
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    let trouble = |report: &Report| report.page.as_ref().and_then(|page| page.trouble.clone());
    let report = rig.until_status("it is told", |report| trouble(report).is_some()).await;
    assert!(trouble(&report).unwrap().contains(&listen.to_string()), "{report:#?}");
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(text.contains("another program has"), "{text}");
    assert_eq!(rig.log().matches("there is no page").count(), 1, "{}", rig.log());
    drop(taken);
    rig.until_status("it is there", |report| report.page.is_some() && trouble(report).is_none()).await;
    assert_eq!(get(listen, "/").await.status(), StatusCode::OK);

    // A reload moves it and takes it away.
    let moved = free_address();
    let text = rig.config_text();
    rig.write_config(&text.replace(&listen.to_string(), &moved.to_string()));
    let is_at = |report: &Report, listen: SocketAddr| {
        report.page.as_ref().is_some_and(|page| page.url == format!("http://{listen}/"))
    };
    rig.until_status("it has moved", |report| is_at(report, moved)).await;
    rig.until("it answers there", |_| TcpStream::connect(moved).is_ok()).await;
    assert!(TcpStream::connect(listen).is_err());
    rig.write_config(&text.replace("[page]", "").replace("listen = ", "#"));
    rig.until_status("it is gone", |report| report.page.is_none()).await;
    rig.until("nobody answers", |_| TcpStream::connect(moved).is_err()).await;
    rig.write("b", "2");
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_connections_and_reads_nothing_stops_nothing() {
    let (_site, mut rig, listen) = rig_with_page("").await;
    let hold = |request: &str| {
        let mut stream = TcpStream::connect(listen).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // Readers of events that never read: no more than there may be.
    let events = "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut readers: Vec<_> = (0..20).map(|_| hold(events)).collect();
    let mut refused = 0;
    for reader in &mut readers {
        reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut start = [0; 12];
        reader.read_exact(&mut start).unwrap();
        refused += u32::from(start.ends_with(b"503"));
    }
    assert_eq!(refused, 4);
    let silent: Vec<_> = (0..100).map(|_| hold("")).collect();
    let begun: Vec<_> = (0..50).map(|_| hold("GET / HTTP/1.1\r\nhost: ")).collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", rig.pid().as_raw_nonzero())).unwrap().count();
    assert!(descriptors < 120, "{descriptors} descriptors are open");
    rig.write("b", "2");
    rig.settled().await;
    // Those that say nothing are cut, so that others come to their turn.
    assert_eq!(get(listen, "/").await.status(), StatusCode::OK);
    drop((silent, begun, readers));
    rig.write("c", "3");
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// A name that would be a script, were it taken for HTML.
const HOSTILE: &str = "<img src=x onerror=\"document.title=1\">\\.txt";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_the_folder_and_what_becomes_of_it() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, mut rig, listen) = rig_with_page("").await;
    browser.open(&format!("http://{listen}/")).await;
    let has = |text: &str| format!("document.body.innerText.includes({})", json!(text));
    browser.until(&has("Every finished file is on its branch")).await;
    browser.until(&has(rig.folder.to_str().unwrap())).await;
    browser.value("window.isTheSamePage = true").await;

    rig.write("b", "2");
    browser.until(&has("2 files")).await;
    // A backslash in a name keeps it from the branch.
    fs::write(rig.folder.join(HOSTILE), "x").unwrap();
    browser.until("document.querySelector('#problems .name')?.textContent.includes('<img src=x')").await;
    assert_eq!(browser.value("document.querySelectorAll('#problems img').length").await, json!(0));
    browser.until(&has("1 file failed")).await;
    assert_eq!(browser.value("window.isTheSamePage").await, json!(true), "it was not loaded anew");
    assert_ne!(browser.value("document.title").await, json!("1"));

    for width in [360, 1280] {
        browser.show_as(width, "dark").await;
        let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(widths, json!([width, width]), "nothing is scrolled sideways");
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    rig.stop().await;
    browser.until(&has("The service does not answer since")).await;
    rig.start();
    browser.until("document.getElementById('link').textContent === 'live'").await;
    rig.stop().await;
}

/// How it looks while much goes on: for a person to see, with `OXEN_SYNC_PICTURES=DIR`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_page_fits_every_screen_in_light_and_dark() {
    let Some(browser) = Browser::start().await else { return };
    let site = Arc::new(Site::standin().await);
    let keys = "on_delete = \"mirror\"\ntransport = \"workspace\"\nbatch.quiet = \"1s\"";
    let mut rig = Rig::new(&site, keys);
    let listen = free_address();
    with_page(&rig, listen);
    let (rest, gone) = (rig.dir().join("microscope-2"), rig.dir().join("a-disk-that-is-not-mounted"));
    fs::create_dir(&rest).unwrap();
    fs::write(rest.join("plate 1.tif"), vec![7; 300_000]).unwrap();
    let more = [(&rest, "lab/plates"), (&gone, "lab/archive")];
    let more: String = more.map(|(path, repo)| rig.folder_text(path, &repo.parse().unwrap(), "")).concat();
    rig.write_config(&(rig.config_text() + &more));
    (0..12).for_each(|n| rig.write(&format!("run 7/frame {n:04}.raw"), vec![n; 40_000]));
    rig.start();
    rig.until_status("all is pushed", |report| report.folders[0].files == 12 && report.folders[1].files == 1)
        .await;
    rig.stop().await;
    add_past_commits(&rig);
    rig.start();
    rig.until_status("it watches", |report| report.folders[0].state == FolderState::Watching).await;
    (0..12).for_each(|n| fs::remove_file(rig.folder.join(format!("run 7/frame {n:04}.raw"))).unwrap());
    rig.until_status("they are held", |report| report.folders[0].held == 12).await;
    fs::write(rig.folder.join("run 7\\notes.txt"), "x").unwrap();
    rig.until_status("one has failed", |report| report.folders[0].failed == 1).await;
    // Part of the batch gets through.
    site.gate().fault(Rule::on(Op::StageFiles, Action::HangBefore).after(1).forever());
    (0..60_u8).for_each(|n| rig.write(&format!("run 8/frame {n:04}.raw"), vec![n; 90_000]));
    browser.open(&format!("http://{listen}/")).await;
    browser.until("document.querySelector('progress')?.value > 0").await;
    browser.until("document.querySelectorAll('#throughput .bar').length > 50").await;

    for width in [360, 390, 1280] {
        for scheme in ["light", "dark"] {
            browser.show_as(width, scheme).await;
            let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]").await;
            assert_eq!(widths, json!([width, width]), "nothing is scrolled sideways");
            let faint = browser.faint().await;
            assert_eq!(faint, [""; 0], "{scheme}, {width}: too little contrast");
            browser.value(MADE_UP_DAY).await;
            keep_picture(&format!("busy-{width}-{scheme}"), &browser.picture().await);
        }
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    site.gate().clear_faults();
    site.gate().cut_connections();
    rig.stop().await;
}

/// Commits of the day before, as the state remembers them.
fn add_past_commits(rig: &Rig) {
    let state = Connection::open(rig.state_dir.join("state.db")).unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    for n in 0..130_i64 {
        let wave = (n * 37) % 23;
        state
            .execute(
                "INSERT INTO commit_made (folder, commit_id, at_ms, files, removed, bytes) VALUES (1, ?1, ?2, ?3, 0, ?4)",
                rusqlite::params![
                    format!("{:032x}", u128::from(n.cast_unsigned() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
                    now - (130 - n) * 11 * 60_000,
                    wave + 1,
                    (wave * wave + 3) * 700_000
                ],
            )
            .unwrap();
    }
}

/// A day of work, with a backlog that a lab's network made at noon.
const MADE_UP_DAY: &str = r"import('/plot.js').then(({ show }) => {
  const day = { minutes: [], waiting: [], files: [], bytes: [] };
  const now = Math.floor(Date.now() / 60000);
  for (let back = 1439; back >= 0; back -= 1) {
    const hour = 24 - back / 60;
    const work = Math.max(0, Math.sin((hour - 4) / 3)) + (hour > 12 ? 0.4 : 0);
    const away = hour > 13 && hour < 14.5;
    const files = away ? 0 : Math.round(work * (20 + 15 * Math.sin(back * 1.7)) * (hour > 14.5 && hour < 15.5 ? 3 : 1));
    day.minutes.push(now - back);
    day.files.push(files);
    day.bytes.push(files * 1300000);
    day.waiting.push(hour < 2 ? null : Math.round(work * 6 + (away ? (hour - 13) * 900 : hour > 14.5 && hour < 15.5 ? (15.5 - hour) * 1350 : 0)));
  }
  show(day);
})";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_what_waits_grows_whatever_fails_and_ends_with_the_commit() {
    let (site, mut rig, listen) = rig_with_page("").await;
    let standin = site.as_standin().unwrap();
    assert_eq!(rig.folder_status().await.oldest_waiting_s, None);
    standin.go_down().await;
    rig.write("b", "2");
    let tries = |report: &Report| report.folders[0].done.map_or(0, |done| done.failed_tries);
    let age = |report: &Report| report.folders[0].oldest_waiting_s;
    rig.until_status("it was tried", |report| tries(report) >= 2).await;
    rig.kick();
    rig.until_status("it grows", |report| tries(report) >= 3 && age(report) >= Some(4)).await;
    let figures = get(listen, "/metrics").await.text().await.unwrap();
    let told = figures.lines().find(|line| line.starts_with("oxen_sync_oldest_uncommitted_age_seconds{"));
    let told: f64 = told.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
    assert!(told >= 4.0, "{told}");
    standin.come_up();
    rig.kick();
    rig.until_status("nothing waits", |report| age(report).is_none() && tries(report) >= 3).await;
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_day_is_told_in_columns() {
    let (_site, mut rig, listen) = rig_with_page("").await;
    rig.stop().await;
    add_past_commits(&rig);
    rig.start();
    rig.until_status("it watches", |report| report.folders[0].state == FolderState::Watching).await;
    let day = async || -> Value { get(listen, "/api/history?folder=0").await.json().await.unwrap() };
    let count = |day: &Value| day["minutes"].as_array().unwrap().len();
    let mut seen = day().await;
    let deadline = std::time::Instant::now() + rig.patience;
    while count(&seen) < 100 {
        assert!(std::time::Instant::now() < deadline, "the past is not there: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = day().await;
    }
    let columns = ["waiting", "files", "bytes"].map(|name| seen[name].as_array().unwrap().len());
    assert_eq!(columns, [count(&seen); 3]);
    assert!(seen["waiting"][0].is_null() && seen["files"][0].is_number(), "{seen}");
    rig.stop().await;
}
