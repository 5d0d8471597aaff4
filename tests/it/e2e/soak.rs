//! A long time with steady work and trouble every now and then.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use oxen_sync::oxen::Op;
use tokio::time::{Instant, sleep, sleep_until};

use super::before_both;
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

before_both! {
    steady_work_with_trouble_holds,
}

/// Files that are finished in a second, one in five of them once more.
const FILES_PER_S: u32 = 20;
/// Minutes of the long form, unless this variable says otherwise.
const MINUTES: &str = "OXEN_SYNC_SOAK_MINUTES";
/// What memory may grow by after the warm-up, to count as flat.
const GROWTH_MAX_KIB: u64 = 4 << 10;
const DESCRIPTORS_MORE_MAX: usize = 8;

async fn steady_work_with_trouble_holds(site: &Arc<Site>) {
    soak(site, Duration::from_secs(15), Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: tests/run --long"]
async fn long_steady_work_with_trouble_holds() {
    let Some(site) = Site::real_behind_gate().await else { return };
    let minutes = std::env::var(MINUTES).ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(60);
    soak(&Arc::new(site), Duration::from_secs(60 * minutes), Duration::from_secs(60)).await;
}

/// What the process holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    memory_kib: u64,
    descriptors: usize,
}

async fn soak(site: &Arc<Site>, time: Duration, trouble_every: Duration) {
    let mut rig = Rig::new(site, "");
    rig.patience *= 5;
    rig.start();
    rig.assert_idle().await;
    let (mut rng, start) = (Rng::new(), Instant::now());
    let (mut samples, mut faults) = (Vec::new(), 0);
    let (mut trouble_at, mut files) = (start + trouble_every, 0_u32);
    while start.elapsed() < time {
        work(&rig, &mut rng, files);
        files += 1;
        if Instant::now() >= trouble_at {
            trouble_at += trouble_every;
            faults += 1;
            make_trouble(site, &mut rng).await;
        }
        if files.is_multiple_of(FILES_PER_S) {
            samples.push(sample(&rig));
        }
        sleep_until(start + Duration::from_secs(1) / FILES_PER_S * files).await;
    }
    site.gate().clear_faults();
    let commits = rig.assert_all_holds().await;
    // The first fifth warms up.
    let rest = &samples[samples.len() / 5..];
    let (early, late) = rest.split_at(rest.len() / 2);
    let memory = |samples: &[Sample]| median(samples.iter().map(|sample| sample.memory_kib).collect());
    let descriptors = |samples: &[Sample]| samples.iter().map(|sample| sample.descriptors).max();
    eprintln!(
        "{} s, {} files in {commits} commits, {faults} faults: none lost, torn or committed twice; memory {} KiB, then \
         {} KiB (at most {}); descriptors {}, then {}",
        time.as_secs(),
        rig.wanted().len(),
        memory(early),
        memory(late),
        rig.peak_memory_kib(),
        descriptors(early).unwrap_or(0),
        descriptors(late).unwrap_or(0),
    );
    assert!(memory(late) <= memory(early) + GROWTH_MAX_KIB, "memory grows");
    assert!(
        descriptors(late) <= descriptors(early).map(|most| most + DESCRIPTORS_MORE_MAX),
        "descriptors grow"
    );
    rig.assert_a_restart_changes_nothing().await;
}

/// One file is finished; one in five was there before. A directory for each minute.
fn work(rig: &Rig, rng: &mut Rng, number: u32) {
    let number =
        if number > 0 && rng.u8(..5) == 0 { rng.u32(number.saturating_sub(2_000)..number) } else { number };
    let mut content = vec![0; rng.usize(1..20_000)];
    rng.fill(&mut content);
    let path = format!("minute {}/file {number}.dat", number / (60 * FILES_PER_S));
    if rng.bool() {
        rig.write(&path, content);
    } else {
        rig.ledger.finished(&path, &content);
        let beside = rig.folder.join(format!("{path}.tmp"));
        fs::create_dir_all(beside.parent().unwrap()).unwrap();
        fs::write(&beside, content).unwrap();
        fs::rename(beside, rig.folder.join(path)).unwrap();
    }
}

async fn make_trouble(site: &Site, rng: &mut Rng) {
    let gate = site.gate();
    let ops = [Op::OpenWorkspace, Op::StageFiles, Op::MergeWorkspace, Op::PutFiles, Op::ReadEntry];
    let op = *rng.choice(&ops).unwrap();
    match rng.u8(..8) {
        0 => {
            gate.go_down().await;
            sleep(Duration::from_millis(700)).await;
            gate.come_up();
        }
        1 => gate.cut_connections(),
        2 => gate.fault(Rule::on(op, Action::ResetAfter)),
        3 => gate.fault(Rule::on(op, Action::ResetBefore).times(3)),
        4 => gate.fault(Rule::on(op, Action::reply(503, "")).times(2)),
        5 => gate.fault(Rule::on(op, Action::reply(500, "<html>oh</html>")).times(4)),
        6 => gate.fault(Rule::on(op, Action::LandLate(Duration::from_millis(500)))),
        _ => gate.fault(Rule::on(Op::StageFiles, Action::LoseHalf)),
    }
}

fn sample(rig: &Rig) -> Sample {
    let proc = format!("/proc/{}", rig.pid().as_raw_nonzero());
    let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let memory_kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    Sample { memory_kib, descriptors }
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}
