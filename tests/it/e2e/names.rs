//! Names that someone will use: right on the branch, or refused with a reason.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use oxen_sync::path::printable;

use super::on_both;
use crate::support::rig::Rig;
use crate::support::site::Site;

on_both! {
    odd_names_stand_on_the_branch_or_are_refused_with_a_reason,
    files_around_every_limit_stand_on_the_branch,
    a_put_takes_what_it_can_carry_and_names_the_rest,
}

fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "two words",
        " leading",
        "trailing ",
        "trailing.",
        "...",
        "..foo",
        "-rf",
        "--help",
        ".hidden",
        "a~b",
        "12:30:05.csv",
        "why?.txt",
        "100%",
        "%41",
        "%2e%2e",
        "%2F",
        "#1",
        "a#b",
        "a+b",
        "a;b=c",
        "a&b=c",
        "a@b",
        "$HOME",
        "`id`",
        "^a",
        "a,b",
        "star*",
        "q[1]",
        "{brace}",
        "<b>",
        "a|b",
        "'single'",
        "a\"double\"",
        "x.gz",
        "x.csv",
        "x.parquet",
        "CON",
        "main",
        "file",
        "🐂",
        "größe",
        "caf\u{e9}",
        "cafe\u{301}",
        "日本語",
        "\u{202e}gpj.exe",
        "\u{feff}bom",
        "\u{2028}",
        "\u{a0}",
        "new\nline",
        "\n",
        "tab\there",
        "cr\rname",
        "\r\n",
        "bell\u{7}",
        "esc\u{1b}[31m",
        "del\u{7f}",
        "c1\u{85}",
        "back\\slash",
        "\\",
        "..\\up",
        ".oxen",
        ".OXEN",
        "oxen~1",
        ".oxen. ",
        ".oxen:x",
    ]
    .map(|name| name.as_bytes().to_vec())
    .into();
    names.push(b"not-utf8-\xff".to_vec());
    names.push(b"latin1-\xe9".to_vec());
    names.push(vec![b'n'; 255]);
    names.push(vec![b'n'; 250]);
    names.push("é".repeat(127).into_bytes());
    names
}

/// Whether nothing can carry the name, or not at this size.
fn is_refused(path: &[u8], is_empty: bool) -> bool {
    let is_control = |c: &u8| *c < b' ' && *c != b'\t' || *c == 0x7f;
    let is_reserved =
        |segment: &[u8]| [&b".oxen"[..], b".OXEN", b"oxen~1", b".oxen. ", b".oxen:x"].contains(&segment);
    std::str::from_utf8(path).is_err()
        || path.contains(&b'\\')
        || path.split(|byte| *byte == b'/').any(is_reserved)
        || is_empty && path.iter().any(is_control)
}

async fn odd_names_stand_on_the_branch_or_are_refused_with_a_reason(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let mut refused = Vec::new();
    let content = vec![b'x'; (1 << 20) + 1];
    for (number, name) in names().into_iter().enumerate() {
        let join = |parts: &[&[u8]]| parts.join(&b'/');
        let mut files = vec![
            (name.clone(), format!("at the root {number}").into_bytes()),
            (join(&[b"empty", &name]), Vec::new()),
            (join(&[b"dirs", &name, b"inside"]), format!("in a directory {number}").into_bytes()),
        ];
        // Above a mebibyte it goes another way; the same content costs no bytes but the first time.
        files.push((join(&[b"large", &name]), content.clone()));
        for (path, content) in files {
            if is_refused(&path, content.is_empty()) {
                refused.push(path.clone());
            } else {
                rig.ledger.finished(std::str::from_utf8(&path).unwrap(), &content);
            }
            let file = rig.folder.join(OsStr::from_bytes(&path));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
    }
    rig.left_out.clone_from(&refused);
    rig.start();
    rig.assert_all_holds().await;

    let status = rig.folder_status().await;
    let told: BTreeMap<_, _> =
        status.problems.iter().map(|problem| (problem.path.clone(), problem.reason.clone())).collect();
    let expected: Vec<String> = refused.iter().map(|path| printable(OsStr::from_bytes(path))).collect();
    for path in &expected {
        let reason = told.get(path).unwrap_or_else(|| panic!("{path} is neither on the branch nor told"));
        assert!(reason.contains("rename"), "the reason for {path} says what to do: {reason}");
    }
    let surplus: Vec<_> = told.iter().filter(|(path, _)| !expected.contains(*path)).collect();
    assert!(surplus.is_empty(), "refused although it could be carried: {surplus:?}");
    assert_eq!(usize::try_from(status.failed).unwrap(), refused.len());
    let text = rig.run(&["status".as_ref()]).await.out;
    assert!(
        text.contains("back\\\\slash") && !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text}"
    );
    rig.stop().await;
}

/// In ways that differ: by PUT, by form, in one part, in several.
async fn files_around_every_limit_stand_on_the_branch(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "");
    let fill = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    let sizes: [usize; 7] = [0, 1, 64 << 10, 1 << 20, 2 << 20, 4 << 20, 10 << 20];
    for size in sizes {
        for near in [size.wrapping_sub(1), size, size + 1] {
            if near < 32 << 20 {
                rig.write(&format!("d/{near} bytes"), fill(near));
            }
        }
    }
    rig.start();
    rig.assert_all_holds().await;
    // One alone goes by another way than in company.
    for near in [(2 << 20) - 1000, 2 << 20, (2 << 20) + 1] {
        rig.write(&format!("alone/{near} bytes"), fill(near));
        rig.settled().await;
    }
    rig.assert_all_holds().await;
    rig.stop().await;
}

async fn a_put_takes_what_it_can_carry_and_names_the_rest(site: &Arc<Site>) {
    let mut rig = Rig::new(site, "transport = \"put\"");
    for name in ["plain", "d/two words", "d/e/100%", "12:30", "large"] {
        rig.write(name, if name == "large" { vec![1; 3 << 20] } else { name.as_bytes().to_vec() });
    }
    rig.left_out = vec![b"12:30".to_vec(), b"large".to_vec()];
    rig.start();
    rig.assert_all_holds().await;
    let mut told: Vec<_> =
        rig.folder_status().await.problems.into_iter().map(|problem| problem.path).collect();
    told.sort();
    assert_eq!(told, ["12:30", "large"]);
    rig.stop().await;
}

/// Writes `gib` GiB of which no block is like another, most of them holes.
fn write_huge(file: &Path, gib: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(file).unwrap();
    file.set_len(gib << 30).unwrap();
    for at in (0..gib << 30).step_by(1 << 20) {
        file.write_all_at(&at.to_le_bytes(), at).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs 6 GiB of disk and minutes: tests/run --long"]
async fn long_a_file_of_3_gib_streams_in_little_memory() {
    let Some(site) = Site::real().await else { return };
    // Memory may be what temporary files are kept in.
    let dir = tempfile::TempDir::with_prefix_in("rig-", env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut rig = Rig::within(dir, &Arc::new(site), "e2e/huge", "main", "", "");
    write_huge(&rig.folder.join("huge"), 3);
    let start = std::time::Instant::now();
    rig.start();
    rig.until_status("the file is proved", |report| report.folders[0].files == 1).await;
    let (taken, peak) = (start.elapsed(), rig.peak_memory_kib());
    let wanted = rig.settled().await;
    rig.oracle().assert_bytes(&rig.folder, &rig.place, &wanted).await;
    eprintln!("3 GiB in {taken:?}, peak memory {peak} KiB");
    assert!(peak <= 64 << 10, "peak memory {peak} KiB");
    rig.stop().await;
}
