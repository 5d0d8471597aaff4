//! Rigs at one server: what it takes from eight of them, and from one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

use fastrand::Rng;

use super::{Watched, config_of};
use crate::contest::{Bench, Result};
use crate::service::{PATIENCE, Service};
use crate::{peers, trees};

const RIGS: usize = 8;
/// How often all rigs are asked how far they are.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Where the rigs push to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    OneBranch,
    Branches,
    Repos,
}

/// What the rigs have to do.
struct Load {
    what: &'static str,
    /// Files of all rigs together where they come at once, and otherwise of each.
    files: usize,
    /// The time from one file of a rig to its next.
    every: Duration,
    settle_quiet: Duration,
    batch_quiet: Duration,
    /// The most files in a commit.
    together: usize,
}

const LOADS: [Load; 3] = [
    Load {
        what: "24,000 files at once",
        files: 24_000,
        every: Duration::ZERO,
        settle_quiet: Duration::from_secs(2),
        batch_quiet: Duration::from_secs(1),
        together: 10_000,
    },
    // Were a batch open for as long as it is from one file to the next, chance would say what goes together.
    Load {
        what: "a file a second from each, for 30 s",
        files: 30,
        every: Duration::from_secs(1),
        settle_quiet: Duration::from_secs(2),
        batch_quiet: Duration::from_millis(500),
        together: 10_000,
    },
    // How many commits the server takes, however little each holds.
    Load {
        what: "240 files at once, each in a commit of its own",
        files: 240,
        every: Duration::ZERO,
        settle_quiet: Duration::ZERO,
        batch_quiet: Duration::ZERO,
        together: 1,
    },
];

pub(super) fn rigs(bench: &mut Bench) -> Result<()> {
    let arrangements = [
        ("1 rig", 1, To::OneBranch),
        ("8 rigs on one branch", RIGS, To::OneBranch),
        ("8 rigs, a branch each", RIGS, To::Branches),
        ("8 rigs, a repository each", RIGS, To::Repos),
    ];
    for load in LOADS {
        println!("   {}:", load.what);
        for (name, count, to) in arrangements {
            let fleet = Fleet::start(bench, count, to, &load)?;
            let before = fleet.commits(bench)?;
            let work = load.put_on(bench, &fleet)?;
            let commits = fleet.commits(bench)?.difference(&before).count();
            // Nothing can come before the first file has been quiet.
            let busy_s = work.took.saturating_sub(load.quiet()).as_secs_f64();
            println!(
                "   {name:<26} all after {:>5.1} s; beyond the quiet times {:>6.1} files and {:>5.2} commits a second; \
                 a file waited for {:.1} s at most",
                work.took.as_secs_f64(),
                work.files as f64 / busy_s,
                commits as f64 / busy_s,
                work.late.as_secs_f64(),
            );
        }
    }
    Ok(())
}

/// A service with a folder of its own.
struct Rig {
    folder: PathBuf,
    service: Service,
}

struct Fleet {
    rigs: Vec<Rig>,
    /// Repositories and branches.
    targets: BTreeSet<(String, String)>,
}

impl Fleet {
    fn start(bench: &mut Bench, count: usize, to: To, load: &Load) -> Result<Self> {
        let (mut rigs, mut targets) = (Vec::new(), BTreeSet::new());
        let mut repo = String::new();
        for n in 0..count {
            if n == 0 || to == To::Repos {
                repo = bench.name("bench/rigs");
                // Branches need one to begin from.
                peers::floor(bench, &repo, vec![("README.md".to_owned(), b"rigs".to_vec())])?;
            }
            let (branch, from) = match to {
                To::Branches => (format!("rig-{n}"), "create_branch_from = \"main\""),
                To::OneBranch | To::Repos => ("main".to_owned(), ""),
            };
            let folder = bench.place("folder");
            std::fs::create_dir_all(&folder)?;
            let keys = format!(
                "branch = {branch:?}\n{from}\nremote_dir = \"rig-{n}\"\n\
                 settle.quiet = \"{}ms\"\nbatch.quiet = \"{}ms\"\nbatch.max_files = {}",
                load.settle_quiet.as_millis(),
                load.batch_quiet.as_millis(),
                load.together,
            );
            targets.insert((repo.clone(), branch));
            let watched = Watched { folder: folder.clone(), repo: repo.clone(), keys };
            let config = config_of(bench, &[watched])?;
            rigs.push(Rig { folder, service: Service::start(bench, &config)? });
        }
        for rig in &rigs {
            rig.service.idle(bench)?;
        }
        Ok(Self { rigs, targets })
    }

    /// The ids of all commits on the branches.
    fn commits(&self, bench: &mut Bench) -> Result<BTreeSet<String>> {
        const PAGE: usize = 500;
        let client = bench.server()?.client()?;
        let mut ids = BTreeSet::new();
        for (repo, branch) in &self.targets {
            let (repo, branch) = (repo.parse()?, branch.parse()?);
            // One that has got nothing yet is not there.
            let Some(head) = bench.runtime.block_on(client.branch(&repo, &branch))? else { continue };
            for page in 1.. {
                let commits = bench.runtime.block_on(client.history(&repo, &head.commit_id, page, PAGE))?;
                let is_last = commits.len() < PAGE;
                ids.extend(commits.into_iter().map(|commit| commit.id));
                if is_last {
                    break;
                }
            }
        }
        Ok(ids)
    }
}

/// What became of a load.
#[derive(Default)]
struct Work {
    files: usize,
    /// Until all was proved.
    took: Duration,
    /// The longest that a file was there without being proved.
    late: Duration,
}

impl Load {
    fn quiet(&self) -> Duration {
        self.settle_quiet + self.batch_quiet
    }

    /// When file `n` of a rig is made. The rigs take turns.
    fn due(&self, rig: usize, rigs: usize, n: usize) -> Duration {
        self.every * n as u32 + self.every * rig as u32 / rigs as u32
    }

    fn put_on(&self, bench: &Bench, fleet: &Fleet) -> Result<Work> {
        let rigs = fleet.rigs.len();
        let each = if self.every.is_zero() { self.files / rigs } else { self.files };
        let start = Instant::now();
        thread::scope(|scope| {
            let write = |n: usize, folder: &Path| -> io::Result<()> {
                let mut rng = Rng::with_seed(n as u64);
                for file in 0..each {
                    let wait = self.due(n, rigs, file).saturating_sub(start.elapsed());
                    // Even no time at all would take a millisecond.
                    if !wait.is_zero() {
                        bench.pause(wait);
                    }
                    trees::put(folder, file, 4096, &mut rng)?;
                }
                Ok(())
            };
            let writers: Vec<_> = fleet
                .rigs
                .iter()
                .enumerate()
                .map(|(n, rig)| scope.spawn(move || write(n, &rig.folder)))
                .collect();
            let work = self.follow(bench, &fleet.rigs, each, start);
            for writer in writers {
                writer.join().map_err(|_| "a writer panicked")??;
            }
            work
        })
    }

    /// Asks the rigs how far they are until all is proved.
    fn follow(&self, bench: &Bench, rigs: &[Rig], each: usize, start: Instant) -> Result<Work> {
        let mut work = Work { files: each * rigs.len(), ..Work::default() };
        while start.elapsed() < PATIENCE {
            let mut done = 0;
            for (n, rig) in rigs.iter().enumerate() {
                let report = rig.service.report(bench)?.ok_or("a service has ended")?;
                let folder = report.folders.first().ok_or("no folder is reported")?;
                let proved = usize::try_from(folder.files)?;
                // They are proved about in the order in which they were made.
                if proved < each {
                    work.late =
                        work.late.max(start.elapsed().saturating_sub(self.due(n, rigs.len(), proved)));
                }
                done += proved;
            }
            if done == work.files {
                work.took = start.elapsed();
                return Ok(work);
            }
            bench.pause(ASK_EVERY);
        }
        Err("not all files come".into())
    }
}
