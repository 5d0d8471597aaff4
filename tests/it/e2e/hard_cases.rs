//! The cases that programs of this kind get wrong, each under its name. Those that need more room have rooms of their own;
//! the table in tests/README.md names the tests of all of them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxen_sync::oxen::Op;
use oxen_sync::status::FolderState;
use tokio::time::sleep;

use super::{before_both, on_both};
use crate::standin::{Action, Rule};
use crate::support::rig::Rig;
use crate::support::site::Site;

mod at_rest {
    use super::*;

    on_both! {
        own_channel_full,
        new_directory_race,
        vanishing_directories_while_watches_are_set_up,
        still_being_written,
        same_size_and_mtime_other_content,
        atomic_save,
        directory_rename,
        root_deleted_and_made_anew,
        symlinks_and_loops,
        feedback,
    }

    use super::cases::*;
}

mod on_the_way {
    use super::*;

    before_both! {
        changes_while_read_or_sent,
        vanished_before_upload,
    }

    use super::cases::*;
}

mod cases {
    use super::*;

    /// More happens at once than any queue holds: it collapses to directories, and nothing is missed.
    pub(super) async fn own_channel_full(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        // The server takes seconds for each thousand of files, and longer beside others.
        rig.patience *= 3;
        rig.start();
        rig.assert_idle().await;
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let rig = &rig;
                scope.spawn(move || {
                    for n in 0..1_500 {
                        rig.write(&format!("d{}/e{}/{writer} {n}", n % 3, n % 40), format!("{writer} {n}"));
                    }
                });
            }
        });
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    /// Files in a directory whose watch is not there yet tell nobody.
    pub(super) async fn new_directory_race(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        rig.start();
        rig.assert_idle().await;
        for tree in 0..60 {
            let mut dir = format!("tree {tree}");
            for level in 0..6 {
                rig.write(&format!("{dir}/file"), format!("{tree} {level}"));
                dir = format!("{dir}/{level}");
            }
        }
        // And a whole tree that appears at once.
        let away = rig.dir().join("away");
        for n in 0..100 {
            let path = format!("a/{}/b/{n}", n % 9);
            fs::create_dir_all(away.join(&path).parent().unwrap()).unwrap();
            fs::write(away.join(&path), path.as_bytes()).unwrap();
            rig.ledger.finished(&format!("moved in/{path}"), path.as_bytes());
        }
        fs::rename(away, rig.folder.join("moved in")).unwrap();
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    pub(super) async fn vanishing_directories_while_watches_are_set_up(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "on_delete = \"mirror\"");
        for n in 0..300 {
            rig.write(&format!("{}/{}/{n}", n % 20, n % 7), format!("{n}"));
        }
        let (ends, folder) = (Arc::new(AtomicBool::new(false)), rig.folder.clone());
        let restless = {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                let mut n = 0_u32;
                while !ends.load(Ordering::Relaxed) {
                    let dir = folder.join(format!("{}/comes and goes {}", n % 20, n % 3));
                    fs::create_dir_all(dir.join("below/it")).unwrap();
                    fs::remove_dir_all(&dir).unwrap();
                    n += 1;
                }
            })
        };
        for _ in 0..3 {
            rig.start();
            rig.until_status("it is covered", |report| {
                !matches!(report.folders[0].state, FolderState::Starting | FolderState::Scanning)
            })
            .await;
            rig.stop().await;
        }
        rig.start();
        ends.store(true, Ordering::Relaxed);
        restless.join().unwrap();
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    /// A writer that keeps a file open is waited for, however quiet it is.
    pub(super) async fn still_being_written(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        rig.write("other", "1");
        rig.start();
        let mut file = File::create(rig.folder.join("open")).unwrap();
        file.write_all(b"the first ").unwrap();
        // Much longer than the quiet time; other files go on meanwhile.
        for n in 0..4 {
            sleep(Duration::from_millis(250)).await;
            rig.write(&format!("meanwhile {n}"), "1");
        }
        rig.until_status("it is told", |report| report.folders[0].busy > 0).await;
        rig.ledger.finished("open", b"the first and the rest");
        file.write_all(b"and the rest").unwrap();
        drop(file);
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    pub(super) async fn same_size_and_mtime_other_content(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        rig.write("while it runs", "AAAA");
        rig.write("while it does not", "AAAA");
        rig.start();
        rig.assert_all_holds().await;
        rewrite_unseen(&rig, "while it runs");
        rig.assert_all_holds().await;
        rig.stop().await;
        rewrite_unseen(&rig, "while it does not");
        rig.start();
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    fn rewrite_unseen(rig: &Rig, path: &str) {
        let mut file = OpenOptions::new().write(true).open(rig.folder.join(path)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        rig.ledger.finished(path, b"BBBB");
        file.write_all(b"BBBB").unwrap();
        file.set_modified(modified).unwrap();
    }

    /// Only the name that a file is saved under ever stands on the branch; the ledger knows no other.
    pub(super) async fn atomic_save(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "batch.quiet = \"0s\"");
        rig.write("notes.txt", "0");
        rig.start();
        rig.settled().await;
        for n in 0..30 {
            let content = format!("version {n}");
            rig.ledger.finished("notes.txt", content.as_bytes());
            // As vim, as other editors, and as a script would.
            for beside in ["4913", ".notes.txt.swp", "notes.txt.new"] {
                let mut file = File::create(rig.folder.join(beside)).unwrap();
                file.write_all(content.as_bytes()).unwrap();
                file.sync_all().unwrap();
            }
            fs::rename(rig.folder.join("notes.txt.new"), rig.folder.join("notes.txt")).unwrap();
            fs::remove_file(rig.folder.join("4913")).unwrap();
            fs::remove_file(rig.folder.join(".notes.txt.swp")).unwrap();
            sleep(Duration::from_millis(40)).await;
        }
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    /// The branch follows, the old names go, and files that were there before are not read as new ones.
    pub(super) async fn directory_rename(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "on_delete = \"mirror\"");
        let content = |n: usize| format!("{n}").repeat(50);
        (0..80).for_each(|n| rig.write(&format!("run 1/{}/{n}", n % 5), content(n)));
        rig.start();
        rig.assert_all_holds().await;
        for (from, to) in [("run 1", "run 2"), ("run 2", "done/run 2"), ("done/run 2/3", "three")] {
            fs::create_dir_all(rig.folder.join("done")).unwrap();
            for n in 0..80 {
                let old = format!("run 1/{}/{n}", n % 5);
                let new = match to {
                    "run 2" => old.replace("run 1", "run 2"),
                    "done/run 2" => old.replace("run 1", "done/run 2"),
                    _ if n % 5 == 3 => format!("three/{n}"),
                    _ => continue,
                };
                rig.ledger.finished(&new, content(n).as_bytes());
            }
            fs::rename(rig.folder.join(from), rig.folder.join(to)).unwrap();
            rig.assert_all_holds().await;
        }
        rig.stop().await;
    }

    pub(super) async fn root_deleted_and_made_anew(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        rig.write("before/a", "1");
        rig.start();
        rig.settled().await;
        for n in 0..2 {
            fs::remove_dir_all(&rig.folder).unwrap();
            rig.until_status("it is told", |report| report.folders[0].state == FolderState::Broken).await;
            fs::create_dir(&rig.folder).unwrap();
            rig.write(&format!("after {n}/b"), format!("{n}"));
            rig.assert_all_holds().await;
        }
        let tree = rig.oracle().tree(&rig.oracle().head().await.unwrap()).await;
        assert!(tree.contains_key("before/a"), "an archive keeps what is gone");
        rig.stop().await;
    }

    pub(super) async fn symlinks_and_loops(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "on_delete = \"mirror\"");
        let outside = rig.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        rig.write("d/file", "1");
        let folder = rig.folder.clone();
        let link = |to: &Path, at: &str| symlink(to, folder.join(at)).unwrap();
        link(&outside.join("secret"), "to a file");
        link(&outside, "to a directory");
        link(Path::new(".."), "d/up");
        link(Path::new("itself"), "itself");
        link(Path::new("nowhere"), "dangling");
        rig.start();
        rig.assert_all_holds().await;
        let report = rig.until_status("they are counted", |report| report.folders[0].skipped == 5).await;
        assert!(report.folders[0].state == FolderState::Watching, "{report:#?}");
        // A link that takes a file's place removes it, and leads nowhere.
        fs::remove_file(rig.folder.join("d/file")).unwrap();
        link(&outside.join("secret"), "d/file");
        rig.write("e", "1");
        rig.assert_all_holds().await;
        rig.stop().await;
    }

    /// What the program itself does, reading all files among it, is no change.
    pub(super) async fn feedback(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        (0..200).for_each(|n| rig.write(&format!("{}/{n}", n % 10), format!("{n}")));
        rig.start();
        rig.assert_all_holds().await;
        let (head, before) = (rig.oracle().head().await, ticks(&rig));
        sleep(Duration::from_secs(3)).await;
        let spent = ticks(&rig) - before;
        assert!(spent <= 3, "it spends {spent} ticks of the processor on nothing");
        assert_eq!(rig.oracle().head().await, head);
        rig.stop().await;
    }

    /// The time that the process has spent, in ticks of usually 10 ms.
    fn ticks(rig: &Rig) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", rig.pid().as_raw_nonzero())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// A file is written to while its parts are on their way: no commit holds a mixture.
    pub(super) async fn changes_while_read_or_sent(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "");
        rig.start();
        rig.assert_idle().await;
        let mut content: Vec<u8> = (0..6_u32 << 20).flat_map(u32::to_le_bytes).collect();
        let gate = site.gate();
        for round in 0..3_u8 {
            let before = gate.count(Op::PutPart).requests;
            gate.fault(Rule::on(Op::PutPart, Action::Delay(Duration::from_millis(700))).times(2));
            content[usize::from(round)] ^= 0x55;
            rig.write("large", &content);
            gate.until("a part is on its way", |gate| gate.count(Op::PutPart).requests > before).await;
            // At its end, and at its beginning, which is sent already.
            let end = content.len() - 5;
            (content[7], content[end]) = (round, round);
            rig.ledger.finished("large", &content);
            let file = File::options().write(true).open(rig.folder.join("large")).unwrap();
            file.write_all_at(&content[end..], end as u64).unwrap();
            file.write_all_at(&content[..8], 0).unwrap();
            drop(file);
            rig.assert_all_holds().await;
        }
        rig.stop().await;
    }

    /// What is gone leaves its batch, and holds up nothing.
    pub(super) async fn vanished_before_upload(site: &Arc<Site>) {
        let mut rig = Rig::new(site, "transport = \"workspace\"");
        rig.write("first", "1");
        rig.start();
        rig.settled().await;
        rig.assert_idle().await;
        let gate = site.gate();
        gate.fault(Rule::on(Op::OpenWorkspace, Action::Delay(Duration::from_millis(600))));
        let before = gate.count(Op::OpenWorkspace).requests;
        fs::create_dir(rig.folder.join("d")).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(rig.folder.join("d").join(name), name).unwrap();
        }
        fs::write(rig.folder.join("large and gone"), vec![7; 2 << 20]).unwrap();
        rig.ledger.finished("d/b", b"b");
        gate.until("the batch is on its way", |gate| gate.count(Op::OpenWorkspace).requests > before).await;
        for name in ["d/a", "d/c", "large and gone"] {
            fs::remove_file(rig.folder.join(name)).unwrap();
        }
        rig.assert_all_holds().await;
        let report = rig.folder_status().await;
        assert_eq!((report.failed, report.retry.is_some()), (0, false), "{report:#?}");
        rig.stop().await;
    }
}
