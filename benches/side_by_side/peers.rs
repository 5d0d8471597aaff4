//! What a user would take instead.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use oxen_sync::oxen::{BranchName, Client, CommitInfo, FileBody, RepoName};
use walkdir::WalkDir;

use crate::contest::{Bench, Result, Sample, time};

/// Oxen's own Python client, by a workspace.
pub(crate) fn oxen_client(bench: &mut Bench, folder: &Path) -> Result<Sample> {
    let python = std::env::var_os("OXEN_PYTHON").ok_or("OXEN_PYTHON names no Python: use benches/compare")?;
    let (url, repo, home) = (bench.server()?.url(), bench.name("bench/client"), bench.place("home"));
    std::fs::create_dir_all(&home)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/side_by_side/workspace.py");
    time(Command::new(python).arg(script).args([&url, &repo]).arg(folder).env("HOME", home))
}

/// Requests made by hand: 500 files in each, 4 at once, one commit. What the server needs at least.
pub(crate) fn floor(bench: &mut Bench, repo: &str, files: Vec<(String, Vec<u8>)>) -> Result<Sample> {
    let client = bench.server()?.client()?;
    let repo: RepoName = repo.parse()?;
    let start = Instant::now();
    bench.runtime.block_on(push_by_hand(&client, &repo, files))?;
    Ok(Sample { wall: start.elapsed(), cpu: Duration::ZERO, memory_kib: 0 })
}

async fn push_by_hand(client: &Client, repo: &RepoName, mut files: Vec<(String, Vec<u8>)>) -> Result<()> {
    let branch: BranchName = "main".parse()?;
    if !client.repo_exists(repo).await? {
        client.create_repo(repo, None, None).await?;
    }
    client.open_workspace(repo, "by-hand", &branch).await?;
    let mut requests = Vec::new();
    while !files.is_empty() {
        let rest = files.split_off(files.len().min(500));
        let bodies: Vec<FileBody> = std::mem::replace(&mut files, rest)
            .into_iter()
            .map(|(name, content)| FileBody { name, bytes: Bytes::from(content) })
            .collect();
        requests.push(async move {
            let wanted = bodies.len();
            let staged = client.stage_files(repo, "by-hand", bodies).await?;
            if staged.len() == wanted {
                Ok(())
            } else {
                Err::<(), Box<dyn std::error::Error>>("files are missing".into())
            }
        });
    }
    let mut staged = stream::iter(requests).buffer_unordered(4);
    while let Some(staged) = staged.next().await {
        staged?;
    }
    let info =
        CommitInfo { message: "all of it".into(), name: "bench".into(), email: "bench@localhost".into() };
    client.merge_workspace(repo, "by-hand", &branch, &info).await?;
    Ok(())
}

/// The files of a folder for [`floor`], read ahead.
pub(crate) fn read(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(folder)?.to_str().ok_or("a name is not UTF-8")?;
            files.push((path.to_owned(), std::fs::read(entry.path())?));
        }
    }
    Ok(files)
}

/// One multipart request by curl into a workspace, and its commit.
pub(crate) fn curl(bench: &mut Bench, file: &Path) -> Result<Sample> {
    let repo: RepoName = bench.name("bench/curl").parse()?;
    let server = bench.server()?;
    let (client, url) = (server.client()?, server.url());
    let branch: BranchName = "main".parse()?;
    bench.runtime.block_on(async {
        client.create_repo(&repo, None, None).await?;
        client.open_workspace(&repo, "curl", &branch).await
    })?;
    let at = format!("{url}/api/repos/{repo}/workspaces/curl");
    let start = Instant::now();
    let sent = time(
        Command::new("curl")
            .args(["-sSf", "-F"])
            .arg(format!("file[]=@{}", file.to_str().ok_or("the path is not UTF-8")?))
            .arg(format!("{at}/files/")),
    )?;
    let commit = r#"{"author":"bench","email":"bench@localhost","message":"one"}"#;
    time(
        Command::new("curl")
            .args(["-sSf", "-H", "Content-Type: application/json", "-d", commit])
            .arg(format!("{at}/merge/main")),
    )?;
    Ok(Sample { wall: start.elapsed(), ..sent })
}
