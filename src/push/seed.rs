use super::Target;
use super::deliver::{Failure, Pusher};
use crate::path::{LocalPath, RepoPath};

const PAGE_SIZE: usize = 2_000;

impl Pusher {
    /// Lists what the branch holds at the folder's place into the state, once in the state's life, so that what the
    /// server has already is not sent again. Memory holds one page.
    pub(super) async fn seed(&self) -> Result<(), Failure> {
        let folder = self.options.folder;
        if self.state.is_seeded(folder)? {
            return Ok(());
        }
        let head = self.target.head().await?;
        let mut dirs = vec![self.options.remote_dir.clone()];
        let mut files = 0_usize;
        while let Some(dir) = dirs.pop() {
            let mut page = 1;
            loop {
                let Target { client, repo, .. } = &self.target;
                let listed = client.list_dir(repo, &head, &dir, page, PAGE_SIZE).await?;
                let Some(listed) = listed else { break };
                let mut rows = Vec::new();
                for entry in &listed.entries {
                    let Some((path, local)) = self.place_of(&dir, &entry.name) else { continue };
                    match entry.xxh3 {
                        Some(xxh3) if !entry.is_dir => rows.push((local, entry.size, xxh3)),
                        _ if entry.is_dir => dirs.push(path),
                        _ => {}
                    }
                }
                files += rows.len();
                self.blocking(move |state| state.seed_files(folder, &rows)).await?;
                if page >= listed.total_pages {
                    break;
                }
                page += 1;
            }
        }
        self.state.set_seeded(folder)?;
        if files > 0 {
            tracing::info!(
                folder = %self.options.path.display(), files,
                "the branch was listed; what it holds already is not sent again"
            );
        }
        Ok(())
    }

    /// A listed name as a path on the branch and in the folder; `None` for names that no folder of ours could hold.
    fn place_of(&self, dir: &RepoPath, name: &str) -> Option<(RepoPath, LocalPath)> {
        let path = if dir.is_root() { name.to_owned() } else { format!("{dir}/{name}") };
        let path = RepoPath::parse(&path).ok()?;
        let remote_dir = &self.options.remote_dir;
        let relative = match remote_dir.is_root() {
            true => path.as_str(),
            false => path.as_str().strip_prefix(remote_dir.as_str())?.strip_prefix('/')?,
        };
        let local = LocalPath::new(relative.as_ref())?;
        (RepoPath::for_file(remote_dir, &local).ok()? == path).then_some((path, local))
    }
}
