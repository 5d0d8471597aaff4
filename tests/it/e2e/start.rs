//! A first config, and a look at everything that may matter.

use std::fs;
use std::sync::Arc;

use serde_json::Value;

use super::on_both;
use crate::support::means::{leave_out, tool};
use crate::support::rig::{Rig, Said};
use crate::support::site::Site;

on_both! { a_first_config_is_written_and_works }

async fn said(rig: &Rig, args: &[&str]) -> Said {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
    rig.run(&args).await
}

/// With `--config` already given by the rig, all else comes from flags.
async fn init(rig: &Rig, more: &[&str]) -> Said {
    let (url, folder) = (rig.site.url.clone(), rig.folder.to_str().unwrap().to_owned());
    let all = ["init", "--yes", "--url", &url, "--folder", &folder, "--repo", "e2e/init-first"];
    said(rig, &[&all[..], more].concat()).await
}

async fn a_first_config_is_written_and_works(site: &Arc<Site>) {
    let rig = Rig::new(site, "");
    let before = rig.config_text();
    let refused = init(&rig, &[]).await;
    assert!(refused.code == Some(2) && refused.err.contains("is there already"), "{refused:?}");
    assert_eq!(rig.config_text(), before);
    fs::remove_file(&rig.config).unwrap();
    for (args, expected) in [
        (vec!["--remote-dir", ".oxen/x"], "Oxen"),
        (vec!["--email", "nobody"], "it is no mail address"),
        (vec!["--url", "http://localhost:1"], "refused"),
    ] {
        let args: Vec<_> = args.into_iter().collect();
        let refused = if args[0] == "--url" {
            let folder = rig.folder.to_str().unwrap();
            said(&rig, &[&["init", "--yes", "--folder", folder, "--repo", "e2e/other"], &args[..]].concat())
                .await
        } else {
            init(&rig, &args).await
        };
        assert!(refused.code == Some(2) && refused.err.contains(expected), "{args:?}: {refused:?}");
        assert!(!rig.config.exists(), "nothing is written");
    }
    rig.write("run 1/a", "1");
    let written = init(&rig, &["--remote-dir", "camera"]).await;
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(
        written.out.contains("oxen-sync check --config ") && written.out.contains("oxen-sync run --config "),
        "{written:?}"
    );
    assert_eq!(said(&rig, &["check"]).await.code, Some(0));
    let pushed = said(&rig, &["push"]).await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let repo = "e2e/init-first".parse().unwrap();
    assert_eq!(site.files(&repo).await, [("camera/run 1/a".to_owned(), "1".to_owned())]);
    let text = rig.config_text();
    let again = init(&rig, &["--force", "--branch", "rig-7", "--from", "main"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let kept = rig.config.with_extension("toml.before");
    assert_eq!(fs::read_to_string(kept).unwrap(), text, "the old one is kept");
    assert!(rig.config_text().contains("create_branch_from = \"main\""), "{}", rig.config_text());
    assert_eq!(said(&rig, &["push"]).await.code, Some(0));
}

/// Each level of a finding, by what it is about.
async fn findings(rig: &Rig) -> Vec<(String, String, String)> {
    let said = said(rig, &["doctor", "--json"]).await;
    let json: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let list = json["findings"].as_array().unwrap().iter();
    list.map(|finding| (text(finding, "what"), text(finding, "level"), text(finding, "detail"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_looks_at_machine_clock_state_and_service() {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "");
    rig.left_out.push("bad\\name".into());
    rig.write("bad\\name", "1");
    let all = findings(&rig).await;
    let has = |all: &[(String, String, String)], what: &str, level: &str, detail: &str| {
        let found = all.iter().any(|(its, l, d)| its.contains(what) && l == level && d.contains(detail));
        assert!(found, "{what} {level} {detail} is not in {all:#?}");
    };
    has(&all, "versions", "ok", "oxen-sync 0.");
    has(&all, "filesystem of", "ok", "whose changes the kernel tells");
    has(&all, "server", "ok", "is the version that oxen-sync is tried with");
    has(&all, "server", "ok", "its clock and ours agree");
    has(&all, "space", "ok", "are free for the state");
    has(&all, "state", "ok", "there is none yet");
    has(&all, "service", "ok", "none is running");
    rig.start();
    rig.settled().await;
    rig.until_status("it has failed", |report| report.folders[0].failed == 1).await;
    assert_eq!(said(&rig, &["pause"]).await.code, Some(0));
    let all = findings(&rig).await;
    has(&all, "service", "ok", "is running, process ");
    has(&all, "folder", "warning", "is paused");
    has(&all, "state", "ok", "the database is well");
    assert_eq!(said(&rig, &["resume"]).await.code, Some(0));
    rig.until_status("it goes on", |report| !report.folders[0].paused).await;
    has(&findings(&rig).await, "folder", "warning", "1 files could not be pushed");
    rig.stop().await;
    if let Err(why) = tool(&["faketime", "-f", "-3d", "true"]) {
        return leave_out(&format!("a clock that is wrong: {why}"));
    }
    rig.set_wrapper(&["faketime", "-f", "-3d"]);
    has(&findings(&rig).await, "server", "warning", "s ahead of ours");
}
