//! A headless Chromium, steered by the W3C's WebDriver protocol.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::means::{leave_out, tool};
use super::process::Process;

const DRIVER: &str = "chromedriver";
/// The longest that anything is waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A browser with a profile of its own, which ends with this.
pub(crate) struct Browser {
    http: reqwest::Client,
    session: String,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None` where there is none, which is said.
    pub(crate) async fn start() -> Option<Self> {
        for program in [DRIVER, "chromium"] {
            if let Err(why) = tool(&[program, "--version"]) {
                leave_out(&format!("no browser can be had (Debian: chromium-driver): {why}"));
                return None;
            }
        }
        let profile = TempDir::with_prefix("oxen-sync-browser-").expect("files can be made");
        let mut command = Command::new(DRIVER);
        // A home of its own too: what the browser keeps outside of its profile goes with it.
        command.arg("--port=0").env("HOME", profile.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = Process::spawn(command);
        let said = BufReader::new(driver.child.stdout.take().expect("it is a pipe"));
        let port = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                line.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("the driver says its port");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().no_proxy().timeout(WAIT_MAX).build().expect("the options are fine");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", path_text(profile.path())));
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let driver_url = format!("http://127.0.0.1:{port}/session");
        let answer = http.post(&driver_url).json(&wanted).send().await.expect("the driver answers");
        let answer: Value = answer.json().await.expect("it is JSON");
        let id =
            answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no browser starts: {answer}"));
        Some(Self { http, session: format!("{driver_url}/{id}"), _driver: driver, _profile: profile })
    }

    async fn ask(&self, what: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}/{what}", self.session)).json(&body).send().await;
        let answer: Value = answer.expect("the driver answers").json().await.expect("it is JSON");
        assert!(answer["value"]["error"].is_null(), "{what}: {answer}");
        answer["value"].clone()
    }

    async fn command(&self, command: &str, parameters: Value) -> Value {
        self.ask("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.ask("url", json!({"url": url})).await;
    }

    /// What an expression is on the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.ask("execute/sync", json!({"script": format!("return {expression}"), "args": []})).await
    }

    /// Waits until an expression is true on the page.
    ///
    /// # Panics
    /// After a minute, with what the page shows.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while self.value(expression).await != json!(true) {
            if Instant::now() >= deadline {
                let shown = self.value("document.body.innerText").await;
                panic!("waited in vain until {expression}:\n{}", shown.as_str().unwrap_or_default());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Makes the window so wide, as a phone's where it is narrow, and light or dark.
    pub(crate) async fn show_as(&self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.command("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// A picture of the whole page as PNG, in base 64.
    pub(crate) async fn picture(&self) -> String {
        let shot = json!({"format": "png", "captureBeyondViewport": true});
        let metrics = self.command("Page.getLayoutMetrics", json!({})).await;
        let size = &metrics["cssContentSize"];
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let mut shot = shot;
        shot["clip"] = clip;
        let picture = self.command("Page.captureScreenshot", shot).await;
        picture["data"].as_str().expect("it is text").to_owned()
    }

    /// Texts that are hard to read.
    pub(crate) async fn faint(&self) -> Vec<String> {
        serde_json::from_value(self.value(FAINT).await).expect("it is a list")
    }

    /// What the page complained of: scripts that failed, what its policy forbade.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let lines = self.ask("se/log", json!({"type": "browser"})).await;
        let lines = lines.as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Stores a picture where the environment asks for pictures (`OXEN_SYNC_PICTURES`), to be looked at.
pub(crate) fn keep_picture(name: &str, base64: &str) {
    let Some(dir) = std::env::var_os("OXEN_SYNC_PICTURES") else { return };
    fs::create_dir_all(&dir).expect("it can be made");
    let text = Path::new(&dir).join(format!("{name}.b64"));
    fs::write(&text, base64).expect("it can be written");
    let to = text.with_extension("png");
    let script = "base64 -d \"$0\" >\"$1\" && rm \"$0\"";
    tool(&["sh", "-c", script, &path_text(&text), &path_text(&to)]).expect("base64 is there");
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("it is UTF-8").to_owned()
}

/// Every element with text of its own whose contrast to what lies behind it is below 4.5 to 1 (WCAG 2.2, 1.4.3).
const FAINT: &str = r"(() => {
  const rgb = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.body.querySelectorAll('*')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || element.closest('[hidden], noscript, .unseen') || element.getClientRects().length === 0) continue;
    const style = getComputedStyle(element);
    const colour = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [one, other] = [light(colour), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faint.push(`${element.tagName}.${element.className}: ${contrast.toFixed(2)} ${element.textContent.slice(0, 40)}`);
  }
  return faint;
})()";
