//! Where a person finds what was pushed: pages of Oxen's website, or of the API where a server has nothing else.

use reqwest::Url;

use crate::oxen::RepoName;

/// The API of Oxen's own server, and its website.
const HUB: [&str; 2] = ["hub.oxen.ai", "www.oxen.ai"];

/// The page of a repository.
pub(super) fn repo(server: &Url, repo: &RepoName) -> Option<String> {
    page(server, repo, None)
}

/// The page of a commit.
pub(super) fn commit(server: &Url, repo: &RepoName, id: &str) -> Option<String> {
    page(server, repo, Some(id))
}

fn page(server: &Url, repo: &RepoName, commit: Option<&str>) -> Option<String> {
    let mut url = server.clone();
    let is_hub = HUB.contains(&server.host_str()?);
    if is_hub {
        url.set_host(Some(HUB[1])).ok()?;
        url.set_path("");
    }
    let mut segments = url.path_segments_mut().ok()?;
    segments.pop_if_empty();
    if !is_hub {
        segments.extend(["api", "repos"]);
    }
    segments.extend([repo.namespace(), repo.name()]);
    if let Some(id) = commit {
        segments.extend([if is_hub { "commit" } else { "commits" }, id]);
    }
    drop(segments);
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_shown_by_the_website_or_else_by_the_api() {
        let repo = "lab/cells".parse().unwrap();
        for (server, shown) in [
            ("https://hub.oxen.ai", "https://www.oxen.ai/lab/cells/commit/a1"),
            ("http://localhost:3000", "http://localhost:3000/api/repos/lab/cells/commits/a1"),
            ("https://h/oxen", "https://h/oxen/api/repos/lab/cells/commits/a1"),
        ] {
            assert_eq!(commit(&server.parse().unwrap(), &repo, "a1").as_deref(), Some(shown));
        }
        let odd = commit(&"https://h".parse().unwrap(), &repo, "../x y").unwrap();
        assert_eq!(odd, "https://h/api/repos/lab/cells/commits/..%2Fx%20y");
        assert_eq!(
            self::repo(&"https://h/".parse().unwrap(), &repo).unwrap(),
            "https://h/api/repos/lab/cells"
        );
    }
}
