//! Large files on their way: what arrived is not sent again, whatever breaks off.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use oxen_sync::oxen::Op;

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

before_both! {
    a_large_file_goes_on_where_its_connection_broke_off,
    a_cut_of_all_connections_costs_one_part_at_most,
    a_part_whose_answer_was_lost_is_not_sent_again,
    a_large_file_goes_on_where_the_process_ended,
    a_large_file_that_the_server_forgot_begins_anew,
    a_part_that_the_server_waits_for_in_vain_is_given_up,
    a_large_file_is_known_by_both_hashes_however_it_got_there,
    a_large_file_that_changes_before_it_is_hashed_whole_goes_as_it_is_then,
}

/// What oxen-server 0.65.2 makes parts of.
const PART_LEN: u64 = 10 << 20;

fn content(len: u64) -> Vec<u8> {
    (0..len / 8).flat_map(u64::to_le_bytes).collect()
}

/// A running service before which nothing lies.
async fn at_rest(site: &Arc<Site>) -> Rig {
    let mut rig = Rig::new(site, "");
    rig.start();
    rig.assert_idle().await;
    rig
}

fn sent(site: &Site) -> u64 {
    site.gate().count(Op::PutPart).body_bytes
}

/// Of 60 MiB in parts of 10 MiB, the last ones break off again and again.
async fn a_large_file_goes_on_where_its_connection_broke_off(site: &Arc<Site>) {
    const LEN: u64 = 6 * PART_LEN;
    let gate = site.gate();
    let mut rig = at_rest(site).await;
    // Every other request asks whether the part has arrived, and ends before it can break off.
    let broken = Rule::on(Op::PutPart, Action::ResetInside { after_bytes: 1 << 20 });
    gate.fault(broken.after(4).times(8));
    rig.write("large", content(LEN));
    rig.until_status("it is told", |report| {
        report.folders[0].why.as_ref().is_some_and(|why| why.starts_with("a request is sent again: "))
    })
    .await;
    rig.assert_all_holds().await;
    assert_eq!(gate.faults_left(), 0);
    assert_eq!(gate.count(Op::BeginUpload).requests, 2, "once to be stored, once to be staged");
    assert!(sent(site) <= LEN + PART_LEN, "{} bytes were sent for a file of {LEN}", sent(site));
    rig.stop().await;
}

/// Inside the ninth of ten parts, as when the network goes.
async fn a_cut_of_all_connections_costs_one_part_at_most(site: &Arc<Site>) {
    const LEN: u64 = 10 * PART_LEN;
    let gate = site.gate();
    let mut rig = at_rest(site).await;
    gate.fault(Rule::on(Op::PutPart, Action::Throttle { bytes_per_s: 10 << 20 }).after(7).times(2));
    rig.write("large", content(LEN));
    rig.until("it is far on", |rig| sent(&rig.site) >= LEN * 85 / 100).await;
    gate.clear_faults();
    gate.cut_connections();
    rig.assert_all_holds().await;
    assert_eq!(gate.count(Op::BeginUpload).requests, 2, "once to be stored, once to be staged");
    let again = sent(site) - LEN;
    assert!(again > 0, "it was cut off after the file was there");
    assert!(again <= PART_LEN, "{again} bytes were sent again");
    rig.stop().await;
}

async fn a_part_whose_answer_was_lost_is_not_sent_again(site: &Arc<Site>) {
    const LEN: u64 = 6 * PART_LEN;
    let gate = site.gate();
    let mut rig = at_rest(site).await;
    gate.fault(Rule::on(Op::PutPart, Action::ResetAfter).after(1).times(3));
    rig.write("large", content(LEN));
    rig.assert_all_holds().await;
    assert_eq!((gate.faults_left(), sent(site)), (0, LEN));
    rig.stop().await;
}

/// Of 120 MiB in parts of 10 MiB, the process ends with the sixth, and the next one is stopped two requests further on.
async fn a_large_file_goes_on_where_the_process_ended(site: &Arc<Site>) {
    const LEN: u64 = 12 * PART_LEN;
    let gate = site.gate();
    let mut rig = Rig::new(site, "");
    rig.write("large", content(LEN));
    rig.set_env("OXEN_SYNC_KILL_AT", "part sent:6");
    rig.start();
    assert!(rig.ended().await.signal().is_some());
    rig.unset_env("OXEN_SYNC_KILL_AT");
    gate.fault(Rule::on(Op::PutPart, Action::HangBefore).after(1).times(2));
    rig.start();
    rig.until("it goes on", |rig| rig.site.gate().faults_left() < 2).await;
    rig.stop().await;
    gate.clear_faults();
    rig.start();
    rig.assert_all_holds().await;
    // The second end broke off nothing of which bytes were on their way.
    assert!(sent(site) <= LEN + PART_LEN, "{} bytes were sent for a file of {LEN}", sent(site));
    rig.assert_a_restart_changes_nothing().await;
}

/// It was away for longer than the server keeps parts, or the server was started anew.
async fn a_large_file_that_the_server_forgot_begins_anew(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    rig.write("large", content(48 << 20));
    rig.set_env("OXEN_SYNC_KILL_AT", "part sent:3");
    rig.start();
    assert!(rig.ended().await.signal().is_some());
    rig.unset_env("OXEN_SYNC_KILL_AT");
    // As the server says it when it knows no such upload.
    let forgot = r#"{"status": "error", "status_message": "resource_not_found",
        "status_description": "Version upload 7 not found"}"#;
    let forgot = Action::reply(404, forgot);
    site.gate().fault(Rule::on(Op::PutPart, forgot).times(1));
    rig.start();
    rig.assert_all_holds().await;
    assert_eq!(site.gate().faults_left(), 0);
    rig.assert_a_restart_changes_nothing().await;
}

/// The network went without a word: the server takes the connection for alive, and defers the part for as long as that.
async fn a_part_that_the_server_waits_for_in_vain_is_given_up(site: &Arc<Site>) {
    let gate = site.gate();
    let mut rig = at_rest(site).await;
    // Longer than the server keeps an upload that nothing comes for.
    rig.patience *= 3;
    gate.fault(Rule::on(Op::PutPart, Action::Vanish { after_bytes: 1 << 20 }).after(1));
    rig.write("large", content(4 * PART_LEN));
    rig.assert_all_holds().await;
    assert_eq!(gate.faults_left(), 0);
    assert_eq!(gate.count(Op::BeginUpload).requests, 3, "begun, begun anew, and staged");
    rig.assert_a_restart_changes_nothing().await;
}

/// Whether `why` names the hash that a program of others computes.
async fn assert_hash_is_known(rig: &Rig, path: &str) {
    let summed = Command::new("sha256sum").arg(rig.folder.join(path)).output().unwrap();
    let sha256 = String::from_utf8(summed.stdout).unwrap()[..64].to_owned();
    rig.until_why(path, &format!("sha256 {sha256}, ")).await;
}

/// Sent; stored before under another name; gone on with by another process; found on the branch by one that knows nothing.
async fn a_large_file_is_known_by_both_hashes_however_it_got_there(site: &Arc<Site>) {
    const LEN: u64 = 6 * PART_LEN;
    let mut rig = at_rest(site).await;
    rig.write("sent", content(LEN));
    rig.assert_all_holds().await;
    assert_hash_is_known(&rig, "sent").await;
    rig.write("copy", content(LEN));
    rig.assert_all_holds().await;
    assert_eq!(sent(site), LEN);
    assert_hash_is_known(&rig, "copy").await;
    rig.stop().await;

    rig.write("resumed", content(LEN + 8));
    rig.set_env("OXEN_SYNC_KILL_AT", "part sent:3");
    rig.start();
    assert!(rig.ended().await.signal().is_some());
    rig.unset_env("OXEN_SYNC_KILL_AT");
    rig.start();
    rig.assert_all_holds().await;
    assert_eq!(sent(site), LEN + LEN + 8);
    assert_hash_is_known(&rig, "resumed").await;
    rig.assert_a_restart_changes_nothing().await;

    fs::remove_dir_all(&rig.state_dir).unwrap();
    rig.start();
    rig.assert_all_holds().await;
    for path in ["sent", "copy", "resumed"] {
        assert_hash_is_known(&rig, path).await;
    }
    assert_eq!(sent(site), LEN + LEN + 8, "nothing is sent again");
    rig.assert_a_restart_changes_nothing().await;
}

/// The server has what the file held before, so nothing of it is read for sending.
async fn a_large_file_that_changes_before_it_is_hashed_whole_goes_as_it_is_then(site: &Arc<Site>) {
    const LEN: u64 = 4 * PART_LEN;
    let gate = site.gate();
    let mut rig = Rig::new(site, "");
    rig.set_env("OXEN_SYNC_LOG", "debug");
    rig.start();
    rig.write("first", content(LEN));
    rig.assert_all_holds().await;
    gate.fault(Rule::on(Op::BeginUpload, Action::HangBefore));
    rig.write("second", content(LEN));
    rig.until("it is asked whether the server has it", |rig| rig.site.gate().faults_left() == 0).await;
    let mut other = content(LEN);
    other[20 << 20] ^= 1;
    rig.write("second", &other);
    gate.cut_connections();
    rig.assert_all_holds().await;
    assert!(rig.log().contains("left out of the batch: it changed while it was read"), "{}", rig.log());
    assert_hash_is_known(&rig, "second").await;
    rig.assert_a_restart_changes_nothing().await;
}
