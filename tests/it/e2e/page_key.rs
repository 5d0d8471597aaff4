//! The page with a key: whoever shows it steers the service, and nobody else does.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use oxen_sync::status::FolderState;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::page::{client, free_address, get};
use crate::support::browser::{Browser, keep_picture};
use crate::support::rig::Rig;
use crate::support::site::Site;

const KEY: &str = "8f3c5a1b77e04d2cb6a90e5f";

async fn rig_with_key() -> (Arc<Site>, Rig, SocketAddr) {
    let site = Arc::new(Site::standin().await);
    let mut rig = Rig::new(&site, "on_delete = \"mirror\"");
    let (listen, file) = (free_address(), rig.dir().join("page-key"));
    fs::write(&file, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let page = format!("[page]\nlisten = \"{listen}\"\nkey_file = {file:?}\n\n[author]");
    rig.write_config(&rig.config_text().replacen("[author]", &page, 1));
    for n in 0..12 {
        rig.write(&format!("run/{n}"), n.to_string());
    }
    rig.start();
    rig.settled().await;
    rig.assert_idle().await;
    (site, rig, listen)
}

async fn post(listen: SocketAddr, path: &str, key: Option<&str>) -> (StatusCode, Value) {
    let mut request = client().post(format!("http://{listen}{path}")).json(&json!({}));
    if let Some(key) = key {
        request = request.header("authorization", key);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_shows_the_key_steers() {
    let (_site, mut rig, listen) = rig_with_key().await;
    let has_key: Value = get(listen, "/api/steer").await.json().await.unwrap();
    assert_eq!(has_key, json!({ "key": true }));
    let wrong =
        [None, Some("Bearer "), Some("Bearer 8f3c5a1b77e04d2cb6a90e5"), Some(KEY), Some("Basic OGY=")];
    for key in wrong {
        for path in ["pause", "resume", "flush", "release", "retry", "rescan", "reload", "verify"] {
            let (status, said) = post(listen, &format!("/api/steer/{path}"), key).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} with {key:?}");
            assert!(said["error"].as_str().is_some_and(|error| !error.contains(KEY)), "{said}");
        }
    }
    for path in ["failed", "log", "why?path=/", "flush/1", "key"] {
        assert_eq!(
            get(listen, &format!("/api/steer/{path}")).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    // With the key, but for the page of another site, which a browser names as its host.
    let foreign = client().post(format!("http://{listen}/api/steer/pause")).header("host", "evil.example");
    let foreign = foreign.bearer_auth(KEY).json(&json!({})).send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(rig.folder_status().await.state, FolderState::Watching, "nothing was done");

    let key = format!("Bearer {KEY}");
    assert_eq!(post(listen, "/api/steer/pause", Some(&key)).await.0, StatusCode::OK);
    rig.until_status("it is paused", |report| report.folders[0].state == FolderState::Paused).await;
    assert_eq!(post(listen, "/api/steer/resume", Some(&key)).await.0, StatusCode::OK);
    rig.until_status("it goes on", |report| report.folders[0].state == FolderState::Watching).await;

    // The key is the one that stands in the file by then, if that is one.
    let file = rig.dir().join("page-key");
    fs::write(&file, "another0123456789").unwrap();
    assert_eq!(post(listen, "/api/steer/pause", Some(&key)).await.0, StatusCode::UNAUTHORIZED);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (status, said) = post(listen, "/api/steer/pause", Some("Bearer another0123456789")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said["error"].as_str().unwrap().contains("chmod 600"), "{said}");
    for secret in [KEY, "another0123456789"] {
        assert!(!rig.log().contains(secret), "the key stands in the log");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_there_is_nothing_to_steer_with() {
    let (_site, mut rig, listen) = rig_with_key().await;
    let text = rig.config_text();
    let without: String =
        text.lines().filter(|line| !line.starts_with("key_file")).map(|line| format!("{line}\n")).collect();
    rig.write_config(&without);
    let key = format!("Bearer {KEY}");
    let mut refused = StatusCode::OK;
    while refused != StatusCode::NOT_FOUND {
        assert_ne!(refused, StatusCode::UNAUTHORIZED);
        // The page is away for a moment while it is made anew.
        let request =
            client().post(format!("http://{listen}/api/steer/rescan")).header("authorization", &key);
        if let Ok(answer) = request.json(&json!({})).send().await {
            refused = answer.status();
        }
    }
    let has_key: Value = get(listen, "/api/steer").await.json().await.unwrap();
    assert_eq!(has_key, json!({ "key": false }));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_steers_once_it_has_the_key() {
    let Some(browser) = Browser::start().await else { return };
    let (_site, mut rig, listen) = rig_with_key().await;
    browser.open(&format!("http://{listen}/")).await;
    let has = |text: &str| format!("document.body.innerText.includes({})", json!(text));
    let shown = |name: &str| {
        format!(
            "[...document.querySelectorAll('.actions button')].find((one) => one.checkVisibility() && one.textContent === {})",
            json!(name)
        )
    };
    browser.until(&has("Every finished file is on its branch")).await;
    browser.until("document.getElementById('lock').checkVisibility()").await;
    assert_eq!(
        browser.value(&format!("!{}", shown("Push now"))).await,
        json!(true),
        "nothing to press without the key"
    );

    let unlock = |key: &str| {
        format!(
            "(document.getElementById('key').value = {}, document.querySelector('#key-form button').click())",
            json!(key)
        )
    };
    browser.value("document.getElementById('lock').click()").await;
    browser.value(&unlock("a wrong key of some length")).await;
    browser.until(&has("This is not the page's key")).await;
    browser.show_as(390, "light").await;
    keep_picture("key-390-light", &browser.picture().await);
    browser.value(&unlock(KEY)).await;
    browser.until(&format!("!!{}", shown("Pause 1 h"))).await;

    browser.value(&format!("{}.click()", shown("Pause 1 h"))).await;
    rig.until_status("it is paused", |report| report.folders[0].paused_until.is_some()).await;
    rig.write("run/13", "13");
    browser.until(&format!("!!{}", shown("Resume"))).await;
    browser.value(&format!("{}.click()", shown("Resume"))).await;
    rig.settled().await;
    browser.value(&format!("{}.click()", shown("Push now"))).await;
    browser.until(&has("Everything that was there is on the branch, commit ")).await;

    fs::remove_dir_all(rig.folder.join("run")).unwrap();
    browser.until(&format!("!!{}", shown("Let removals go"))).await;
    for (width, scheme) in [(360, "dark"), (1280, "light"), (1280, "dark")] {
        browser.show_as(width, scheme).await;
        let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(widths, json!([width, width]), "nothing is scrolled sideways");
        assert_eq!(browser.faint().await, [""; 0], "{scheme}, {width}: too little contrast");
        keep_picture(&format!("steer-{width}-{scheme}"), &browser.picture().await);
    }
    browser.value("window.confirm = () => true").await;
    browser.value(&format!("{}.click()", shown("Let removals go"))).await;
    browser.until(&has("13 removals let go")).await;
    rig.until_status("they have gone", |report| report.folders[0].files == 0).await;

    // It is asked for again in a new tab, and not in this one.
    browser.open(&format!("http://{listen}/")).await;
    browser.until(&format!("!!{}", shown("Push now"))).await;
    browser.value("document.getElementById('lock').click()").await;
    browser.until(&format!("!{}", shown("Push now"))).await;
    // The refusal of the wrong key is the browser's own complaint.
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|complaint| complaint.contains("401")), "{complaints:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_looks_at_the_page_and_its_key() {
    let (_site, mut rig, listen) = rig_with_key().await;
    let check = async |rig: &Rig| rig.run(&["check".as_ref()]).await;
    let said = check(&rig).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains(&format!("page: http://{listen}/ is served by the running service")),
        "{said:?}"
    );
    rig.stop().await;
    let said = check(&rig).await;
    assert!(said.out.contains(&format!("page: http://{listen}/ can be served")), "{said:?}");
    let taken = std::net::TcpListener::bind(listen).unwrap();
    let said = check(&rig).await;
    assert!(said.code == Some(0) && said.out.contains("page: another program has"), "{said:?}");
    drop(taken);
    fs::write(rig.dir().join("page-key"), "short").unwrap();
    let said = check(&rig).await;
    assert!(said.code == Some(1) && said.out.contains("page: cannot take the key of the page"), "{said:?}");
}
