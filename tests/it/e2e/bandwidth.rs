//! How fast is sent, and when: a limit is kept to, and nothing goes outside of a folder's window.

use std::sync::Arc;

use oxen_sync::oxen::Op;
use oxen_sync::status::FolderState;
use tokio::time::{Duration, Instant};

use super::before_both;
use crate::standin::Gate;
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

before_both! {
    an_upload_is_held_to_its_rate_and_not_given_up,
    a_limit_that_is_lifted_counts_for_what_is_being_sent,
    outside_its_window_a_folder_is_read_and_sends_nothing,
    a_push_by_hand_waits_for_no_window_and_keeps_to_the_limit,
}

const MIB: usize = 1 << 20;

async fn said(rig: &Rig, args: &[&str]) -> Said {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    rig.run(&args).await
}

/// Has the server of the rig's config these keys too.
fn with_server_keys(rig: &Rig, keys: &str) {
    let text = rig.config_text();
    rig.write_config(&text.replacen(
        "connect_timeout = \"2s\"",
        &format!("connect_timeout = \"2s\"\n{keys}"),
        1,
    ));
}

/// A window that is closed whatever the time zone: a day that is three days away.
fn closed_window() -> String {
    let day = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(72)).strftime("%a").to_string();
    format!("upload_window = [\"{day} 00:00-24:00\"]")
}

/// No two of its pieces are the same.
fn content(len: usize) -> Vec<u8> {
    (0..len / 4).flat_map(|number| u32::try_from(number).unwrap_or_default().to_le_bytes()).collect()
}

/// Bytes of content that have come.
fn came(gate: &Gate) -> u64 {
    [Op::StageFiles, Op::PutPart].iter().map(|op| gate.count(*op).body_bytes).sum()
}

async fn an_upload_is_held_to_its_rate_and_not_given_up(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("first", "1")]).await;
    let gate = site.gate();
    with_server_keys(&rig, "bandwidth = \"2 MiB/s\"\nrequest_timeout = \"3s\"");
    rig.until("the config is taken", |rig| rig.log().contains("uploads are held to a rate")).await;
    let before = came(&gate);
    rig.write("large", content(8 * MIB));
    rig.until("it is being sent", |_| came(&gate) > before).await;
    let from = Instant::now();
    rig.assert_all_holds().await;
    assert!(from.elapsed() >= Duration::from_secs(3), "8 MiB went in {:?}", from.elapsed());
    // What is sent more than once was given up.
    assert!(came(&gate) - before < 9 * MIB as u64, "{} bytes were sent", came(&gate) - before);
    rig.stop().await;
}

async fn a_limit_that_is_lifted_counts_for_what_is_being_sent(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("first", "1")]).await;
    let gate = site.gate();
    let unlimited = rig.config_text();
    // All of it would take longer than anybody waits here.
    with_server_keys(&rig, "bandwidth = \"32KiB\"");
    rig.until("the config is taken", |rig| rig.log().contains("uploads are held to a rate")).await;
    let before = came(&gate);
    rig.write("large", content(8 * MIB));
    rig.until("it is being sent", |_| came(&gate) > before).await;
    rig.write_config(&unlimited);
    rig.assert_all_holds().await;
    assert!(came(&gate) - before < 9 * MIB as u64, "it goes on where it was");
    assert_eq!(rig.log().matches("folder started").count(), 1, "no folder begins anew for that");
    rig.stop().await;
}

async fn outside_its_window_a_folder_is_read_and_sends_nothing(site: &Arc<Site>) {
    let mut rig = Rig::at_rest(site, "", &[("first", "1")]).await;
    let head = rig.oracle().head().await;
    let always = rig.config_text();
    rig.write_config(&format!("{always}{}\n", closed_window()));
    let is_outside =
        |report: &oxen_sync::status::Report| report.folders[0].state == FolderState::OutsideWindow;
    let report = rig.until_status("its window closes", is_outside).await;
    let opens = report.folders[0].window_opens_at.clone().expect("it says when it opens");
    rig.write("meanwhile", "2");
    let why = rig.until_why("meanwhile", "upload window").await;
    assert!(why.out.contains(&opens), "{why:?}");
    let status = said(&rig, &["status"]).await;
    assert!(status.out.contains("waiting for its upload window, which opens"), "{status:?}");
    let flushed = said(&rig, &["flush"]).await;
    assert!(flushed.code == Some(1) && flushed.out.contains("outside its upload window"), "{flushed:?}");
    // A restart changes nothing about it.
    rig.stop().await;
    rig.start();
    rig.until_status("it is outside still", is_outside).await;
    rig.until_status("it is seen again", |report| report.folders[0].waiting == 1).await;
    assert_eq!(rig.oracle().head().await, head, "nothing was sent");
    rig.write_config(&always);
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_push_by_hand_waits_for_no_window_and_keeps_to_the_limit(site: &Arc<Site>) {
    let rig = Rig::new(site, &closed_window());
    with_server_keys(&rig, "bandwidth = \"2 MiB/s\"");
    rig.write("large", content(8 * MIB));
    let from = Instant::now();
    let pushed = rig.push().await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert!(from.elapsed() >= Duration::from_secs(3), "8 MiB went in {:?}", from.elapsed());
    rig.settled().await;
}
