use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use walkdir::WalkDir;

use crate::support::rig::Rig;
use crate::support::site::Site;

const FILES: usize = 20_000;
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// The sources of Rust crates: what `cargo` keeps on every machine that built this.
fn sources() -> PathBuf {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    cargo.or(home).expect("there is a home").join("registry/src")
}

#[tokio::test]
#[ignore = "takes minutes: tests/run --long"]
async fn long_a_real_source_tree_stands_on_the_branch() {
    let Some(site) = Site::real().await else { return };
    let mut rig = Rig::new(&Arc::new(site), "default_excludes = false");
    rig.patience = WAIT_MAX;
    let (mut files, mut bytes) = (0, 0);
    let tree =
        WalkDir::new(sources()).sort_by_file_name().into_iter().map(|entry| entry.expect("it can be read"));
    for entry in tree.filter(|entry| entry.file_type().is_file()).take(FILES) {
        let path = entry.path().strip_prefix(sources()).unwrap().to_str().expect("crates have plain names");
        let content = fs::read(entry.path()).unwrap();
        bytes += content.len();
        rig.write(path, content);
        files += 1;
    }
    assert_eq!(files, FILES, "the crates built here have too few files");
    let start = Instant::now();
    rig.start();
    let files_wanted = i64::try_from(files).unwrap();
    rig.until_status("all of it is pushed", |report| report.folders[0].files >= files_wanted).await;
    let (taken, peak) = (start.elapsed(), rig.peak_memory_kib());
    let commits = rig.assert_all_holds().await;
    let mib = bytes >> 20;
    eprintln!("{files} files, {mib} MiB in {commits} commits, {taken:.1?}, peak memory {peak} KiB");
    rig.stop().await;
}
