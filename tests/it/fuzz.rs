//! Names that nobody would give, all the way: from the kernel's bytes to a path on the branch, through addresses and
//! forms to the server, and back. Each arrives exactly, or is refused before anything is sent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oxen_sync::oxen::{FileBody, Kind, UploadStart, fits_multipart_path, fits_put_name};
use oxen_sync::path::{LocalPath, Refusal, RepoPath, is_reserved_name};
use proptest::prelude::*;

use crate::standin::StandIn;
use crate::support::site::{branch, client, fresh_id, info};

/// Bytes that mean something to a kernel, an address, a form or the server, among any others.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "a", ".", "..", "%", "%2F", "%2e", "%25", "+", " ", "#", "?", "&", "=", ";", ":", "\\", "\"", "'", "\r\n",
            "\n", "\t", "\0", "/", "//", ".oxen", "OXEN~1", "--", "{", "~", "é", "e\u{301}", "\u{202e}", "\u{feff}",
            "\u{10ffff}", "api", "files",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<Vec<u8>>(),
        2 => any::<String>().prop_map(String::into_bytes),
    ];
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

/// Whether the kernel could hold such a file in a folder, spelled as it would spell it.
fn is_of_the_kernel(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && !bytes.contains(&0)
        && bytes.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

proptest! {
    #[test]
    fn a_path_crosses_the_border_exactly_or_is_refused_for_its_reason(bytes in any_name(), dir in any_name()) {
        let local = LocalPath::from_bytes(&bytes);
        // A NUL is nothing that a kernel says, and no request carries it.
        if !bytes.contains(&0) {
            prop_assert_eq!(local.is_some(), is_of_the_kernel(&bytes) || bytes.is_empty());
        }
        let Some(local) = local else { return Ok(()) };
        prop_assert_eq!(local.as_bytes(), &bytes[..]);
        prop_assert_eq!(LocalPath::new(local.as_path()), Some(local.clone()));
        let folder = Path::new("/data/camera");
        prop_assert_eq!(LocalPath::below(folder, &local.under(folder)), Some(local.clone()));

        let text = std::str::from_utf8(&bytes);
        match RepoPath::for_file(&RepoPath::root(), &local) {
            Ok(path) => {
                prop_assert_eq!(path.as_str().as_bytes(), &bytes[..]);
                prop_assert_eq!(RepoPath::parse(path.as_str()), Ok(path));
            }
            Err(Refusal::NotUtf8) => prop_assert!(text.is_err()),
            Err(Refusal::Backslash) => prop_assert!(bytes.contains(&b'\\')),
            Err(Refusal::Reserved) => prop_assert!(text.unwrap().split('/').any(is_reserved_name)),
            Err(Refusal::NotPlain) => prop_assert!(bytes.contains(&0)),
        }
        // Where the folder stands on the branch changes nothing of that.
        if let Some(dir) = std::str::from_utf8(&dir).ok().and_then(|dir| RepoPath::parse(dir).ok())
            && let Ok(path) = RepoPath::for_file(&dir, &local)
        {
            prop_assert!(path.starts_with(&dir));
            prop_assert_eq!(path.as_str().strip_prefix(dir.as_str()).unwrap().trim_start_matches('/').as_bytes(), &bytes[..]);
        }
    }
}

proptest! {
    // Each takes several requests.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn a_path_arrives_at_the_server_exactly_or_is_refused_before_anything_is_sent(bytes in any_name()) {
        let path = LocalPath::from_bytes(&bytes).and_then(|local| RepoPath::for_file(&RepoPath::root(), &local).ok());
        let Some(path) = path.filter(|path| !path.is_root()) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(arrives(&path))?;
    }
}

async fn arrives(path: &RepoPath) -> Result<(), TestCaseError> {
    let standin = StandIn::start().await;
    let client = client(&standin.url());
    let repo = "lab/cells".parse().unwrap();
    let main = branch("main");
    client.create_repo(&repo, None, None).await.unwrap();
    client.open_workspace(&repo, "first", &main).await.unwrap();
    client.delete_workspace(&repo, "first").await.unwrap();
    let (id, content) = (fresh_id(), path.as_str().repeat(2).into_bytes());
    client.open_workspace(&repo, &id, &main).await.unwrap();

    // By form, where a form can carry it; else in parts, whose path is JSON.
    let body = FileBody { name: path.as_str().to_owned(), bytes: content.clone().into() };
    let requests = standin.requests();
    let staged = client.stage_files(&repo, &id, vec![body]).await;
    if fits_multipart_path(path.as_str()) {
        prop_assert_eq!(staged.unwrap(), [path.as_str()]);
    } else {
        prop_assert_eq!(staged.unwrap_err().kind(), Kind::Unsendable);
        prop_assert_eq!(standin.requests(), requests, "it is refused before it is sent");
        let xxh3 = xxhash_rust::xxh3::xxh3_128(&content);
        let begun = client.begin_upload(&repo, xxh3, content.len() as u64, Some((&id, path))).await.unwrap();
        let UploadStart::AwaitingParts(upload) = begun else { panic!("nothing is stored") };
        prop_assert!(
            client.put_part(&repo, &upload.id, 1, bytes::Bytes::from(content.clone())).await.unwrap()
        );
    }
    client.merge_workspace(&repo, &id, &main, &info("m")).await.unwrap();
    let tree = standin.tree("lab/cells", "main");
    prop_assert_eq!(tree.keys().map(String::as_str).collect::<Vec<_>>(), [path.as_str()]);

    // Read back by its address, from a listing, and as bytes.
    let head = client.branch(&repo, &main).await.unwrap().unwrap().commit_id;
    let entry = client.entry(&repo, &head, path).await.unwrap();
    prop_assert_eq!(entry.map(|entry| entry.name), Some(path.name().to_owned()));
    let dir = RepoPath::parse(path.dir()).unwrap();
    let page = client.list_dir(&repo, &head, &dir, 1, 10).await.unwrap().unwrap();
    let names: Vec<String> = page.entries.into_iter().map(|entry| entry.name).collect();
    prop_assert_eq!(names, [path.name()]);
    prop_assert!(client.file(&repo, &head, path).await.unwrap().is_some());
    let local = LocalPath::new(Path::new(OsStr::from_bytes(path.as_str().as_bytes()))).unwrap();
    prop_assert_eq!(RepoPath::for_file(&RepoPath::root(), &local), Ok(path.clone()));

    // By PUT into a directory, where it can carry the name; its removal takes away this one alone.
    let body = FileBody { name: path.name().to_owned(), bytes: "other".into() };
    let requests = standin.requests();
    let put = client.put_files(&repo, &main, &dir, vec![body], &info("p")).await;
    if fits_put_name(path.name()) {
        put.unwrap();
        let tree = standin.tree("lab/cells", "main");
        prop_assert_eq!(tree.get(path.as_str()).map(|bytes| &bytes[..]), Some(&b"other"[..]));
    } else {
        prop_assert_eq!(put.unwrap_err().kind(), Kind::Unsendable);
        prop_assert_eq!(standin.requests(), requests, "it is refused before it is sent");
    }
    let id = fresh_id();
    client.open_workspace(&repo, &id, &main).await.unwrap();
    prop_assert_eq!(client.stage_removals(&repo, &id, &[path.as_str()]).await.unwrap(), Vec::<String>::new());
    client.merge_workspace(&repo, &id, &main, &info("r")).await.unwrap();
    prop_assert!(standin.tree("lab/cells", "main").is_empty());
    Ok(())
}
