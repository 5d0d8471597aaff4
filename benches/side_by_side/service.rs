//! The service as a process, and what the kernel knows of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oxen_sync::status::{FolderReport, FolderState, Report, socket};

use crate::contest::{Bench, Result, oxen_sync};

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// The service, from its start until it is dropped.
pub(crate) struct Service {
    process: Child,
    notify: UnixDatagram,
    state_dir: PathBuf,
    pub(crate) start: Instant,
}

impl Service {
    pub(crate) fn start(bench: &mut Bench, config: &Path) -> Result<Self> {
        let at = bench.place("notify");
        let notify = UnixDatagram::bind(&at)?;
        notify.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        let process = Command::new(oxen_sync())
            .args(["run", "--config"])
            .arg(config)
            .env("NOTIFY_SOCKET", at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(config.with_extension("log"))?)
            .spawn()?;
        let state_dir = config.parent().ok_or("a config lies in a directory")?.join("state");
        Ok(Self { process, notify, state_dir, start })
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(&self) -> Result<()> {
        let mut said = [0; 4096];
        loop {
            let len = self.notify.recv(&mut said)?;
            if said[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }

    /// What it says of itself; `None` where it does not speak yet.
    pub(crate) fn report(&self, bench: &Bench) -> Result<Option<Report>> {
        Ok(bench.runtime.block_on(socket::fetch(&self.state_dir))?)
    }

    /// Waits until it has looked at everything and nothing waits; returns the report.
    pub(crate) fn idle(&self, bench: &Bench) -> Result<Report> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(report) = self.report(bench)? {
                let idle = |folder: &FolderReport| {
                    folder.state == FolderState::Watching && folder.waiting == 0 && !folder.waiting_more
                };
                if !report.folders.is_empty() && report.folders.iter().all(idle) {
                    return Ok(report);
                }
            }
            // One that has ended stays a zombie until it is waited for.
            if self.proc("stat")?.contains(") Z ") {
                return Err("the service has ended".into());
            }
            bench.pause(Duration::from_millis(200));
        }
        Err("it does not come to rest".into())
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id()))?)
    }

    /// A number of its status as the kernel has it; memory is in KiB.
    pub(crate) fn number(&self, key: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with(key)).ok_or("the kernel does not say it")?;
        Ok(line.split_whitespace().nth(1).ok_or("there is no number")?.parse()?)
    }

    /// In MiB.
    pub(crate) fn memory(&self, key: &str) -> Result<f64> {
        Ok(self.number(key)? as f64 / 1024.0)
    }

    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// Processor time of each of its threads, and how often that was woken.
    pub(crate) fn work(&self) -> Result<BTreeMap<OsString, (Duration, u64)>> {
        let mut work = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let (name, task) = task.map(|task| (task.file_name(), task.path()))?;
            let sched = std::fs::read_to_string(task.join("schedstat"))?;
            let on_cpu_ns = sched.split_whitespace().next().ok_or("there is no number")?.parse::<u64>()?;
            let status = std::fs::read_to_string(task.join("status"))?;
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
            let woken = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("0").parse::<u64>()?;
            work.insert(name, (Duration::from_nanos(on_cpu_ns), woken));
        }
        Ok(work)
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.work()?.values().map(|(on_cpu, _)| *on_cpu).sum())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
