//! The addresses of the API's pages.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

use super::RepoName;

/// All but the characters that never need it, and `+`: some of the server's routes do not decode `%2B`, and
/// all take a bare one for what it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'+');

/// The part of a URL behind the server's address.
pub(super) struct Route {
    path: String,
    query: Option<String>,
}

impl Route {
    /// One of the server's own pages, below `/api`.
    pub(super) fn api(tail: &'static str) -> Self {
        Self { path: format!("/api{tail}"), query: None }
    }

    /// A page of a repository.
    pub(super) fn repo(repo: &RepoName, tail: &'static str) -> Self {
        // Both parts are ASCII that needs no encoding, by the type's invariant.
        Self { path: format!("/api/repos/{}/{}{tail}", repo.namespace(), repo.name()), query: None }
    }

    /// Text of ours behind it, as it is.
    pub(super) fn then(mut self, tail: &'static str) -> Self {
        self.path.push_str(tail);
        self
    }

    /// A slash and a name or path behind it; its slashes stay slashes. An empty one adds nothing.
    pub(super) fn path(mut self, path: &str) -> Self {
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            self.path.push('/');
            self.path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        self
    }

    /// Asks for one page of a list; pages count from 1.
    pub(super) fn page(mut self, page: usize, page_size: usize) -> Self {
        self.query = Some(format!("page={page}&page_size={page_size}"));
        self
    }

    /// The whole address, below the server's. `None` where a segment is `.` or `..`: an address that holds one leads to
    /// another page.
    pub(super) fn url(&self, base: &Url) -> Option<Url> {
        let path = format!("{}{}", base.path().trim_end_matches('/'), self.path);
        let mut url = base.clone();
        url.set_path(&path);
        url.set_query(self.query.as_deref());
        url.set_fragment(None);
        (url.path() == path).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str, route: &Route) -> String {
        route.url(&base.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn no_segment_leads_to_another_page() {
        let repo = "lab/cells".parse().unwrap();
        for path in ["..", "a/../b", ".", "a/.", "../../../../x"] {
            assert_eq!(
                Route::repo(&repo, "/dir").path(path).url(&"http://h/o".parse().unwrap()),
                None,
                "{path}"
            );
        }
        for (path, sent) in [("%2e%2e/%2E", "%252e%252e/%252E"), ("...", "..."), ("..a", "..a")] {
            assert_eq!(
                url("http://h", &Route::repo(&repo, "/dir").path(path)),
                format!("http://h/api/repos/lab/cells/dir/{sent}")
            );
        }
    }

    #[test]
    fn every_segment_is_encoded_and_slashes_stay() {
        let repo = "lab/cells.1".parse().unwrap();
        let route = Route::repo(&repo, "/file").path("rig/7").path("a b/#?%;\"'\\&=/größe\n/...");
        assert_eq!(
            url("http://host:3000", &route),
            "http://host:3000/api/repos/lab/cells.1/file/rig/7/a%20b/%23%3F%25%3B%22%27%5C%26%3D/\
             gr%C3%B6%C3%9Fe%0A/..."
        );
        let route = Route::repo(&repo, "/dir").path("a+b").path("").page(2, 10);
        assert_eq!(
            url("https://host/oxen/?x#y", &route),
            "https://host/oxen/api/repos/lab/cells.1/dir/a+b?page=2&page_size=10"
        );
    }
}
