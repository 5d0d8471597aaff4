//! What directories cost that hold very many files, and what very many folders cost.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::push::{QUIET, push};
use super::{Watched, config, config_of};
use crate::contest::{Bench, Result};
use crate::service::Service;
use crate::trees;

pub(super) fn flat(bench: &mut Bench) -> Result<()> {
    const PARTS: usize = 4;
    const PART: usize = 5_000;
    let layouts = [
        ("one directory", ""),
        ("{date}/{hour}/{path}, 1,000 an hour", "remote_path = \"{date}/{hour}/{path}\""),
    ];
    for (name, keys) in layouts {
        let folder = bench.place("flat");
        std::fs::create_dir_all(&folder)?;
        let repo = bench.name("bench/flat");
        let config = config(bench, &folder, &repo, &format!("remote_dir = \"camera\"\n{keys}"))?;
        let mut walls = Vec::new();
        for part in 0..PARTS {
            shoot(&folder, part * PART..(part + 1) * PART)?;
            bench.pause(QUIET);
            walls.push(push(&config)?.wall.as_secs_f64());
        }
        let told: Vec<String> = walls.iter().map(|wall| format!("{wall:.1} s")).collect();
        println!(
            "   {name:<38} {PART} files each: {}; the last takes {:.1} of the first",
            told.join(", "),
            walls[PARTS - 1] / walls[0],
        );
    }
    Ok(())
}

/// Files that lie side by side, as if a thousand had been made in each hour.
fn shoot(folder: &Path, numbers: std::ops::Range<usize>) -> Result<()> {
    const HOUR: u64 = 3600;
    const FIRST: u64 = 490_000 * HOUR;
    let mut rng = Rng::with_seed(numbers.start as u64);
    let mut content = vec![0; 1024];
    for n in numbers {
        rng.fill(&mut content);
        let path = folder.join(format!("image {n:05}.tif"));
        std::fs::write(&path, &content)?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST + n as u64 / 1_000 * HOUR);
        std::fs::File::options().write(true).open(&path)?.set_modified(at)?;
    }
    Ok(())
}

pub(super) fn folders(bench: &mut Bench) -> Result<()> {
    const FILES: usize = 20;
    /// Folders of one repository.
    const TOGETHER: usize = 5;
    let mut memory = Vec::new();
    for count in [1, 100] {
        let mut watched = Vec::new();
        let mut repo = String::new();
        for n in 0..count {
            if n % TOGETHER == 0 {
                repo = bench.name("bench/folders");
            }
            let folder = bench.place("folder");
            trees::fill(&folder, FILES, 4096)?;
            watched.push(Watched {
                folder,
                repo: repo.clone(),
                keys: format!("remote_dir = \"folder-{n}\""),
            });
        }
        let config = config_of(bench, &watched)?;
        let service = Service::start(bench, &config)?;
        let report = service.idle(bench)?;
        let took = service.start.elapsed();
        let files: i64 = report.folders.iter().map(|folder| folder.files).sum();
        if files != (count * FILES) as i64 {
            return Err(format!("{files} files are on the branches, not {}", count * FILES).into());
        }
        // Threads that have nothing to do end after 10 s.
        bench.pause(Duration::from_secs(15));
        memory.push(service.memory("VmRSS")?);
        println!(
            "   {count:>3} folders: {files} files on their branches after {:.1} s; {:.1} MiB at rest (at most {:.1}), \
             {} descriptors, {} threads",
            took.as_secs_f64(),
            service.memory("VmRSS")?,
            service.memory("VmHWM")?,
            service.descriptors()?,
            service.number("Threads")?,
        );
    }
    println!("   each further folder: {:.2} MiB", (memory[1] - memory[0]) / 99.0);
    Ok(())
}
