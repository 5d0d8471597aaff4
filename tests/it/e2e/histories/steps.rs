//! What may happen, and at random.

use std::time::Duration;

use oxen_sync::oxen::Op;
use proptest::prelude::*;

use crate::standin::Action;

/// One thing that happens. Files, directories and places are numbers, taken modulo how many there are, so that a sequence
/// still means something when a part of it is left out.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Create {
        place: usize,
        len: usize,
        fill: u8,
    },
    Append {
        file: usize,
        len: usize,
        fill: u8,
    },
    Rewrite {
        file: usize,
        len: usize,
        fill: u8,
    },
    SaveAtomically {
        file: usize,
        len: usize,
        fill: u8,
    },
    /// Other bytes, and all that `stat` usually tells apart is as it was.
    RewriteUnseen {
        file: usize,
        fill: u8,
    },
    RenameFile {
        file: usize,
        place: usize,
    },
    RenameDir {
        dir: usize,
        place: usize,
    },
    Delete {
        file: usize,
    },
    DeleteDir {
        dir: usize,
    },
    Chmod {
        file: usize,
        mode: u32,
    },
    Symlink {
        file: usize,
        place: usize,
    },
    HardLink {
        file: usize,
        place: usize,
    },
    MakeDirs {
        place: usize,
    },
    MoveFileOut {
        file: usize,
    },
    MoveDirOut {
        dir: usize,
    },
    MoveIn {
        place: usize,
    },
    Wait {
        ms: u64,
    },
    Fault {
        op: usize,
        action: usize,
    },
    Kill,
    Stop,
    CutConnections,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1 => Just(0), 8 => 1_usize..5_000, 1 => 1_100_000_usize..1_400_000];
    let content = (any::<usize>(), len, any::<u8>());
    let (file, place) = (any::<usize>(), any::<usize>());
    prop_oneof![
        12 => content.clone().prop_map(|(place, len, fill)| Step::Create { place, len, fill }),
        4 => content.clone().prop_map(|(file, len, fill)| Step::Append { file, len, fill }),
        5 => content.clone().prop_map(|(file, len, fill)| Step::Rewrite { file, len, fill }),
        5 => content.prop_map(|(file, len, fill)| Step::SaveAtomically { file, len, fill }),
        3 => (file, any::<u8>()).prop_map(|(file, fill)| Step::RewriteUnseen { file, fill }),
        4 => (file, place).prop_map(|(file, place)| Step::RenameFile { file, place }),
        4 => (file, place).prop_map(|(dir, place)| Step::RenameDir { dir, place }),
        4 => file.prop_map(|file| Step::Delete { file }),
        2 => file.prop_map(|dir| Step::DeleteDir { dir }),
        1 => (file, prop_oneof![Just(0o600), Just(0o644), Just(0o755)])
            .prop_map(|(file, mode)| Step::Chmod { file, mode }),
        2 => (file, place).prop_map(|(file, place)| Step::Symlink { file, place }),
        2 => (file, place).prop_map(|(file, place)| Step::HardLink { file, place }),
        2 => place.prop_map(|place| Step::MakeDirs { place }),
        2 => file.prop_map(|file| Step::MoveFileOut { file }),
        2 => file.prop_map(|dir| Step::MoveDirOut { dir }),
        3 => place.prop_map(|place| Step::MoveIn { place }),
        12 => (0_u64..250).prop_map(|ms| Step::Wait { ms }),
        4 => (0..OPS.len(), 0..actions().len()).prop_map(|(op, action)| Step::Fault { op, action }),
        1 => Just(Step::Kill),
        1 => Just(Step::Stop),
        1 => Just(Step::CutConnections),
    ]
}

pub(super) const OPS: &[Op] = &[
    Op::ReadBranch,
    Op::OpenWorkspace,
    Op::StageFiles,
    Op::StageRemovals,
    Op::BeginUpload,
    Op::PutPart,
    Op::MergeWorkspace,
    Op::ReadEntry,
    Op::DeleteWorkspace,
];

pub(super) fn actions() -> Vec<Action> {
    vec![
        Action::ResetBefore,
        Action::ResetInside { after_bytes: 10 },
        Action::ResetAfter,
        Action::LandLate(Duration::from_millis(300)),
        Action::CutAnswer { after_bytes: 9 },
        Action::Delay(Duration::from_millis(200)),
        Action::StageHalf,
        Action::LoseHalf,
        Action::reply(500, ""),
        Action::reply(503, ""),
        Action::reply(200, r#"{"status":"success","#),
        Action::reply(200, r#"{"status":"error","status_message":"no space left on device"}"#),
    ]
}

/// Names of files and directories alike, so that the one takes the other's place.
const NAMES: &[&str] = &["a", "b", "c c", "ü.dat"];

/// The path of a place: one to three names.
pub(super) fn path_of(place: usize) -> String {
    let mut rest = place;
    let mut next = |count: usize| {
        let digit = rest % count;
        rest /= count;
        digit
    };
    let depth = 1 + next(3);
    (0..depth).map(|_| NAMES[next(NAMES.len())]).collect::<Vec<_>>().join("/")
}
