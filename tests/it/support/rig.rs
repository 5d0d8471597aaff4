//! The real program on a folder of its own, before a server: started, stopped, killed and asked.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use oxen_sync::control::Client;
use oxen_sync::oxen::{BranchName, RepoName};
use oxen_sync::path::{Layout, Place};
use oxen_sync::status::{FolderReport, FolderState, Report, socket};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::ledger::Ledger;
use super::oracle::Oracle;
use super::process::Process;
use super::schema::check_report;
use super::site::{Site, branch};
use super::tree::{Tree, differences, folder_tree, on_branch};

/// The longest that anything is waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often what tells nobody is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of the log that a failure shows.
const LOG_SHOWN: usize = 120;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A folder, a config, a state directory, a repository nobody else has, and the program.
pub(crate) struct Rig {
    pub(crate) site: Arc<Site>,
    pub(crate) repo: RepoName,
    pub(crate) branch: BranchName,
    /// Where the folder stands on the branch.
    pub(crate) remote_dir: String,
    /// The same for its files, where no time has a part in it.
    pub(crate) place: Place,
    pub(crate) folder: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// Whether nothing but the folder's files may be on the branch.
    pub(crate) is_mirror: bool,
    pub(crate) ledger: Arc<Ledger>,
    /// Relative paths that the program is right to leave out, besides `*.tmp`.
    pub(crate) left_out: Vec<Vec<u8>>,
    /// The longest that anything is waited for.
    pub(crate) patience: Duration,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    service: Option<Process>,
    dir: TempDir,
}

/// Where files stand for a remote directory and the further keys of a folder.
fn place(remote_dir: &str, keys: &str) -> Place {
    let below = keys.lines().find_map(|line| line.strip_prefix("remote_path = \"")).unwrap_or("{path}\"");
    let layout = Layout::in_dir(remote_dir).and_then(|layout| layout.with_path(below.trim_end_matches('"')));
    layout.expect("a good layout").place_at(0, &TimeZone::UTC)
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Rig {
    /// A rig whose `[[folder]]` has these further keys, one a line.
    pub(crate) fn new(site: &Arc<Site>, keys: &str) -> Self {
        let repo = format!("e2e/run-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self::of(site, &repo, "main", "", keys)
    }

    /// A rig that runs, with these files on the branch and nothing left to do.
    pub(crate) async fn at_rest(site: &Arc<Site>, keys: &str, files: &[(&str, &str)]) -> Self {
        let mut rig = Self::new(site, keys);
        files.iter().for_each(|(path, content)| rig.write(path, content));
        rig.start();
        rig.settled().await;
        rig.assert_idle().await;
        rig
    }

    /// A rig for this repository, branch and remote directory.
    pub(crate) fn of(site: &Arc<Site>, repo: &str, to: &str, remote_dir: &str, keys: &str) -> Self {
        let dir =
            TempDir::with_prefix("oxen-sync-rig-").expect("the directory of temporary files is writable");
        Self::within(dir, site, repo, to, remote_dir, keys)
    }

    /// The same with everything in `dir`.
    pub(crate) fn within(
        dir: TempDir,
        site: &Arc<Site>,
        repo: &str,
        to: &str,
        remote_dir: &str,
        keys: &str,
    ) -> Self {
        let rig = Self {
            site: Arc::clone(site),
            repo: repo.parse().expect("a good name"),
            branch: branch(to),
            remote_dir: remote_dir.to_owned(),
            place: place(remote_dir, keys),
            folder: dir.path().join("folder"),
            config: dir.path().join("etc/oxen-sync.toml"),
            state_dir: dir.path().join("state"),
            is_mirror: keys.contains("\"mirror\""),
            ledger: Arc::default(),
            left_out: Vec::new(),
            patience: WAIT_MAX,
            env: Vec::new(),
            wrapper: Vec::new(),
            service: None,
            dir,
        };
        fs::create_dir_all(&rig.folder).expect("it is ours");
        fs::create_dir_all(rig.dir.path().join("etc")).expect("it is ours");
        fs::create_dir_all(rig.dir.path().join("home")).expect("it is ours");
        let folder = rig.folder_text(&rig.folder, &rig.repo, keys);
        rig.write_config(&(rig.head_text() + &folder));
        rig
    }

    /// Everything in the config before its folders.
    pub(crate) fn head_text(&self) -> String {
        format!(
            "state_dir = {:?}\n\n[server]\nurl = {:?}\nconnect_timeout = \"2s\"\n\n[author]\nname = \"rig-07\"\nemail = \
             \"rig-07@lab.example\"\n\n[defaults]\nsettle.quiet = \"100ms\"\nbatch.quiet = \"100ms\"\n\
             batch.max_wait = \"2s\"\n",
            self.state_dir, self.site.url
        )
    }

    /// A `[[folder]]` of the config.
    pub(crate) fn folder_text(&self, path: &Path, repo: &RepoName, keys: &str) -> String {
        format!(
            "\n[[folder]]\npath = {path:?}\nrepo = \"{repo}\"\nbranch = \"{}\"\nremote_dir = {:?}\n{keys}\n",
            self.branch.as_str(),
            self.remote_dir
        )
    }

    pub(crate) fn config_text(&self) -> String {
        fs::read_to_string(&self.config).expect("the config is there")
    }

    /// Writes the config in place.
    pub(crate) fn write_config(&self, text: &str) {
        fs::write(&self.config, text).expect("the config can be written");
    }

    /// Takes a variable back.
    pub(crate) fn unset_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// A directory for whatever else a test needs, outside of the folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A variable for every program started from here on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Has batches set out as soon as anything is there for them, and not only when much is.
    pub(crate) fn set_out_early(&mut self) {
        self.set_env("OXEN_SYNC_EARLY_MIN", "1");
    }

    /// A command that every program started from here on is started by; it must become the program (`exec`).
    pub(crate) fn set_wrapper<S: AsRef<str>>(&mut self, wrapper: &[S]) {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().to_owned()).collect();
    }

    /// Writes a finished file, and notes that in the ledger.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let file = self.folder.join(path);
        fs::create_dir_all(file.parent().expect("it lies in the folder")).expect("the folder can be written");
        self.ledger.finished(&self.on_branch(path), content.as_ref());
        fs::write(file, content).expect("the folder can be written");
    }

    /// Where a file of the folder stands on the branch.
    pub(crate) fn on_branch(&self, path: &str) -> String {
        on_branch(&self.place, path)
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_oxen-sync");
        let mut words = self.wrapper.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("HOME", self.dir.path().join("home")).current_dir(self.dir.path());
        command
    }

    /// Starts the service; returns at once.
    pub(crate) fn start(&mut self) {
        assert!(self.service.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("it is ours");
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(log);
        self.service = Some(Process::spawn(command));
    }

    /// The service's process.
    pub(crate) fn pid(&self) -> Pid {
        self.service.as_ref().expect("it runs").pid
    }

    /// The most memory that the running service ever had.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        self.kib("VmHWM:")
    }

    /// The memory that the service has by now.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.kib("VmRSS:")
    }

    fn kib(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero()));
        let status = status.expect("the service runs");
        let line = status.lines().find(|line| line.starts_with(key)).expect("the kernel says it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// Where it ends with anything but 0, or not in time.
    pub(crate) async fn stop(&mut self) {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "a stop ends with 0: {status}");
    }

    /// Stops, starts and waits until all is quiet: nothing may come of that.
    ///
    /// # Panics
    /// Where something is committed that was committed before.
    pub(crate) async fn assert_a_restart_changes_nothing(&mut self) {
        let head = self.oracle().head().await;
        self.stop().await;
        self.start();
        self.assert_idle().await;
        assert_eq!(self.oracle().head().await, head, "a restart commits what is committed\n{}", self.log());
        self.stop().await;
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.service.take().expect("it runs"));
    }

    /// Waits until the service ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.service.take().expect("it runs").ended(self.patience).await
    }

    /// Waits until the branch holds what the folder holds and the service has nothing more to do, or has ended by itself:
    /// then how.
    pub(crate) async fn settled_or_ended(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + self.patience;
        loop {
            let process = self.service.as_mut().expect("it was started");
            if let Some(status) = process.child.try_wait().expect("it is our child") {
                self.service = None;
                return Some(status);
            }
            // One that ends while it reports is looked at again.
            if let Ok(Some(report)) = socket::fetch(&self.state_dir).await
                && is_idle(&report)
                && let Some(head) = self.oracle().head().await
                && differences(&self.wanted(), &self.oracle().tree(&head).await, self.is_mirror).is_none()
            {
                return None;
            }
            assert!(Instant::now() < deadline, "it neither comes to rest nor ends\n{}", self.log());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Runs a command of the program to its end; `--config` comes by itself.
    pub(crate) async fn run(&self, args: &[&OsStr]) -> Said {
        let scratch = TempDir::new_in(self.dir.path()).expect("it is ours");
        let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
        let mut command = self.command();
        command.env("OXEN_SYNC_CONFIG", &self.config).args(args);
        command
            .stdout(File::create(&out).expect("it is ours"))
            .stderr(File::create(&err).expect("it is ours"));
        let status = Process::spawn(command).ended(self.patience).await;
        let read = |path| String::from_utf8_lossy(&fs::read(path).expect("it is there")).into_owned();
        Said { code: status.code(), out: read(out), err: read(err) }
    }

    /// One shot: `push`.
    pub(crate) async fn push(&self) -> Said {
        self.run(&["push".as_ref()]).await
    }

    /// What the running service says of itself; `None` where none runs, or not yet.
    ///
    /// # Panics
    /// Where it is not as its schema says.
    pub(crate) async fn status(&self) -> Option<Report> {
        let client =
            Client::connect(&socket::path(&self.state_dir)).await.expect("the service lets us in")?;
        let report: Value = client.get("/status").await.expect("the service reports");
        check_report(&report).unwrap_or_else(|wrong| panic!("{wrong}: {report:#}"));
        Some(serde_json::from_value(report).expect("it is a report"))
    }

    /// The first folder of the running service's report.
    pub(crate) async fn folder_status(&self) -> FolderReport {
        let report = self.status().await.expect("the service runs");
        report.folders.into_iter().next().expect("there is a folder")
    }

    /// Waits until the report of the running service is as wanted, and returns it.
    ///
    /// # Panics
    /// After a minute, with the last report.
    pub(crate) async fn until_status(&self, what: &str, done: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + self.patience;
        loop {
            let report = self.status().await;
            if let Some(report) = &report
                && done(report)
            {
                return report.clone();
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {report:#?}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the program says `answer` of a file of the folder.
    ///
    /// # Panics
    /// After a minute, with what it says.
    pub(crate) async fn until_why(&self, path: &str, answer: &str) -> Said {
        let deadline = Instant::now() + self.patience;
        loop {
            let why = self.run(&["why".as_ref(), self.folder.join(path).as_os_str()]).await;
            if why.out.contains(answer) {
                return why;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain until it says \"{answer}\" of {path}: {why:?}"
            );
        }
    }

    /// Waits until `done` holds.
    ///
    /// # Panics
    /// After a minute, with `what`.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + self.patience;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Who compares.
    pub(crate) fn oracle(&self) -> Oracle<'_> {
        Oracle { site: &self.site, repo: &self.repo, branch: &self.branch }
    }

    /// What the folder holds that belongs on the branch.
    pub(crate) fn wanted(&self) -> Tree {
        folder_tree(&self.folder, &self.place, |path| {
            path.ends_with(b".tmp") || self.left_out.iter().any(|left_out| left_out == path)
        })
    }

    /// Cuts every wait short.
    pub(crate) fn kick(&self) {
        kill_process(self.pid(), Signal::HUP).expect("it runs");
    }

    /// Waits until the branch holds what the folder holds. Nobody may change the folder meanwhile.
    ///
    /// # Panics
    /// After a minute, with what differs.
    pub(crate) async fn settled(&self) -> Tree {
        self.settled_but(&[]).await
    }

    /// The same for all but some paths, which others have written to.
    pub(crate) async fn settled_but(&self, others: &[&str]) -> Tree {
        let mut wanted = self.wanted();
        wanted.retain(|path, _| !others.contains(&path.as_str()));
        let oracle = self.oracle();
        let (mut seen, mut different) = (None, Some("there is no such branch".to_owned()));
        let mut deadline = Instant::now() + self.patience;
        loop {
            let head = oracle.head().await;
            if head != seen
                && let Some(head) = &head
            {
                let looked_from = Instant::now();
                different = differences(&wanted, &oracle.tree(head).await, self.is_mirror);
                // The look at a large tree is not the program's time.
                deadline += looked_from.elapsed();
            }
            seen = head;
            let Some(different) = &different else { return wanted };
            assert!(Instant::now() < deadline, "the branch does not become what the folder is: {different}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all is quiet, then holds everything against the oracle. Returns how many commits there are.
    ///
    /// # Panics
    /// With what does not hold.
    pub(crate) async fn assert_all_holds(&self) -> usize {
        self.settled().await;
        self.assert_idle().await;
        let wanted = self.settled().await;
        let oracle = self.oracle();
        oracle.assert_bytes(&self.folder, &self.place, &wanted).await;
        oracle.assert_no_workspaces().await;
        oracle.assert_history(&self.ledger).await
    }

    /// Waits until the service says that it has nothing to do.
    pub(crate) async fn assert_idle(&self) {
        self.until_status("nothing waits", is_idle).await;
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// All that the service logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }
}

/// Holds every test to this: no part of the service ends by a panic, not even where it is begun anew.
impl Drop for Rig {
    fn drop(&mut self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        if std::thread::panicking() {
            let shown = lines.get(lines.len().saturating_sub(LOG_SHOWN)..).unwrap_or_default();
            eprintln!("--- the end of the service's log\n{}\n---", shown.join("\n"));
        } else if let Some(at) = lines.iter().position(|line| line.contains("panicked at")) {
            let shown = &lines[at..lines.len().min(at + LOG_SHOWN)];
            panic!("the service panicked:\n{}", shown.join("\n"));
        }
    }
}

fn is_idle(report: &Report) -> bool {
    !report.folders.is_empty()
        && report.folders.iter().all(|folder| {
            folder.state == FolderState::Watching && folder.waiting == 0 && !folder.waiting_more
        })
}
