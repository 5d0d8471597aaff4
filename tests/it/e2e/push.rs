//! One shot, and two at once.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxen_sync::oxen::Op;
use serde_json::Value;

use super::on_both;
use crate::standin::StandIn;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::tree::differences;

on_both! {
    push_exits_with_zero_only_when_everything_is_proved,
    two_daemons_push_to_one_branch,
    folders_of_one_new_repository_make_it_once,
}

/// Requests that carry content or commit it.
fn sending(standin: &StandIn) -> u64 {
    [Op::PutFiles, Op::StageFiles, Op::PutPart, Op::BeginUpload, Op::MergeWorkspace, Op::StageRemovals]
        .map(|op| standin.count(op).requests)
        .iter()
        .sum()
}

/// All that the folder has is on the branch, and nothing else was.
pub(super) async fn holds(rig: &Rig) {
    let wanted = rig.settled().await;
    rig.oracle().assert_bytes(&rig.folder, &rig.place, &wanted).await;
    rig.oracle().assert_history(&rig.ledger).await;
    rig.oracle().assert_no_workspaces().await;
}

async fn push_exits_with_zero_only_when_everything_is_proved(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "on_delete = \"mirror\"");
    rig.write("a", "1");
    rig.write("d/b c", "2");
    rig.write("large", vec![3; 3 << 20]);
    let said = rig.push().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    holds(&rig).await;

    let head = rig.oracle().head().await;
    let before = site.as_standin().as_ref().map(|standin| sending(standin));
    let said = rig.push().await;
    assert_eq!((said.code, rig.oracle().head().await), (Some(0), head.clone()), "nothing to do: {said:?}");
    fs::remove_dir_all(&rig.state_dir).unwrap();
    let said = rig.push().await;
    assert_eq!((said.code, rig.oracle().head().await), (Some(0), head), "seeded from the branch: {said:?}");
    assert_eq!(
        site.as_standin().as_ref().map(|standin| sending(standin)),
        before,
        "no content is sent again"
    );

    fs::remove_file(rig.folder.join("a")).unwrap();
    rig.write("d/e", "new");
    assert_eq!(rig.push().await.code, Some(0));
    holds(&rig).await;

    rig.write("back\\slash", "1");
    rig.left_out = vec![b"back\\slash".to_vec()];
    rig.write("d/f", "new, too");
    let said = rig.run(&["push".as_ref(), "--json".as_ref()]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&json["whole"], &json["folders"][0]["problems"][0]["kind"]),
        (&false.into(), &"refused".into())
    );
    holds(&rig).await;

    let said = rig.run(&["push".as_ref(), "/not/of/the/config".as_ref()]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    fs::remove_file(rig.folder.join("back\\slash")).unwrap();
    assert_eq!(rig.push().await.code, Some(0), "the problem went with its file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_fails_where_the_server_is_down_or_the_folder_is_gone() {
    let site = Arc::new(Site::standin().await);
    let standin = site.as_standin().unwrap();
    let rig = Rig::new(&site, "");
    rig.write("a", "1");
    standin.go_down().await;
    let said = rig.push().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("refused") || said.err.contains("refused"), "{said:?}");
    standin.come_up();
    assert_eq!(rig.push().await.code, Some(0));
    fs::rename(&rig.folder, rig.dir().join("away")).unwrap();
    let said = rig.push().await;
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_does_not_wait_once_more_for_what_has_been_quiet_for_long() {
    const QUIET: Duration = Duration::from_secs(6);
    let site = Arc::new(Site::standin().await);
    let rig = Rig::new(&site, &format!("settle.quiet = \"{QUIET:?}\""));
    rig.write("old", "1");
    // The quiet time itself, and what the file's clock may lag behind.
    tokio::time::sleep(QUIET + Duration::from_millis(200)).await;
    let start = Instant::now();
    assert_eq!(rig.push().await.code, Some(0));
    assert!(start.elapsed() < QUIET, "{:?}", start.elapsed());
    rig.write("new", "2");
    let start = Instant::now();
    assert_eq!(rig.push().await.code, Some(0));
    assert!(
        start.elapsed() >= QUIET,
        "a file that may be in the making was taken after {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_beside_the_service_is_refused() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    rig.write("a", "1");
    rig.start();
    rig.assert_all_holds().await;
    let said = rig.push().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("another oxen-sync uses the state directory"), "{said:?}");
    rig.stop().await;
}

async fn folders_of_one_new_repository_make_it_once(site: &Arc<Site>) {
    let rig = Rig::new(site, "remote_dir = \"0\"");
    rig.write("file", "0");
    let mut text = rig.config_text().replace("remote_dir = \"\"\n", "");
    for number in 1..6 {
        let folder = rig.dir().join(number.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), number.to_string()).unwrap();
        let other = rig.folder_text(&folder, &rig.repo, &format!("remote_dir = \"{number}\""));
        text += &other.replace("remote_dir = \"\"\n", "");
    }
    rig.write_config(&text);
    let said = rig.push().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.err.matches("repository made").count(), 1, "{said:?}");
    let wanted: Vec<_> = (0..6).map(|number| (format!("{number}/file"), number.to_string())).collect();
    assert_eq!(site.files(&rig.repo).await, wanted);
}

async fn two_daemons_push_to_one_branch(site: &Arc<Site>) {
    let mut first = Rig::new(site, "on_delete = \"mirror\"");
    let repo = first.repo.to_string();
    let mut second = Rig::of(site, &repo, "main", "", "on_delete = \"mirror\"");
    first.start();
    second.start();
    for round in 0..12 {
        for (name, rig) in [("first", &first), ("second", &second)] {
            rig.write(&format!("of the {name}/{round}/file"), format!("{name} {round}"));
            rig.write(&format!("{name}.log"), format!("{name} {round}"));
            rig.write(&format!("shared directory/{name} {round}"), format!("{name} {round}"));
            if round % 3 == 2 {
                fs::remove_file(rig.folder.join(format!("shared directory/{name} {}", round - 1))).unwrap();
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    let mut wanted = first.wanted();
    wanted.extend(second.wanted());
    let oracle = first.oracle();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let different = match oracle.head().await {
            Some(head) => differences(&wanted, &oracle.tree(&head).await, true),
            None => Some("no branch".to_owned()),
        };
        let Some(different) = different else { break };
        assert!(tokio::time::Instant::now() < deadline, "{different}\n{}\n{}", first.log(), second.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    first.assert_idle().await;
    second.assert_idle().await;
    let head = oracle.head().await.unwrap();
    assert_eq!(differences(&wanted, &oracle.tree(&head).await, true), None, "it stays so");
    oracle.assert_no_workspaces().await;
    first.stop().await;
    second.stop().await;
}
