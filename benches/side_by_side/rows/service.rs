use std::thread;
use std::time::{Duration, Instant};

use super::config;
use super::scan::{MANY, many};
use crate::contest::{Bench, Contender, Result, Sample, median};
use crate::service::{PATIENCE, Service};

pub(super) fn start(bench: &mut Bench) -> Result<()> {
    let (_, config) = many(bench)?;
    let ours = |bench: &mut Bench| {
        let service = Service::start(bench, &config)?;
        service.ready()?;
        let wall = service.start.elapsed();
        Ok(Sample { wall, cpu: service.cpu()?, memory_kib: service.number("VmHWM")? })
    };
    let looked = |bench: &mut Bench| {
        let service = Service::start(bench, &config)?;
        service.idle(bench)?;
        let wall = service.start.elapsed();
        Ok(Sample { wall, cpu: service.cpu()?, memory_kib: service.number("VmHWM")? })
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
        service.memory("VmRSS")?,
        service.memory("VmHWM")?,
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
        "   written in {:.1} s; {} of {} on the branch after {:.1} s; {} scans of everything after the first; {:.1} MiB at most; \
         log {}",
        written.as_secs_f64(),
        report.folders[0].files,
        WRITERS * FILES,
        start.elapsed().as_secs_f64(),
        report.folders[0].scans.saturating_sub(1),
        service.memory("VmHWM")?,
        oxen_sync::path::printable(config.with_extension("log")),
    );
    Ok(())
}
