//! The servers of a config, their defaults and bounds, and which of them a folder means.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use toml::Spanned;

use super::problem::Finding;
use super::raw::{Raw, RawFolder, RawServer};
use super::validate::{days, minutes};
use super::{Bandwidth, Server, check, schema};
use crate::path::printable;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
const CONCURRENCY: u64 = 16;

/// The servers by name; `None` for one that is there but has problems of its own.
pub(super) type Servers = BTreeMap<String, Option<Arc<Server>>>;

/// All servers of the file.
pub(super) fn servers(raw: &Raw, home: Option<&Path>, findings: &mut Vec<Finding>) -> Servers {
    let mut servers = Servers::new();
    if let Some(server) = &raw.server {
        let built = build_server(Server::DEFAULT_NAME, server, home, findings);
        servers.insert(Server::DEFAULT_NAME.to_owned(), built.map(Arc::new));
    }
    for (name, server) in &raw.servers {
        let word = name.get_ref();
        if word == Server::DEFAULT_NAME {
            findings.push(
                Finding::new(name.span(), "the name `default` is taken by [server]")
                    .help("give this server another name, or write it as [server]"),
            );
        } else if word.is_empty()
            || word.len() > 64
            || !word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            findings.push(Finding::new(
                name.span(),
                "a server's name is 1 to 64 letters of a to z, digits, `-` and `_`",
            ));
        }
        let built = build_server(word, server, home, findings);
        servers.entry(word.clone()).or_insert(built.map(Arc::new));
    }
    servers
}

fn build_server(
    name: &str,
    raw: &RawServer,
    home: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<Server> {
    let url = raw.url.as_ref().and_then(|url| check::url("url", url, findings));
    let proxy: Option<Url> = raw.proxy.as_ref().and_then(|proxy| check::url("proxy", proxy, findings));
    let file = |name, value: &Option<Spanned<String>>, findings: &mut Vec<Finding>| {
        value.as_ref().and_then(|value| check::local_path(name, value, home, findings))
    };
    let ca_file = file("ca_file", &raw.ca_file, findings);
    let key_file = file("key_file", &raw.key_file, findings);
    let connect_timeout = check::duration(
        "connect_timeout",
        raw.connect_timeout.as_ref(),
        CONNECT_TIMEOUT,
        &(Duration::from_millis(100)..=minutes(10)),
        findings,
    );
    let request_timeout = check::duration(
        "request_timeout",
        raw.request_timeout.as_ref(),
        REQUEST_TIMEOUT,
        &(Duration::from_secs(1)..=days(1)),
        findings,
    );
    let concurrency = check::within(
        "concurrency",
        raw.concurrency.as_ref(),
        CONCURRENCY,
        &(1..=64),
        |number| number.to_string(),
        findings,
    );
    let bandwidth = match &raw.bandwidth {
        Some(bandwidth) => check::parsed("bandwidth", bandwidth, findings),
        None => Some(Bandwidth::default()),
    };
    let concurrency = usize::try_from(concurrency).ok().and_then(NonZeroUsize::new)?;
    let server = Server {
        name: name.to_owned(),
        url: url?,
        proxy,
        ca_file,
        connect_timeout,
        request_timeout,
        concurrency,
        bandwidth: bandwidth?,
        key_file,
    };
    // Next to a URL that needs no permission, the permission is no mistake: it says what may be, not what is.
    let may_be_clear = raw.allow_http.as_ref().is_some_and(|allowed| *allowed.get_ref());
    if !may_be_clear
        && server.sends_in_the_clear()
        && let Some(url) = &raw.url
    {
        findings.push(in_the_clear(url, raw.proxy.as_ref()));
    }
    Some(server)
}

/// What is said of a server that is reached without TLS over a network.
fn in_the_clear(url: &Spanned<String>, proxy: Option<&Spanned<String>>) -> Finding {
    const MESSAGE: &str =
        "without TLS, others on the network can read and change the files, and read the API key";
    let help =
        "write https://, or, where everyone on the network is trusted, allow_http = true below the url";
    let finding = Finding::new(url.span(), MESSAGE).help(help);
    match proxy {
        Some(proxy) => finding.other(proxy.span(), "requests go by way of this proxy"),
        None => finding,
    }
}

/// The server that a folder names.
pub(super) fn named_server(
    name: &Spanned<String>,
    servers: &Servers,
    findings: &mut Vec<Finding>,
) -> Option<Arc<Server>> {
    if let Some(server) = servers.get(name.get_ref()) {
        return server.clone();
    }
    let known: Vec<_> = servers.keys().map(String::as_str).collect();
    let help = match schema::nearest(name.get_ref(), &known) {
        Some(near) => format!("did you mean \"{}\"?", printable(near)),
        None if known.is_empty() => "describe it under [servers.NAME]".to_owned(),
        None => format!("describe it under [servers.NAME]; there are {}", printable(known.join(", "))),
    };
    findings.push(Finding::new(name.span(), "no server has this name").help(help).of_absence());
    None
}

/// The server of a folder that names none.
pub(super) fn default_server(
    folder: &RawFolder,
    raw: &Raw,
    servers: &Servers,
    findings: &mut Vec<Finding>,
) -> Option<Arc<Server>> {
    // Without any server the reader has noted that [server] is missing.
    if raw.server.is_none() && !raw.servers.is_empty() {
        findings.push(
            Finding::new(folder.at.clone(), "this folder names no server, and there is no [server]")
                .help("add server = \"NAME\" to the folder or to [defaults], or write a [server]")
                .of_absence(),
        );
    }
    servers.get(Server::DEFAULT_NAME).cloned().flatten()
}
