use std::net::TcpListener;

use super::{Findings, Level};
use crate::config::{Config, read_page_key};
use crate::page::trouble;
use crate::status::socket;

/// Whether the page can be served where the config wants it, and its key be taken.
pub(super) async fn check_page(config: &Config, findings: &mut Findings) {
    let Some(page) = &config.page else { return };
    let url = format!("http://{}/", page.listen);
    if let Some(Err(error)) = page.key_file.as_deref().map(read_page_key) {
        findings.add(Level::Failure, "page", error.to_string());
    }
    let report = socket::fetch(&config.state_dir).await.ok().flatten();
    let served = report.and_then(|report| report.page).filter(|page| page.url == url);
    let is_served = served.is_some_and(|page| page.trouble.is_none());
    match if is_served { Ok(None) } else { TcpListener::bind(page.listen).map(Some) } {
        Ok(None) => findings.add(Level::Ok, "page", format!("{url} is served by the running service")),
        Ok(Some(_)) => findings.add(Level::Ok, "page", format!("{url} can be served")),
        // Everything else goes on without it.
        Err(error) => findings.add(Level::Warning, "page", trouble(page.listen, &error)),
    }
}
