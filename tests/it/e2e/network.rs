//! Whatever happens to a request on its way, or to its answer: all is right in the end, in little memory, and the log
//! tells of it in a few lines.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use oxen_sync::oxen::Op;
use tokio::time::{sleep, timeout};

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::means::with_names_of;
use crate::support::rig::Rig;
use crate::support::secure::{Authority, TlsFront};
use crate::support::site::Site;

before_both! {
    a_fault_at_a_request_costs_time_and_no_file,
    #[ignore = "takes minutes: tests/run --long"]
    long_every_fault_at_every_request_costs_time_and_no_file,
    a_server_that_is_away_for_a_while_is_waited_for,
    a_certificate_that_does_not_match_lets_nothing_through,
    a_name_that_does_not_resolve_is_asked_for_again,
}

/// Rigs at once: each is a process of its own.
const AT_ONCE: usize = 10;
/// Lines that the log of one case may have, with a start, two commits, a stop and another start in it.
const LOG_LINES_MAX: usize = 40;
const MEMORY_KIB_MAX: u64 = 64 << 10;

/// A request of the program, and what makes it ask this.
#[derive(Clone, Copy)]
struct Asked {
    op: Op,
    transport: &'static str,
    /// Whether it is only asked before the first commit.
    first: bool,
    /// Whether the batch is staged while it is collected.
    early: bool,
}

const fn asked(op: Op, transport: &'static str) -> Asked {
    Asked { op, transport, first: false, early: false }
}

const fn first(op: Op) -> Asked {
    Asked { op, transport: "auto", first: true, early: false }
}

const REQUESTS: &[Asked] = &[
    first(Op::FindRepo),
    first(Op::CreateRepo),
    asked(Op::ReadBranch, "workspace"),
    first(Op::ListWorkspaces),
    asked(Op::OpenWorkspace, "workspace"),
    asked(Op::StageFiles, "workspace"),
    asked(Op::StageRemovals, "workspace"),
    asked(Op::BeginUpload, "workspace"),
    asked(Op::PutPart, "workspace"),
    asked(Op::MergeWorkspace, "workspace"),
    asked(Op::ReadEntry, "workspace"),
    asked(Op::PutFiles, "put"),
];

fn faults() -> Vec<(&'static str, Action)> {
    let html = "<html><head><title>502 Bad Gateway</title></head><body><h1>oh</h1></body></html>";
    let failed = r#"{"status":"error","status_message":"no space left on device"}"#;
    let soon = |status| Action::Reply {
        status,
        headers: vec![("retry-after", "1".to_owned())],
        body: String::new(),
    };
    vec![
        ("reset before the body", Action::ResetBefore),
        ("reset inside the body", Action::ResetInside { after_bytes: 20 }),
        ("reset after the body", Action::ResetAfter),
        ("no answer, nothing done", Action::HangBefore),
        ("no answer, all done", Action::HangAfter),
        ("reset, and done a while later", Action::LandLate(Duration::from_millis(700))),
        ("the answer is cut", Action::CutAnswer { after_bytes: 9 }),
        ("10 KB/s", Action::Throttle { bytes_per_s: 10_000 }),
        ("408", Action::reply(408, "")),
        ("413", Action::reply(413, "<html>Request Entity Too Large</html>")),
        ("429 with Retry-After", soon(429)),
        ("500", Action::reply(500, r#"{"status":"error","status_message":"internal_server_error"}"#)),
        ("502 with HTML", Action::reply(502, html)),
        ("503 with Retry-After", soon(503)),
        ("truncated JSON", Action::reply(200, r#"{"status":"success","status_mess"#)),
        ("wrong JSON", Action::reply(200, r#"{"status":"success","status_message":"fine","commit":7}"#)),
        ("200 with a failure in the body", Action::reply(200, failed)),
        ("half of it is done, and it is said", Action::StageHalf),
        ("half of it is done, and nothing is said", Action::LoseHalf),
    ]
}

async fn long_every_fault_at_every_request_costs_time_and_no_file(site: &Arc<Site>) {
    let all = REQUESTS.iter().flat_map(|asked| faults().into_iter().map(|fault| (*asked, fault)));
    let all: Vec<_> = all.collect();
    let early = all.iter().filter(|(asked, _)| asked.transport == "workspace").cloned();
    let early: Vec<_> = early.map(|(asked, fault)| (Asked { early: true, ..asked }, fault)).collect();
    meet_all(site, [all, early].concat()).await;
}

/// Each request meets a fault and each fault a request.
async fn a_fault_at_a_request_costs_time_and_no_file(site: &Arc<Site>) {
    let faults = faults();
    let some = (0..faults.len()).map(|at| {
        let asked = REQUESTS[(at * 5 + 4) % REQUESTS.len()];
        let early = asked.transport == "workspace" && at % 2 == 0;
        (Asked { early, ..asked }, faults[at].clone())
    });
    meet_all(site, some.collect()).await;
}

async fn meet_all(site: &Arc<Site>, cases: Vec<(Asked, (&'static str, Action))>) {
    let count = cases.len();
    let all = cases.into_iter().map(|(asked, (name, action))| async move {
        let site = Arc::new(site.another().await);
        let early = if asked.early { ", early" } else { "" };
        let case = format!("{} at {:?}{early}", name, asked.op);
        tokio::spawn(meet(site, asked, action)).await.unwrap_or_else(|_| panic!("the case fails: {case}"))
    });
    let files: Vec<usize> = stream::iter(all).buffer_unordered(AT_ONCE).collect().await;
    eprintln!("{count} faults, {} files: none lost, torn or committed twice", files.iter().sum::<usize>());
}

async fn meet(site: Arc<Site>, asked: Asked, action: Action) -> usize {
    let gate = site.gate();
    let mut rig = Rig::new(&site, &format!("on_delete = \"mirror\"\ntransport = \"{}\"", asked.transport));
    let url = format!("url = {:?}\n", site.url);
    if asked.early {
        rig.set_out_early();
    }
    // A server is silent for a second while it works, and a machine that does much else adds to that.
    rig.write_config(&rig.config_text().replace(&url, &format!("{url}request_timeout = \"3s\"\n")));
    if asked.first {
        gate.fault(Rule::on(asked.op, action.clone()));
    }
    rig.write("a/kept", "1");
    rig.write("a/changed", "1");
    rig.write("b/removed", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let lands_after = if let Action::LandLate(after) = action { Some(after) } else { None };
    if !asked.first {
        gate.fault(Rule::on(asked.op, action));
    }
    if asked.transport == "put" {
        // Small and in one directory.
        (0..4).for_each(|n| rig.write(&format!("a/new {n}"), format!("{n}")));
    } else {
        (0..4).for_each(|n| rig.write(&format!("new {n}/file"), format!("{n}")));
        rig.write("large", vec![7; 1_200_000]);
        fs::remove_file(rig.folder.join("b/removed")).unwrap();
    }
    rig.write("a/changed", "2");
    gate.until("the fault is met", |gate| gate.faults_left() == 0).await;
    // What is taken for a file's fault stands in the report and waits for a person.
    rig.until_status("it is over", |report| {
        let folder = &report.folders[0];
        if folder.failed > 0 {
            rig.kick();
        }
        folder.failed == 0 && folder.waiting == 0 && folder.retry.is_none()
    })
    .await;
    if let Some(after) = lands_after {
        // It may land after the looks that follow a failure; it goes with the next one.
        sleep(after).await;
        let gone = async {
            while !rig.oracle().workspaces().await.is_empty() {
                rig.kick();
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(rig.patience, gone).await.expect("a look finds what landed late");
    }
    rig.assert_all_holds().await;
    let files = rig.wanted().len();
    let peak = rig.peak_memory_kib();
    assert!(peak <= MEMORY_KIB_MAX, "peak memory {peak} KiB");
    rig.assert_a_restart_changes_nothing().await;
    let lines = rig.log().lines().count();
    assert!(lines <= LOG_LINES_MAX, "{lines} lines in the log");
    files
}

async fn a_server_that_is_away_for_a_while_is_waited_for(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("a", "1")]).await;
    site.gate().go_down().await;
    rig.write("b", "2");
    let report = rig.until_status("it is told", |report| report.folders[0].retry.is_some()).await;
    let reason = &report.folders[0].retry.as_ref().unwrap().reason;
    assert!(reason.contains("connection refused") || reason.contains("reset"), "{reason}");
    rig.until_status("it goes on trying", |report| {
        report.folders[0].retry.as_ref().is_some_and(|retry| retry.attempts >= 4)
    })
    .await;
    let lines = rig.log().lines().count();
    assert!(lines < 15, "the log tells of changes and not of tries: {}", rig.log());
    site.gate().come_up();
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_certificate_that_does_not_match_lets_nothing_through(site: &Arc<Site>) {
    let authority = Authority::new();
    let front = TlsFront::before(site, authority.certificate_for("elsewhere.example")).await;
    let mut rig = Rig::new(site, "");
    let ca_file = rig.dir().join("ca.pem");
    fs::write(&ca_file, authority.pem()).unwrap();
    let (url, secure) = (format!("url = {:?}\n", site.url), format!("https://localhost:{}", front.port()));
    let server = format!("url = {secure:?}\nca_file = {ca_file:?}\n");
    rig.write_config(&rig.config_text().replace(&url, &server));
    rig.write("a", "1");
    rig.start();
    let report = rig.until_status("it is told", |report| report.folders[0].retry.is_some()).await;
    let reason = &report.folders[0].retry.as_ref().unwrap().reason;
    assert!(reason.contains("certificate"), "{reason}");
    assert!(rig.oracle().head().await.is_none(), "nothing gets through");
    assert!(!front.has_seen_a_request());

    front.show(authority.certificate_for("localhost"));
    rig.kick();
    rig.assert_all_holds().await;
    assert!(front.has_seen_a_request());
    rig.stop().await;
}

async fn a_name_that_does_not_resolve_is_asked_for_again(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let hosts = rig.dir().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let Some(wrapper) = with_names_of(&hosts) else { return };
    rig.set_wrapper(&wrapper);
    let named = site.url.replace("127.0.0.1", "oxen-server.test");
    let (url, server) = (format!("url = {:?}\n", site.url), format!("url = {named:?}\nallow_http = true\n"));
    rig.write_config(&rig.config_text().replace(&url, &server));
    rig.write("a", "1");
    rig.start();
    let report = rig.until_status("it is told", |report| report.folders[0].retry.is_some()).await;
    let reason = &report.folders[0].retry.as_ref().unwrap().reason;
    assert!(reason.contains("oxen-server.test"), "{reason}");
    // In place, so that the one that is mounted changes.
    fs::write(&hosts, "127.0.0.1 localhost oxen-server.test\n").unwrap();
    rig.kick();
    rig.assert_all_holds().await;
    rig.stop().await;
}
