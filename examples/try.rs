//! Runs the whole service on a folder of yours against a server that lives in this process, and shows the commits as
//! they come. Nothing leaves this machine, and nothing in the folder is touched. The server keeps all of it in memory.
//!
//!     cargo run --release --example try -- FOLDER

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oxen_sync::config::Env;
use oxen_sync::path::printable;
use oxen_sync::service;

#[path = "../tests/standin/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use all of it")]
mod standin;

use standin::{CommitMade, StandIn};

const REPO: &str = "demo/try";
const BRANCH: &str = "main";
/// The largest folder that is taken: the server keeps it in memory.
const BYTES_MAX: u64 = 1 << 30;
/// Paths shown of each commit.
const SHOWN_MAX: usize = 8;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: cargo run --release --example try -- FOLDER");
        return ExitCode::from(2);
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(show(&folder)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(folder: &Path) -> Result<(), String> {
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", printable(folder)))?;
    if !folder.is_dir() {
        return Err(format!("{} is no directory", printable(&folder)));
    }
    let bytes = bytes_below(&folder);
    if bytes > BYTES_MAX {
        let bytes = bytesize::ByteSize(bytes);
        return Err(format!(
            "this example keeps everything in memory, and {bytes} are much; take a smaller folder"
        ));
    }
    // What cannot be pushed is told as the service tells it.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    let scratch = std::env::temp_dir().join(format!("oxen-sync-try-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", printable(&scratch)))?;
    let server = StandIn::start().await;
    let config = write_config(&scratch, &folder, &server.url())?;

    println!("A server is at work in this process; the folder is {}.", printable(&folder));
    println!("Change something in it and watch the commits come. Ctrl-C ends it.\n");
    let commits = show_commits(&server);
    let service = service::run(&config, Env::default());
    let ended = tokio::select! {
        ended = service => ended.map_err(|error| error.to_string()),
        () = commits => Ok(()),
    };
    let files = server.tree(REPO, BRANCH);
    let bytes: usize = files.values().map(axum::body::Bytes::len).sum();
    let (count, plural) = (files.len(), if files.len() == 1 { "" } else { "s" });
    println!("\nThe branch holds {count} file{plural}, {bytes} bytes. All of it is gone with this process.");
    let _ = std::fs::remove_dir_all(&scratch);
    ended
}

/// The size of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    files
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.len())
        .sum()
}

fn write_config(scratch: &Path, folder: &Path, url: &str) -> Result<PathBuf, String> {
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
    let path =
        |path: &Path| path.to_str().ok_or("its path is not UTF-8").map_err(str::to_owned).and_then(quoted);
    let text = format!(
        "state_dir = {}\n\n[server]\nurl = {}\n\n[author]\nname = \"try\"\nemail = \"try@localhost\"\n\n\
         [[folder]]\npath = {}\nrepo = {}\nbranch = {}\non_delete = \"mirror\"\nsettle.quiet = \"500ms\"\n\
         batch.quiet = \"300ms\"\n",
        path(&scratch.join("state"))?,
        quoted(url)?,
        path(folder)?,
        quoted(REPO)?,
        quoted(BRANCH)?,
    );
    let file = scratch.join("oxen-sync.toml");
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", printable(&file)))?;
    Ok(file)
}

/// Prints each commit when it is made; does not end by itself.
async fn show_commits(server: &StandIn) {
    let mut events = server.events();
    let mut shown = 0;
    loop {
        let commits = server.commits(REPO, BRANCH);
        for commit in commits.iter().skip(shown) {
            print_commit(commit);
        }
        shown = commits.len();
        if events.changed().await.is_err() {
            return;
        }
    }
}

fn print_commit(commit: &CommitMade) {
    println!("commit {}  {}", commit.id, printable(&commit.message));
    let put = commit.put.iter().map(|path| ("+", path));
    let removed = commit.removed.iter().map(|path| ("-", path));
    for (sign, path) in put.chain(removed).take(SHOWN_MAX) {
        println!("  {sign} {}", printable(path));
    }
    let count = commit.put.len() + commit.removed.len();
    if count > SHOWN_MAX {
        println!("  … and {} more", count - SHOWN_MAX);
    }
}
