//! Any sequence of file operations, interleaved with faults, ends with the folder on the branch. A sequence that fails is
//! shrunk to the smallest one that still does, and can be replayed from its seed.

mod stage;
mod steps;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use tokio::time::sleep;

use self::stage::Stage;
use self::steps::{OPS, Step, actions, step};
use crate::standin::Rule;
use crate::support::rig::Rig;
use crate::support::site::Site;

/// The variable that replays one sequence.
const SEED: &str = "OXEN_SYNC_TEST_SEED";
/// Sequences at once: each has a process of its own.
const AT_ONCE: u64 = 8;
/// How often a sequence is tried while it is shrunk: what fails by chance may pass once.
const TRIES: usize = 3;
/// How long a sequence that is known to fail is waited for.
const SHRINK_PATIENCE: Duration = Duration::from_secs(10);

/// Contents that were finished in all sequences.
static FILES: AtomicUsize = AtomicUsize::new(0);

/// A server for each sequence.
#[derive(Clone, Copy)]
enum On {
    StandIn,
    RealServer,
}

#[test]
fn any_history_ends_up_on_the_branch() {
    run(On::StandIn, 100);
}

#[test]
fn any_history_ends_up_on_the_branch_of_the_real_server() {
    run(On::RealServer, 12);
}

#[test]
#[ignore = "takes minutes: tests/run --long"]
fn long_any_history_ends_up_on_the_branch() {
    run(On::StandIn, 2_000);
}

#[test]
#[ignore = "takes minutes: tests/run --long"]
fn long_any_history_ends_up_on_the_branch_of_the_real_server() {
    run(On::RealServer, 300);
}

fn run(on: On, cases: u64) {
    if let On::RealServer = on
        && runtime().block_on(Site::real()).is_none()
    {
        return;
    }
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        return check(on, seed);
    }
    let first = fastrand::u64(..u64::MAX - cases);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(cases))
            .map(|thread| {
                scope.spawn(move || {
                    for n in (thread..cases).step_by(AT_ONCE as usize) {
                        check(on, first + n);
                    }
                })
            })
            .collect();
        // All threads are waited for, and the first that failed fails the test.
        let ends: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        assert!(ends.iter().all(Result::is_ok), "a sequence failed: its smallest form is told above");
    });
    let files = FILES.load(Ordering::Relaxed);
    eprintln!("{cases} sequences, {files} files: none lost, torn or committed twice");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs the sequence of a seed, and shrinks it if it fails.
fn check(on: On, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 400,
        max_shrink_time: 300_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = runtime();
    let is_shrinking = Cell::new(false);
    let outcome = runner.run(&proptest::collection::vec(step(), 1..45), |steps| {
        let (tries, patience) = if is_shrinking.get() { (TRIES, Some(SHRINK_PATIENCE)) } else { (1, None) };
        for _ in 0..tries {
            let played = runtime.block_on(async { tokio::spawn(play(on, steps.clone(), patience)).await });
            if played.is_err() {
                is_shrinking.set(true);
                return Err(TestCaseError::fail("it does not hold"));
            }
        }
        Ok(())
    });
    if let Err(TestError::Fail(_, steps)) = outcome {
        eprintln!("this sequence does not end up on the branch; replay it with {SEED}={seed}\n{steps:#?}");
        panic!("a sequence fails");
    }
    assert!(outcome.is_ok(), "{outcome:?}");
}

async fn play(on: On, steps: Vec<Step>, patience: Option<Duration>) {
    let site = match on {
        On::StandIn => Site::standin().await,
        On::RealServer => Site::real_behind_gate().await.expect("there is one"),
    };
    let site = Arc::new(site);
    // A file with several names is seen by all of them when the folder is compared.
    let keys = "on_delete = \"mirror\"\ndelete_brake.share = \"100%\"\nbatch.quiet = \"20ms\"\nrescan_interval = \"2s\"";
    // Under a name of its own for every second one, so that the place of each file has to be known.
    let layout = if steps.len().is_multiple_of(2) { "" } else { "\nremote_path = \"raw/{dir}/x/{name}\"" };
    let mut rig = Rig::new(&site, &format!("{keys}{layout}"));
    if steps.len().is_multiple_of(3) {
        rig.set_out_early();
    }
    if let Some(patience) = patience {
        rig.patience = patience;
    }
    rig.start();
    let mut stage = Stage::of(&rig);
    for step in &steps {
        match step {
            Step::Wait { ms } => sleep(Duration::from_millis(*ms)).await,
            Step::Fault { op, action } => {
                site.gate().fault(Rule::on(OPS[*op], actions()[*action].clone()));
            }
            Step::Kill => {
                rig.kill();
                rig.start();
            }
            Step::Stop => {
                rig.until_status("it can be stopped", |_| true).await;
                rig.stop().await;
                rig.start();
            }
            Step::CutConnections => site.gate().cut_connections(),
            step => stage.act(&rig, step),
        }
    }
    site.gate().clear_faults();
    rig.until_status("it runs", |_| true).await;
    // Cuts the wait for the next try short.
    rig.kick();
    rig.assert_all_holds().await;
    FILES.fetch_add(rig.ledger.len(), Ordering::Relaxed);
    rig.stop().await;
}
