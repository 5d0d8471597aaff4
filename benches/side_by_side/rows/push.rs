use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::config;
use crate::contest::{Bench, Contender, Result, Sample, oxen_sync, time};
use crate::{peers, trees};

pub(super) fn push(config: &Path) -> Result<Sample> {
    time(Command::new(oxen_sync()).arg("push").arg("--config").arg(config))
}

const SMALL: usize = 10_000;
/// Files that were just written wait for this time (settle.quiet), which is nobody's work.
pub(super) const QUIET: Duration = Duration::from_millis(2_200);

pub(super) fn small(bench: &mut Bench) -> Result<()> {
    let folder = bench.place("small");
    trees::fill(&folder, SMALL, 4096)?;
    bench.pause(QUIET);
    let ours = |bench: &mut Bench| {
        let repo = bench.name("bench/small");
        push(&config(bench, &folder, &repo, "")?)
    };
    let client = |bench: &mut Bench| peers::oxen_client(bench, &folder);
    let floor = |bench: &mut Bench| {
        let (repo, files) = (bench.name("bench/by-hand"), peers::read(&folder)?);
        peers::floor(bench, &repo, files)
    };
    bench.contest(vec![
        Contender { name: "oxen-sync push", run: Box::new(ours) },
        Contender { name: "Oxen's client: add_files, commit", run: Box::new(client) },
        Contender { name: "requests made by hand", run: Box::new(floor) },
    ])?;
    Ok(())
}

pub(super) fn changed(bench: &mut Bench) -> Result<()> {
    let folder = bench.place("changed");
    trees::fill(&folder, SMALL, 4096)?;
    let (repo, by_hand) = (bench.name("bench/changed"), bench.name("bench/changed-by-hand"));
    let config = config(bench, &folder, &repo, "")?;
    push(&config)?;
    let all = peers::read(&folder)?;
    peers::floor(bench, &by_hand, all)?;
    let mut round = 0_u64;
    let ours = |bench: &mut Bench| {
        round += 1;
        trees::change(&folder, SMALL, 100, round)?;
        bench.pause(QUIET);
        push(&config)
    };
    let mut round = 1_000_u64;
    let floor = |bench: &mut Bench| {
        round += 1;
        let files = trees::changed(SMALL, 100, 4096, round);
        peers::floor(bench, &by_hand, files)
    };
    bench.contest(vec![
        Contender { name: "oxen-sync push", run: Box::new(ours) },
        Contender { name: "100 files by hand", run: Box::new(floor) },
    ])?;
    Ok(())
}

pub(super) fn large(bench: &mut Bench) -> Result<()> {
    let folder = bench.place("large");
    std::fs::create_dir_all(&folder)?;
    bench.fill_memory()?;
    let file = folder.join("movie.bin");
    // A content that the server has already is not sent again: each run has one of its own.
    let mut seed = 0;
    let ours = |bench: &mut Bench| {
        seed += 2;
        trees::large(&file, 2 << 30, seed)?;
        bench.pause(QUIET);
        let repo = bench.name("bench/large");
        push(&config(bench, &folder, &repo, "")?)
    };
    let file = folder.join("movie.bin");
    let mut seed = 1;
    let curl = |bench: &mut Bench| {
        seed += 2;
        trees::large(&file, 2 << 30, seed)?;
        peers::curl(bench, &file)
    };
    bench.contest(vec![
        Contender { name: "oxen-sync push", run: Box::new(ours) },
        Contender { name: "curl, one multipart request", run: Box::new(curl) },
    ])?;
    Ok(())
}
