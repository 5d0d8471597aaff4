use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oxen_sync::status::socket;

use super::config;
use super::scan::{MANY, many};
use crate::contest::{Bench, Contender, Result, Sample, median, oxen_sync};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// The service, from its start until it is dropped.
struct Service {
    process: Child,
    notify: UnixDatagram,
    state_dir: PathBuf,
    start: Instant,
}

impl Service {
    fn start(bench: &mut Bench, config: &Path) -> Result<Self> {
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
    fn ready(&self) -> Result<()> {
        let mut said = [0; 4096];
        loop {
            let len = self.notify.recv(&mut said)?;
            if said[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }

    /// Waits until it has looked at everything and nothing waits; returns the report.
    fn idle(&self, bench: &Bench) -> Result<oxen_sync::status::Report> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(report) = bench.runtime.block_on(socket::fetch(&self.state_dir))? {
                let idle = |folder: &oxen_sync::status::FolderReport| {
                    folder.state == oxen_sync::status::FolderState::Watching
                        && folder.waiting == 0
                        && !folder.waiting_more
                };
                if !report.folders.is_empty() && report.folders.iter().all(idle) {
                    return Ok(report);
                }
            }
            bench.pause(Duration::from_millis(200));
        }
        Err("it does not come to rest".into())
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id()))?)
    }

    fn kib(&self, key: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with(key)).ok_or("the kernel does not say it")?;
        Ok(line.split_whitespace().nth(1).ok_or("there is no number")?.parse()?)
    }

    /// Processor time of each of its threads, and how often that was woken.
    fn work(&self) -> Result<BTreeMap<OsString, (Duration, u64)>> {
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

    fn cpu(&self) -> Result<Duration> {
        Ok(self.work()?.values().map(|(on_cpu, _)| *on_cpu).sum())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn start(bench: &mut Bench) -> Result<()> {
    let (_, config) = many(bench)?;
    let ours = |bench: &mut Bench| {
        let service = Service::start(bench, &config)?;
        service.ready()?;
        let wall = service.start.elapsed();
        Ok(Sample { wall, cpu: service.cpu()?, memory_kib: service.kib("VmHWM")? })
    };
    let looked = |bench: &mut Bench| {
        let service = Service::start(bench, &config)?;
        service.idle(bench)?;
        let wall = service.start.elapsed();
        Ok(Sample { wall, cpu: service.cpu()?, memory_kib: service.kib("VmHWM")? })
    };
    bench.contest(vec![
        Contender { name: "until it is ready: all is watched", run: Box::new(ours) },
        Contender { name: "until it has looked at everything", run: Box::new(looked) },
    ])?;
    Ok(())
}

pub(super) fn idle(bench: &mut Bench) -> Result<()> {
    const TIME: Duration = Duration::from_secs(60);
    let (_, config) = many(bench)?;
    let service = Service::start(bench, &config)?;
    service.idle(bench)?;
    // Threads that have nothing to do end after 10 s.
    bench.pause(Duration::from_secs(15));
    let before = service.work()?;
    bench.pause(TIME);
    let (mut on_cpu, mut woken) = (Duration::ZERO, 0);
    for (thread, after) in service.work()? {
        let before = before.get(&thread).copied().unwrap_or_default();
        on_cpu += after.0 - before.0;
        woken += after.1 - before.1;
    }
    println!(
        "   {MANY} files: {:.4} % of a core, {} wake-ups a minute, {:.1} MiB (at most {:.1})",
        on_cpu.as_secs_f64() / TIME.as_secs_f64() * 100.0,
        woken,
        service.kib("VmRSS")? as f64 / 1024.0,
        service.kib("VmHWM")? as f64 / 1024.0,
    );
    Ok(())
}

pub(super) fn latency(bench: &mut Bench) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(200);
    let folder = bench.place("latency");
    std::fs::create_dir_all(&folder)?;
    let repo = bench.name("bench/latency");
    let quiet = format!("settle.quiet = \"{QUIET:?}\"\nbatch.quiet = \"{QUIET:?}\"");
    let config = config(bench, &folder, &repo, &quiet)?;
    let service = Service::start(bench, &config)?;
    service.idle(bench)?;
    let client = bench.server()?.client()?;
    let (repo, branch) = (repo.parse()?, "main".parse()?);
    let mut beyond_ms = Vec::new();
    let mut head = bench.runtime.block_on(client.branch(&repo, &branch))?.map(|branch| branch.commit_id);
    for n in 0..40 {
        std::fs::write(folder.join(format!("file {n}")), format!("content {n}"))?;
        let closed = Instant::now();
        loop {
            let now = bench.runtime.block_on(client.branch(&repo, &branch))?.map(|branch| branch.commit_id);
            if now != head {
                head = now;
                break;
            }
            if closed.elapsed() > Duration::from_secs(30) {
                return Err("a file does not come".into());
            }
            bench.pause(Duration::from_millis(1));
        }
        let took = closed.elapsed();
        beyond_ms.push((took.as_secs_f64() - 2.0 * QUIET.as_secs_f64()) * 1000.0);
        service.idle(bench)?;
    }
    beyond_ms.sort_by(f64::total_cmp);
    println!(
        "   {} files one by one: median {:.1} ms beyond the quiet times of {} ms ({:.1} to {:.1})",
        beyond_ms.len(),
        median(beyond_ms.clone()),
        QUIET.as_millis() * 2,
        beyond_ms[0],
        beyond_ms[beyond_ms.len() - 1],
    );
    Ok(())
}

pub(super) fn flood(bench: &mut Bench) -> Result<()> {
    const WRITERS: usize = 4;
    const FILES: usize = 25_000;
    let folder = bench.place("flood");
    std::fs::create_dir_all(&folder)?;
    let repo = bench.name("bench/flood");
    let config = config(bench, &folder, &repo, "")?;
    let service = Service::start(bench, &config)?;
    service.idle(bench)?;
    let start = Instant::now();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let folder = &folder;
            scope.spawn(move || {
                for n in 0..FILES {
                    let dir = folder.join(format!("writer {writer}/{:03}", n / 100));
                    if n % 100 == 0 {
                        let _ = std::fs::create_dir_all(&dir);
                    }
                    let _ = std::fs::write(dir.join(format!("{n}")), format!("{writer} {n}"));
                }
            });
        }
    });
    let written = start.elapsed();
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = service.idle(bench)?;
        if report.folders[0].files == (WRITERS * FILES) as i64 || Instant::now() > deadline {
            break report;
        }
        bench.pause(Duration::from_millis(200));
    };
    println!(
        "   written in {:.1} s; {} of {} on the branch after {:.1} s; {:.1} MiB at most; log {}",
        written.as_secs_f64(),
        report.folders[0].files,
        WRITERS * FILES,
        start.elapsed().as_secs_f64(),
        service.kib("VmHWM")? as f64 / 1024.0,
        oxen_sync::path::printable(config.with_extension("log")),
    );
    Ok(())
}
