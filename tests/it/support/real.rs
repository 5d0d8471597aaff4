//! The real oxen-server, found, started and stopped.
//!
//! Looked for, in this order: `$OXEN_SERVER`; the cache that `tests/get-oxen-server` fills; `PATH`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::standin::Port;

const VERSION: &str = "0.65.2";
/// The longest that a server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(60);

static SHARED: OnceCell<RealServer> = OnceCell::const_new();

/// The one server of this process, started by the first who asks. `None` only where the environment says to do
/// without.
///
/// # Panics
/// Without a server, with how to get one.
pub(crate) async fn shared() -> Option<&'static RealServer> {
    if std::env::var_os("OXEN_SYNC_WITHOUT_REAL_SERVER").is_some_and(|value| value == "1") {
        return None;
    }
    Some(SHARED.get_or_init(RealServer::start).await)
}

/// A running oxen-server with an empty data directory.
///
/// It ends with this process at the latest, however this ends: a shell that reads our pipe kills it and
/// deletes its data.
pub(crate) struct RealServer {
    port: Port,
    data: PathBuf,
    // The shell ends when its input is closed, so it lives as long as the server is wanted.
    shell: Mutex<Child>,
}

impl RealServer {
    /// Starts one of its own.
    pub(crate) async fn start() -> Self {
        let program = find().unwrap_or_else(|| {
            panic!(
                "no oxen-server {VERSION}: run tests/get-oxen-server, which builds it once, or set OXEN_SERVER; \
                 OXEN_SYNC_WITHOUT_REAL_SERVER=1 does without its tests"
            )
        });
        let server = Self::spawn(&program);
        if let Err(why) = server.answers().await {
            let said = std::fs::read_to_string(server.data.join("log")).unwrap_or_default();
            panic!("oxen-server does not start: {said}{why}");
        }
        server
    }

    /// Starts one that nobody else uses, to be killed and restored.
    pub(crate) async fn of_its_own() -> &'static Self {
        Box::leak(Box::new(Self::start().await))
    }

    fn spawn(program: &Path) -> Self {
        let data = TempDir::with_prefix_in("oxen-server-", env!("CARGO_TARGET_TMPDIR"))
            .expect("the target directory is writable")
            .keep();
        let port = Port::take().expect("the loopback has a free port");
        let shell = Mutex::new(run(program, &data, port.number()));
        Self { port, data, shell }
    }

    /// Kills it as it stands. Its data stays.
    pub(crate) fn kill(&self) {
        File::create(self.data.join("keep")).expect("the data directory is writable");
        let mut shell = self.shell.lock().expect("not poisoned");
        drop(shell.stdin.take());
        shell.wait().expect("it is our child");
    }

    /// Starts it again where it was, on the same data, and waits until it answers.
    pub(crate) async fn start_again(&self) {
        for left in ["keep", "ended"] {
            let _ = std::fs::remove_file(self.data.join(left));
        }
        let program = find().expect("it was found before");
        *self.shell.lock().expect("not poisoned") = run(&program, &self.data, self.port.number());
        self.answers().await.expect("it starts as it did before");
    }

    /// Copies its data while it does not run.
    pub(crate) fn back_up(&self, to: &Path) {
        copy(&self.data.join("data"), to);
    }

    /// Puts a copy of its data in place of its data while it does not run.
    pub(crate) fn restore(&self, from: &Path) {
        std::fs::remove_dir_all(self.data.join("data")).expect("it is ours");
        copy(from, &self.data.join("data"));
    }

    /// The address to give to a client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Gives two stored contents the same modification time, which the server compares.
    pub(crate) fn make_twins(&self, one: &[u8], other: &[u8]) {
        let modified = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for content in [one, other] {
            let hash = format!("{:x}", xxhash_rust::xxh3::xxh3_128(content));
            let tail = format!("{}/{}/data", &hash[..2], &hash[2..]);
            let stored = walkdir::WalkDir::new(&self.data)
                .into_iter()
                .filter_map(Result::ok)
                .find(|entry| entry.path().ends_with(&tail))
                .expect("the content is stored");
            let file = File::options().write(true).open(stored.path()).expect("it is a file of ours");
            file.set_modified(modified).expect("its time can be set");
        }
    }

    /// Waits until it answers.
    async fn answers(&self) -> Result<(), String> {
        let client = super::site::client(&self.url());
        let deadline = Instant::now() + START_MAX;
        loop {
            match client.health().await {
                Ok(_) => return Ok(()),
                Err(_) if self.data.join("ended").exists() => return Err("it ended".to_owned()),
                // It listens, and does not like us.
                Err(error) if error.code().is_some() || Instant::now() > deadline => {
                    return Err(error.to_string());
                }
                // Nothing tells when a server is ready but the server.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let mut shell = self.shell.lock().expect("not poisoned");
        drop(shell.stdin.take());
        let _ = shell.wait();
    }
}

/// Runs the server on `dir/data` until the input of the shell that is returned is closed; then all of `dir` goes,
/// unless a file `keep` is in it.
fn run(program: &Path, dir: &Path, port: u16) -> Child {
    let output = File::options().create(true).append(true).open(dir.join("log"));
    let output = output.expect("the data directory is writable");
    Command::new("sh")
        .arg("-c")
        // Ctrl-C reaches the server, too; the shell stays until it has cleaned up.
        .arg(
            "trap '' INT TERM; exec 3<&0; mkdir -p \"$DIR/data\"
            SYNC_DIR=\"$DIR/data\" \"$1\" start -i 127.0.0.1 -p \"$2\" <&- 3<&- & server=$!
            { cat <&3 >/dev/null; [ -e \"$DIR/ended\" ] || kill -KILL $server; } & watch=$!
            wait $server; : >\"$DIR/ended\"; wait $watch; [ -e \"$DIR/keep\" ] || rm -rf \"$DIR\"",
        )
        .args(["sh".as_ref(), program.as_os_str(), port.to_string().as_ref()])
        .env("DIR", dir)
        .env("HOME", dir)
        .stdin(Stdio::piped())
        .stdout(output.try_clone().expect("a file can be cloned"))
        .stderr(output)
        .spawn()
        .expect("there is a shell")
}

/// Copies a directory with all that makes it the same: times, too.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("there is a cp");
    assert!(copied.success(), "the data can be copied");
}

fn find() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("OXEN_SERVER") {
        return Some(PathBuf::from(program));
    }
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = from("OXEN_SYNC_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("oxen-sync")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/oxen-sync")));
    let cached = cache.map(|cache| cache.join(format!("oxen-server-{VERSION}/bin/oxen-server")));
    cached.filter(|program| program.exists()).or_else(in_path)
}

/// A server of `PATH` counts only in the version that the tests are written for.
fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("oxen-server")).find(|program| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == VERSION)
        })
    })
}
