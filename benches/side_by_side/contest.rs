//! Runs contenders in turn and says how they compare.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::server::Server;

/// Whatever goes wrong ends the whole comparison.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What all rows share.
pub(crate) struct Bench {
    pub(crate) runs: usize,
    /// Where everything is made; gone at the end.
    scratch: TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    next: u32,
}

/// One run of one contender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// The most memory it had; 0 where it has no process of its own.
    pub(crate) memory_kib: u64,
}

/// Runs a contender once.
type Run<'a> = Box<dyn FnMut(&mut Bench) -> Result<Sample> + 'a>;

/// Who takes part.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'a str,
    pub(crate) run: Run<'a>,
}

/// The median of what a contender took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) wall_s: f64,
    pub(crate) memory_kib: u64,
}

impl Bench {
    pub(crate) fn new(runs: usize) -> Result<Self> {
        let scratch = TempDir::with_prefix_in("compare-", env!("CARGO_TARGET_TMPDIR"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { runs, scratch, runtime, server: None, next: 0 })
    }

    /// What the figures were measured on.
    pub(crate) fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "{cores} cores ({}), memory {}, Linux {}; {} runs of each",
            kernel_says("/proc/cpuinfo", "model name"),
            kernel_says("/proc/meminfo", "MemTotal"),
            std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            self.runs,
        )
    }

    /// A real server, started by the first who asks.
    pub(crate) fn server(&mut self) -> Result<&Server> {
        if self.server.is_none() {
            self.server = Some(Server::start(self.scratch.path(), &self.runtime)?);
        }
        self.server.as_ref().ok_or_else(|| "there is no server".into())
    }

    /// Has all memory in use for files, as on a machine that has been up for a while. On one that is virtual, the first
    /// touch of memory that is free takes longer than all that is measured, and it would be chance whom that meets.
    pub(crate) fn fill_memory(&mut self) -> Result<()> {
        let total = kernel_says("/proc/meminfo", "MemTotal");
        let kib: u64 = total.split_whitespace().next().unwrap_or_default().parse()?;
        let file = self.place("hole");
        File::create(&file)?.set_len(kib << 10)?;
        // What it reads of a hole are pages of nothing.
        io::copy(&mut io::BufReader::with_capacity(1 << 20, File::open(&file)?), &mut io::sink())?;
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// A name nobody else has.
    pub(crate) fn name(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}-{}", self.next)
    }

    /// A place that nothing stands at.
    pub(crate) fn place(&mut self, what: &str) -> PathBuf {
        let name = self.name(what);
        self.scratch.path().join(name)
    }

    /// A place of a name that rows share.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Runs all contenders in turn, so that whatever else the machine does meets them alike.
    pub(crate) fn contest(&mut self, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Figure>> {
        let mut samples = vec![Vec::new(); contenders.len()];
        for _ in 0..self.runs {
            for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
                let sample = (contender.run)(self).map_err(|error| format!("{}: {error}", contender.name))?;
                samples.push(sample);
            }
        }
        let figures: Vec<Figure> = samples.iter().map(|samples| Figure::of(samples)).collect();
        for ((contender, samples), figure) in contenders.iter().zip(&samples).zip(&figures) {
            let walls: Vec<f64> = samples.iter().map(|sample| sample.wall.as_secs_f64()).collect();
            let (least, most) = walls
                .iter()
                .fold((f64::MAX, 0.0_f64), |(least, most), wall| (least.min(*wall), most.max(*wall)));
            let cpu = median(samples.iter().map(|sample| sample.cpu.as_secs_f64()).collect());
            let ours = figures.first().map_or(0.0, |ours| ours.wall_s);
            let memory = match figure.memory_kib {
                0 => String::new(),
                kib => format!(", {:.1} MiB", kib as f64 / 1024.0),
            };
            println!(
                "   {:<44} {:>9.3} s ({least:.3} to {most:.3}), processor {cpu:.2} s{memory}{}",
                contender.name,
                figure.wall_s,
                if figure.wall_s == ours {
                    String::new()
                } else {
                    format!("; oxen-sync takes {:.2} of it", ours / figure.wall_s)
                },
            );
        }
        Ok(figures)
    }
}

impl Figure {
    fn of(samples: &[Sample]) -> Self {
        Self {
            wall_s: median(samples.iter().map(|sample| sample.wall.as_secs_f64()).collect()),
            memory_kib: samples.iter().map(|sample| sample.memory_kib).max().unwrap_or(0),
        }
    }
}

/// What stands behind `key` in one of the kernel's lists.
fn kernel_says(path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Runs a program to its end, with its output in `/dev/null` and its complaints shown where it fails.
pub(crate) fn time(command: &mut Command) -> Result<Sample> {
    let report = tempfile::NamedTempFile::new()?;
    let mut timed = Command::new("time");
    timed.args(["-q", "-f", "%U %S %M", "-o"]).arg(report.path());
    timed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        timed.current_dir(dir);
    }
    timed.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = timed.output().map_err(|error| needs("time", &error))?;
    let wall = start.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{:?} ended with {}: {said}", command.get_program(), output.status).into());
    }
    let report = std::fs::read_to_string(report.path())?;
    let mut words = report.split_whitespace();
    let mut next = || words.next().ok_or("time says nothing");
    let cpu_s = next()?.parse::<f64>()? + next()?.parse::<f64>()?;
    Ok(Sample { wall, cpu: Duration::from_secs_f64(cpu_s), memory_kib: next()?.parse()? })
}

fn needs(program: &str, error: &io::Error) -> String {
    format!("{program} cannot be started ({error}): install it, or use benches/compare, which does")
}

/// The program that is measured.
pub(crate) fn oxen_sync() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_oxen-sync"))
}
