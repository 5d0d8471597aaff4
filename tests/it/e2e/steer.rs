//! What a running service is told: pause, resume, flush, rescan, retry; and the same in a state that no service uses.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::{FolderState, Report};
use serde_json::{Value, json};

use super::{before_both, on_both};
use crate::standin::{Action, Rule};
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

on_both! {
    a_paused_folder_reads_and_sends_nothing_and_goes_on_where_it_was,
    a_pause_ends_by_itself,
    a_flush_ends_when_all_that_was_there_is_on_the_branch,
    a_flush_is_not_held_up_by_what_comes_later,
    a_flush_says_what_is_not_on_the_branch,
}

mod at_the_gate {
    use super::*;
    before_both! { a_pause_gives_up_what_is_being_sent_and_waits_for_a_commit }
    use super::a_pause_gives_up_what_is_being_sent_and_waits_for_a_commit;
}

async fn said(rig: &Rig, args: &[&str]) -> Said {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    rig.run(&args).await
}

/// Starts it and waits until it answers.
async fn start(rig: &mut Rig) {
    rig.start();
    rig.until_status("it runs", |_| true).await;
}

fn folder(rig: &Rig) -> &str {
    rig.folder.to_str().unwrap()
}

async fn a_paused_folder_reads_and_sends_nothing_and_goes_on_where_it_was(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("first", "1")]).await;
    let head = rig.oracle().head().await;
    let paused = said(&rig, &["pause", folder(&rig)]).await;
    assert!(
        paused.code == Some(0) && paused.out.contains("paused; to go on: oxen-sync resume"),
        "{paused:?}"
    );
    rig.until_status("it is paused", |report| report.folders[0].state == FolderState::Paused).await;
    rig.write("while paused", "2");
    rig.until_status("it is seen", |report| report.folders[0].waiting == 1).await;
    let why = said(&rig, &["why", &format!("{}/while paused", folder(&rig))]).await;
    assert!(why.out.contains("It waits: its folder is paused until someone resumes it."), "{why:?}");
    let flushed = said(&rig, &["flush"]).await;
    assert!(flushed.code == Some(1) && flushed.out.contains("the folder is paused"), "{flushed:?}");

    // A restart changes nothing about it.
    rig.stop().await;
    let text = said(&rig, &["status"]).await.out;
    assert!(text.contains("not running, and PAUSED"), "{text}");
    rig.start();
    rig.until_status("it is paused still", |report| report.folders[0].state == FolderState::Paused).await;
    rig.until_status("it is seen again", |report| report.folders[0].waiting == 1).await;
    assert_eq!(rig.oracle().head().await, head, "nothing was sent");

    let resumed = said(&rig, &["resume"]).await;
    assert!(resumed.code == Some(0) && resumed.out.contains("goes on"), "{resumed:?}");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_pause_ends_by_itself(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("first", "1")]).await;
    let paused = said(&rig, &["pause", "--for", "1s"]).await;
    assert!(paused.out.contains("paused until 20"), "{paused:?}");
    rig.write("while paused", "2");
    rig.assert_all_holds().await;
    assert!(rig.log().contains("the pause is over"), "{}", rig.log());
    // One that ended while nothing ran is over at the next start.
    rig.stop().await;
    assert_eq!(said(&rig, &["pause", "--for", "1s"]).await.code, Some(0));
    rig.write("while stopped", "3");
    rig.start();
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_pause_gives_up_what_is_being_sent_and_waits_for_a_commit(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "transport = \"workspace\"", &[("first", "1")]).await;
    let gate = site.gate();
    let slow = |op| Rule::on(op, Action::Delay(Duration::from_secs(4)));
    for (op, commits) in [(Op::StageFiles, 0), (Op::MergeWorkspace, 1)] {
        let before = rig.oracle().commits().await.len();
        let asked = gate.count(op).requests;
        gate.fault(slow(op));
        rig.write(&format!("{op:?}"), "2");
        gate.until("it is asked for", |gate| gate.count(op).requests > asked).await;
        assert_eq!(said(&rig, &["pause"]).await.code, Some(0));
        rig.until_status("it is paused", |report| report.folders[0].state == FolderState::Paused).await;
        assert_eq!(rig.oracle().commits().await.len(), before + commits, "{op:?}");
        assert_eq!(said(&rig, &["resume"]).await.code, Some(0));
        rig.assert_all_holds().await;
    }
    rig.stop().await;
}

async fn a_flush_ends_when_all_that_was_there_is_on_the_branch(site: &Arc<Site>) {
    // What waits for its commit for long does not wait any longer.
    let keys = "batch.quiet = \"5m\"\nbatch.max_wait = \"10m\"\nsettle.quiet = \"200ms\"";
    let mut rig = Rig::new(site, keys);
    start(&mut rig).await;
    let empty = said(&rig, &["flush"]).await;
    assert!(empty.code == Some(0) && empty.out.contains("there is nothing to push"), "{empty:?}");
    for round in 0..2 {
        (0..30).for_each(|n| rig.write(&format!("run {round}/{n}"), format!("{n}")));
        let flushed = said(&rig, &["flush", folder(&rig)]).await;
        let head = rig.oracle().head().await.unwrap();
        assert!(flushed.code == Some(0) && flushed.out.contains(&format!("at commit {head}")), "{flushed:?}");
        let tree = rig.oracle().tree(&head).await;
        assert_eq!(tree.len(), 30 * (round + 1), "all of it is there when it ends");
    }
    let again = said(&rig, &["flush", "--json"]).await;
    let json: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&json["done"], &json["folders"][0]["done"]), (&json!(true), &json!(true)), "{again:?}");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_flush_is_not_held_up_by_what_comes_later(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "settle.quiet = \"300ms\"");
    rig.write("first", "1");
    start(&mut rig).await;
    let flushed = {
        let flush = said(&rig, &["flush", "--timeout", "60s"]);
        tokio::pin!(flush);
        let mut number = 0;
        loop {
            number += 1;
            rig.write(&format!("later/{number}"), "x");
            tokio::select! {
                flushed = &mut flush => break flushed,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    assert!(flushed.code == Some(0) && flushed.out.contains("everything is on the branch"), "{flushed:?}");
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_flush_says_what_is_not_on_the_branch(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.left_out.push("bad\\name".into());
    rig.write("bad\\name", "1");
    rig.write("good", "1");
    start(&mut rig).await;
    let flushed = said(&rig, &["flush"]).await;
    assert!(flushed.code == Some(1) && flushed.out.contains("1 failed; see oxen-sync failed"), "{flushed:?}");
    let failed = said(&rig, &["failed"]).await;
    assert!(failed.code == Some(0) && failed.out.contains("bad\\\\name\n    refused since 20"), "{failed:?}");
    rig.assert_all_holds().await;
    rig.stop().await;
    assert!(said(&rig, &["failed"]).await.out.contains("1 failed"), "also while nothing runs");
    let flushed = said(&rig, &["flush"]).await;
    assert!(flushed.code == Some(1) && flushed.err.contains("no service is running"), "{flushed:?}");
    let unknown = said(&rig, &["failed", "/not/of/the/config"]).await;
    assert!(unknown.code == Some(2) && unknown.err.contains("is no folder of"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_waits_for_a_server_that_is_away_for_as_long_as_is_wanted() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::at_rest(&site, "", &[("a", "1")]).await;
    standin.go_down().await;
    rig.write("b", "2");
    let flushed = said(&rig, &["flush", "--timeout", "2s"]).await;
    assert!(
        flushed.code == Some(1) && flushed.out.contains("NOT everything is on the branch yet"),
        "{flushed:?}"
    );
    let flush = said(&rig, &["flush"]);
    let back = async {
        rig.until_status("it waits", |report| report.folders[0].state == FolderState::Waiting).await;
        standin.come_up();
    };
    let (flushed, ()) = tokio::join!(flush, back);
    assert_eq!(flushed.code, Some(0), "{flushed:?}");
    rig.assert_all_holds().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_set_aside_is_tried_again_by_hand() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let mut rig = Rig::new(&site, "transport = \"put\"");
    standin.fault(Rule::on(Op::PutFiles, Action::reply(400, "no such thing")).path("poison").forever());
    ["poison a/x", "poison b/x", "well/x"].into_iter().for_each(|path| rig.write(path, path));
    rig.left_out = vec![b"poison a/x".to_vec(), b"poison b/x".to_vec()];
    start(&mut rig).await;
    // That other files pass shows whose fault it is. A kick lets go what was set aside, so there is none after the last.
    let mut seen = 0;
    for number in 0.. {
        let tries = |report: &Report| report.folders[0].retry.as_ref().map_or(0, |retry| retry.attempts);
        rig.write(&format!("well/{number}"), "x");
        let report = rig
            .until_status("the next try is due", |report| {
                report.folders[0].failed == 2 || tries(report) > seen
            })
            .await;
        if report.folders[0].failed == 2 {
            break;
        }
        seen = tries(&report);
        rig.kick();
    }
    rig.settled().await;
    standin.clear_faults();
    let failed = said(&rig, &["failed"]).await;
    assert!(failed.out.contains("poison a/x") && failed.out.contains("quarantined since"), "{failed:?}");
    let why = said(&rig, &["why", &format!("{}/poison a/x", folder(&rig))]).await;
    assert!(why.out.contains("It is not on the branch:") && why.out.contains("oxen-sync retry"), "{why:?}");

    rig.left_out = vec![b"poison b/x".to_vec()];
    let retried = said(&rig, &["retry", &format!("{}/poison a", folder(&rig))]).await;
    assert!(retried.code == Some(0) && retried.out.contains("1 file tried again now"), "{retried:?}");
    rig.until_status("one is left", |report| report.folders[0].failed == 1).await;
    rig.stop().await;
    let retried = said(&rig, &["retry"]).await;
    assert!(retried.out.contains("1 file tried again at the next start or push"), "{retried:?}");
    rig.left_out.clear();
    rig.start();
    rig.assert_all_holds().await;
    let outside = said(&rig, &["retry", "/elsewhere"]).await;
    assert!(outside.code == Some(2) && outside.err.contains("lies in no folder of"), "{outside:?}");
    assert_eq!(said(&rig, &["retry"]).await.out, "nothing has failed there\n");
    rig.stop().await;
}

/// The same for programs: HTTP and JSON over the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_steer_over_the_socket() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::at_rest(&site, "rescan_interval = \"1h\"", &[("a", "1")]).await;
    let socket = rig.state_dir.join("oxen-sync.sock");
    let http = reqwest::Client::builder().unix_socket(socket).no_proxy().build().unwrap();
    let post = |route: &str, body: Value| {
        let request = http.post(format!("http://localhost{route}")).json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
        }
    };
    let folders = json!({"folders": [folder(&rig)]});
    let (status, paused) = post("/pause", json!({"folders": [folder(&rig)], "for_s": 3600})).await;
    assert_eq!((status, &paused["folders"][0]["folder"]["repo"]), (200, &json!(rig.repo.to_string())));
    assert!(paused["folders"][0]["until"].as_str().unwrap().starts_with("20"), "{paused}");
    assert_eq!(post("/resume", folders.clone()).await.0, 200);
    let scans = rig.folder_status().await.scans;
    assert_eq!(post("/rescan", folders.clone()).await.0, 200);
    rig.until_status("it is scanned", |report| report.folders[0].scans > scans).await;
    let (status, ticket) = post("/flush", folders).await;
    let number = ticket["ticket"].as_u64().unwrap();
    assert_eq!(status, 200);
    let answer = http.get(format!("http://localhost/flush/{number}?wait_s=10")).send().await.unwrap();
    let flushed: Value = answer.json().await.unwrap();
    assert_eq!(flushed["done"], json!(true), "{flushed}");

    for (route, body) in
        [("/flush", json!({"folders": ["/elsewhere"]})), ("/retry", json!({"paths": ["/elsewhere"]}))]
    {
        let (status, refused) = post(route, body).await;
        assert_eq!(status, 404, "{refused}");
        assert!(refused["error"].as_str().unwrap().contains("/elsewhere"), "{refused}");
    }
    let (status, refused) = post("/pause", json!({"for_s": "long"})).await;
    assert!((400..500).contains(&status) && refused["error"].is_string(), "{status} {refused}");
    let answer = http.get("http://localhost/flush/999").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    rig.assert_all_holds().await;
    rig.stop().await;
}

/// Where a file goes its way, and where it does not: the answer names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_says_where_a_path_is() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::at_rest(
        &site,
        "exclude = [\"*.tmp\"]\nsettle.quiet = \"1s\"\nremote_path = \"raw/{path}\"",
        &[("d/a", "1"), ("gone", "2")],
    )
    .await;
    let why = |path: &str| {
        let path = rig.folder.join(path);
        let rig = &rig;
        async move { rig.run(&["why".as_ref(), path.as_os_str()]).await }
    };
    let head = rig.oracle().head().await.unwrap();
    let answer = why("d/a").await;
    assert!(
        answer.code == Some(0)
            && answer.out.contains(&format!("It is on the branch, in commit {head} since 20")),
        "{answer:?}"
    );
    assert!(answer.out.contains("branch main: raw/d/a\n"), "{answer:?}");
    assert!(answer.out.contains("sha256 6b86b273ff34"), "{answer:?}");
    let answer = why("d").await;
    assert!(
        answer.out.contains("It is a directory; below it, 1 file is here and on the branch."),
        "{answer:?}"
    );
    let answer = why("never").await;
    assert!(answer.out.contains("There is no such file"), "{answer:?}");

    fs::write(rig.folder.join("x.tmp"), "1").unwrap();
    fs::write(rig.folder.join(".oxenignore"), "# ours\nsecret/\n").unwrap();
    fs::create_dir(rig.folder.join("secret")).unwrap();
    fs::write(rig.folder.join("secret/x"), "1").unwrap();
    rig.ledger.finished(&rig.on_branch(".oxenignore"), b"# ours\nsecret/\n");
    rig.left_out.extend([b"x.tmp".to_vec(), b"secret/x".to_vec()]);
    let why = |path: &str| {
        let path = rig.folder.join(path);
        let rig = &rig;
        async move { rig.run(&["why".as_ref(), path.as_os_str()]).await.out }
    };
    assert!(why("x.tmp").await.contains("It is left out: by \"*.tmp\", exclude in the config."));
    let answer = why("secret/x").await;
    assert!(answer.contains("its directory secret is, by \"secret/\", line 2 of .oxenignore"), "{answer}");
    std::os::unix::fs::symlink("d", rig.folder.join("link")).unwrap();
    assert!(why("link").await.contains("It is a symbolic link"));
    rig.settled().await;
    fs::remove_file(rig.folder.join("gone")).unwrap();
    rig.until_status("it is noticed", |report| report.folders[0].files == 2).await;
    assert!(why("gone").await.contains("the branch keeps it, as on_delete = \"keep\" says"));

    // A writer that goes on is named.
    let writer = fs::File::create(rig.folder.join("busy")).unwrap();
    rig.until_status("it is busy", |report| report.folders[0].busy == 1).await;
    let answer = why("busy").await;
    assert!(answer.contains("It is being written"), "{answer}");
    assert!(answer.contains(&format!("(process {})", std::process::id())), "{answer}");
    drop(writer);
    rig.ledger.finished(&rig.on_branch("busy"), b"");
    rig.left_out.push(b"gone".to_vec());
    rig.settled_but(&["raw/gone"]).await;
    let answer = rig.run(&["why".as_ref(), "/elsewhere/x".as_ref()]).await;
    assert!(answer.code == Some(1) && answer.out.contains("it lies in no folder of"), "{answer:?}");
    let log =
        rig.run(&["log".as_ref(), "-n".as_ref(), "1".as_ref(), "--since".as_ref(), "1h".as_ref()]).await;
    assert!(log.code == Some(0) && log.out.lines().count() == 1 && log.out.contains("→ e2e/"), "{log:?}");

    rig.stop().await;
    rig.write("d/a", "changed");
    let answer = why_offline(&rig, "d/a").await;
    assert!(answer.contains("nobody has noticed yet") && answer.contains("oxen-sync push"), "{answer}");
    let log = rig.run(&["log".as_ref(), "--json".as_ref()]).await;
    let json: Value = serde_json::from_str(&log.out).unwrap();
    assert!(json["commits"].as_array().unwrap().len() >= 2, "{log:?}");
}

async fn why_offline(rig: &Rig, path: &str) -> String {
    rig.run(&["why".as_ref(), rig.folder.join(path).as_os_str()]).await.out
}
