//! What is gone from the folder goes from the branch, whatever else waits for the same path.

use std::fs;
use std::sync::Arc;

use oxen_sync::oxen::Op;
use oxen_sync::status::Report;
use rusqlite::Connection;

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

before_both! {
    a_file_goes_whose_name_became_that_of_an_empty_directory,
    a_file_goes_that_was_put_without_an_answer_and_is_to_be_put_again,
}

const MIRROR: &str =
    "on_delete = \"mirror\"\ntransport = \"workspace\"\nbatch.quiet = \"0s\"\ndelete_brake.share = \"100%\"";

/// Waits until the brake has let the file's removal go. Something that has to be put again hides that from who asks the
/// service.
async fn until_let_go(rig: &Rig, name: &str) {
    let (state, name) = (rig.state_dir.join("state.db"), name.as_bytes());
    let is_let_go = |_: &Rig| {
        let state = Connection::open(&state).unwrap();
        state.query_row("SELECT gone = 3 FROM file WHERE name = ?1", [name], |row| row.get(0)).unwrap()
    };
    rig.until("its removal is let go", is_let_go).await;
}

/// The server replaces a file by a directory when something is put below it, so nobody removes the file; then there is
/// nothing to put.
async fn a_file_goes_whose_name_became_that_of_an_empty_directory(site: &Arc<Site>) {
    let mut rig = Rig::new(site, MIRROR);
    rig.write("d", "1");
    rig.write("other", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let gate = site.gate();
    gate.fault(Rule::on(Op::OpenWorkspace, Action::ResetBefore).forever());
    fs::remove_file(rig.folder.join("d")).unwrap();
    rig.write("d/inside", "2");
    until_let_go(&rig, "d").await;
    let opened = gate.count(Op::OpenWorkspace).requests;
    gate.until("it is tried to put it", |gate| gate.count(Op::OpenWorkspace).requests > opened).await;
    fs::remove_file(rig.folder.join("d/inside")).unwrap();
    // Seen after that was seen to be gone.
    rig.write("later", "1");
    let is_seen =
        |report: &Report| report.folders.iter().all(|folder| folder.busy == 0 && folder.waiting == 3);
    rig.until_status("all of it was looked at", is_seen).await;
    gate.clear_faults();
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_file_goes_that_was_put_without_an_answer_and_is_to_be_put_again(site: &Arc<Site>) {
    let mut rig = Rig::new(site, MIRROR);
    rig.write("a", "1");
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    let gate = site.gate();
    gate.fault(Rule::on(Op::MergeWorkspace, Action::ResetAfter));
    gate.fault(Rule::on(Op::ReadHistory, Action::reply(500, "")).forever());
    rig.write("a", "2");
    gate.until("its commit is proved", |gate| gate.count(Op::ReadHistory).requests > 0).await;
    fs::remove_file(rig.folder.join("a")).unwrap();
    until_let_go(&rig, "a").await;
    gate.clear_faults();
    rig.assert_all_holds().await;
    rig.stop().await;
}
