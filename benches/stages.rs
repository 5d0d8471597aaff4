//! How long each stage takes by itself: `cargo bench --bench stages`. Whole runs are measured by `benches/compare`.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use oxen_sync::config::{BatchLimits, DEFAULT_EXCLUDES};
use oxen_sync::content::{Digests, RootDir, Signature, Wanted, hash_file};
use oxen_sync::folder::scan::{Finding, Scan};
use oxen_sync::folder::{Filter, SettleLimits, SettleStage};
use oxen_sync::path::{LocalPath, RepoPath};
use oxen_sync::plan::{Marker, Planner, requests};
use oxen_sync::state::{BatchRow, BatchTransport, Change, ChangeKind, Phase, PlaceKey, State};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FILES: usize = 10_000;

/// So many paths in a hundredth as many directories.
fn paths(count: usize) -> Vec<LocalPath> {
    let path = |n: usize| format!("run {:03}/image {n:06}.tif", n % count.div_ceil(100));
    let mut paths: Vec<_> = (0..count).filter_map(|n| LocalPath::new(Path::new(&path(n)))).collect();
    paths.sort();
    paths
}

fn put(path: LocalPath) -> Change {
    let signature = Signature { size: 4096, mtime_ns: 1, ctime_ns: 1, inode: 1 };
    let digests = Digests { sha256: Some([1; 32]), xxh3: 1 };
    Change { path, place: PlaceKey::default(), kind: ChangeKind::Put { signature, digests, racy: false } }
}

fn hashing(c: &mut Criterion) {
    const LEN: usize = 64 << 20;
    let dir = tempfile::tempdir().expect("a directory can be made");
    fs::write(dir.path().join("f"), vec![7; LEN]).expect("a file can be written");
    let root = RootDir::open(dir.path()).expect("it is there");
    let path = LocalPath::root().join("f".as_ref());
    let mut group = c.benchmark_group("hash");
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("SHA-256 and XXH3 of a file in one pass", |b| {
        b.iter(|| {
            hash_file(&mut root.open_file(&path).expect("it is there"), Wanted::Both).expect("it holds still")
        });
    });
    group.finish();
}

fn settling(c: &mut Criterion) {
    let limits = SettleLimits { quiet: Duration::from_secs(2), max_wait: Duration::from_secs(300) };
    let paths = paths(FILES);
    let mut group = c.benchmark_group("settle");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("touch, wait, take", |b| {
        b.iter(|| {
            let start = Instant::now();
            let mut stage = SettleStage::new(limits);
            paths.iter().for_each(|path| stage.touch(path, None, start));
            let later = start + limits.quiet;
            for due in stage.take_due(later, FILES) {
                stage.settled(&due.path, later);
            }
            assert!(stage.is_empty());
        });
    });
    group.finish();
}

fn planning(c: &mut Criterion) {
    let limits = BatchLimits {
        quiet: Duration::from_secs(1),
        max_wait: Duration::from_secs(30),
        max_files: FILES,
        max_bytes: u64::MAX,
    };
    let changes: Vec<_> = paths(FILES).into_iter().map(put).collect();
    let on_branch: Vec<_> = changes
        .iter()
        .filter_map(|change| RepoPath::for_file(&RepoPath::root(), &change.path).ok())
        .collect();
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("collect and take a batch", |b| {
        let collect = |changes: Vec<Change>| {
            let now = Instant::now();
            let mut planner = Planner::new(limits, Marker::default());
            changes.into_iter().for_each(|change| planner.add(change, now));
            planner.take(now)
        };
        b.iter_batched(|| changes.clone(), collect, BatchSize::LargeInput);
    });
    group.bench_function("sort a batch into requests", |b| {
        b.iter(|| requests(&changes, &on_branch, |_| false));
    });
    group.finish();
}

fn filtering(c: &mut Criterion) {
    let filter = Filter::new(DEFAULT_EXCLUDES.iter().copied(), [], "").expect("the patterns are good");
    let paths = paths(FILES);
    let mut group = c.benchmark_group("filter");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("default excludes", |b| {
        b.iter(|| paths.iter().filter(|path| filter.excludes_file(path)).count());
    });
    group.finish();
}

fn scanning(c: &mut Criterion) {
    let (folder, state_dir) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    for path in paths(FILES) {
        let file = path.under(folder.path());
        fs::create_dir_all(file.parent().expect("it lies in the folder")).expect("it can be made");
        fs::write(file, "content").expect("it can be written");
    }
    let root = RootDir::open(folder.path()).expect("it is there");
    let filter = Filter::new(DEFAULT_EXCLUDES.iter().copied(), [], "").expect("the patterns are good");
    let (state, _) = State::open(state_dir.path(), "").expect("the state opens");
    let key = state.folder("f").expect("the state takes it");
    let changes: Vec<_> = paths(FILES)
        .into_iter()
        .map(|path| {
            let signature = root.open_file(&path).expect("it is there").signature;
            let digests = Digests { sha256: Some([1; 32]), xxh3: 1 };
            Change {
                path,
                place: PlaceKey::default(),
                kind: ChangeKind::Put { signature, digests, racy: false },
            }
        })
        .collect();
    let batch = BatchRow {
        id: 1,
        phase: Phase::Committing,
        transport: BatchTransport::Put,
        workspace: String::new(),
        message: String::new(),
    };
    let mut group = c.benchmark_group("state");
    group.throughput(Throughput::Elements(FILES as u64));
    group.sample_size(10);
    group.bench_function("journal and close a batch", |b| {
        b.iter(|| {
            state.open_batch(key, &batch, &changes, 0).expect("the state takes it");
            state.close_batch(key, 1, Some("c"), &changes, 0).expect("the state takes it");
        });
    });
    group.finish();
    let mut readers = [(); 2].map(|()| state.reader().expect("the state can be read"));
    let cancel = CancellationToken::new();
    let scan = Scan { root: &root, filter: &filter, folder: key, watch: None, cancel: &cancel };
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(FILES as u64));
    group.bench_function("unchanged files", |b| {
        b.iter(|| {
            let report = |finding: Finding| -> ControlFlow<()> { panic!("nothing differs, but {finding:?}") };
            scan.run(&mut readers, &LocalPath::root(), &report).expect("the state can be read")
        });
    });
    group.finish();
}

criterion_group!(stages, hashing, settling, planning, filtering, scanning);
criterion_main!(stages);
