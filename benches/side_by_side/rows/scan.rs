use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use oxen_sync::content::{RootDir, Wanted, hash_file};
use oxen_sync::path::LocalPath;

use super::config;
use crate::contest::{Bench, Contender, Result, Sample, oxen_sync, time};
use crate::trees;

pub(super) const MANY: usize = 1_000_000;

/// A folder of very many files, and a config whose state knows them all.
pub(super) fn many(bench: &mut Bench) -> Result<(PathBuf, PathBuf)> {
    let (folder, known) = (bench.shared("many"), bench.shared("many.config"));
    if !known.exists() {
        trees::fill(&folder, MANY, 16)?;
        let repo = bench.name("bench/many");
        let config = config(bench, &folder, &repo, "rescan_interval = \"7d\"")?;
        let client = bench.server()?.client()?;
        let (repo, branch) = (repo.parse()?, "main".parse()?);
        let head = bench.runtime.block_on(async {
            client.create_repo(&repo, None, None).await?;
            client.open_workspace(&repo, "first", &branch).await?;
            client.delete_workspace(&repo, "first").await?;
            client.branch(&repo, &branch).await
        })?;
        trees::know(&config, MANY, &head.ok_or("there is no branch")?.commit_id)?;
        std::fs::write(&known, config.to_str().ok_or("the path is not UTF-8")?)?;
    }
    Ok((folder, std::fs::read_to_string(known)?.into()))
}

pub(super) fn rescan(bench: &mut Bench) -> Result<()> {
    let (folder, config) = many(bench)?;
    let ours = |_: &mut Bench| time(Command::new(oxen_sync()).arg("push").arg("--config").arg(&config));
    let find = |_: &mut Bench| time(Command::new("find").arg(&folder).args(["-printf", "%s %T@ %C@ %i\n"]));
    bench.contest(vec![
        Contender { name: "oxen-sync push, nothing changed", run: Box::new(ours) },
        Contender { name: "find -printf '%s %T@ %C@ %i'", run: Box::new(find) },
    ])?;
    Ok(())
}

pub(super) fn hash(bench: &mut Bench) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let folder = bench.place("hash");
    std::fs::create_dir_all(&folder)?;
    let names: Vec<String> = (0..cores).map(|n| format!("file-{n}")).collect();
    for (name, seed) in names.iter().zip(0..) {
        trees::large(&folder.join(name), 1 << 30, seed)?;
    }
    let root = RootDir::open(&folder)?;
    let ours = |_: &mut Bench| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for name in &names {
                let path = LocalPath::root().join(name.as_ref());
                let root = &root;
                scope.spawn(move || {
                    root.open_file(&path).ok().and_then(|mut file| hash_file(&mut file, Wanted::Both).ok())
                });
            }
        });
        Ok(Sample { wall: start.elapsed(), cpu: Duration::ZERO, memory_kib: 0 })
    };
    let openssl = |_: &mut Bench| {
        let start = Instant::now();
        let children: Vec<_> = names
            .iter()
            .map(|name| {
                let mut command = Command::new("openssl");
                command
                    .args(["dgst", "-sha256"])
                    .arg(folder.join(name))
                    .stdout(std::process::Stdio::null())
                    .spawn()
            })
            .collect();
        for child in children {
            child?.wait()?;
        }
        Ok(Sample { wall: start.elapsed(), cpu: Duration::ZERO, memory_kib: 0 })
    };
    bench.contest(vec![
        Contender { name: "SHA-256 and XXH3, one pass", run: Box::new(ours) },
        Contender { name: "openssl dgst -sha256", run: Box::new(openssl) },
    ])?;
    Ok(())
}
