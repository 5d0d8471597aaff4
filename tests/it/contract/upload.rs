//! Uploads in parts.

use bytes::Bytes;
use oxen_sync::oxen::{Kind, Reason, Upload, UploadStart};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use super::contract;
use crate::support::site::{Site, branch, file, fresh_id, info, path};

contract! {
    content_in_parts_is_staged_when_complete,
    content_that_is_stored_is_staged_at_once,
    content_that_is_not_what_was_announced_is_refused,
    parts_are_held_to_their_place_and_length,
    an_unknown_upload_is_said_to_be_unknown,
    a_path_may_hold_every_control_character,
    empty_content_has_no_parts,
    a_hash_may_have_leading_zeros,
}

const PART: usize = 10 << 20;

fn noise(len: usize, seed: u8) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

fn awaiting(start: UploadStart) -> Upload {
    match start {
        UploadStart::AwaitingParts(upload) => upload,
        UploadStart::AlreadyStored => panic!("nobody has sent this content yet"),
    }
}

async fn content_in_parts_is_staged_when_complete(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let (id, to) = (fresh_id(), path("d/large.bin"));
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    let content = noise(2 * PART + 7, 1);
    let (hash, size) = (xxh3_128(&content), content.len() as u64);
    let upload = awaiting(site.client.begin_upload(&repo, hash, size, Some((&id, &to))).await.unwrap());
    assert_eq!((upload.part_size, upload.num_parts), (PART as u64, 3));
    assert!(upload.part_window >= 3);

    // The parts may come in any order, and again; asking for them does not disturb.
    let mut has_first = false;
    let part = |n: usize| content.slice((n - 1) * PART..content.len().min(n * PART));
    for (n, completes) in [(3, false), (1, false), (1, false), (2, true)] {
        let had = site.client.has_part(&repo, &upload.id, n as u64).await.unwrap();
        assert_eq!(had, n == 1 && has_first, "part {n}");
        has_first |= n == 1;
        let completed = site.client.put_part(&repo, &upload.id, n as u64, part(n)).await.unwrap();
        assert_eq!(completed, completes, "part {n}");
    }
    let error = site.client.has_part(&repo, &upload.id, 2).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(404), Reason::UploadNotFound), "{error}");

    let commit = site.client.merge_workspace(&repo, &id, &branch("main"), &info("large")).await.unwrap();
    let entry = site.client.entry(&repo, &commit.id, &to).await.unwrap().unwrap();
    assert_eq!((entry.xxh3, entry.size), (Some(hash), size));
    assert!(site.read(&repo, to.as_str()).await.unwrap() == content);
}

async fn content_that_is_stored_is_staged_at_once(site: &Site) {
    let repo = site.repo(&[("a", "known content")]).await;
    let (id, content) = (fresh_id(), b"known content");
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    let (hash, size) = (xxh3_128(content), content.len() as u64);
    let start = site.client.begin_upload(&repo, hash, size, Some((&id, &path("b")))).await.unwrap();
    assert_eq!(start, UploadStart::AlreadyStored);
    assert_eq!(site.client.begin_upload(&repo, hash, size, None).await.unwrap(), UploadStart::AlreadyStored);
    site.client.merge_workspace(&repo, &id, &branch("main"), &info("a copy")).await.unwrap();
    assert_eq!(site.read(&repo, "b").await.unwrap(), content);

    // What is staged and then abandoned is stored all the same.
    let id = fresh_id();
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    site.client.stage_files(&repo, &id, vec![file("c", b"abandoned")]).await.unwrap();
    site.client.delete_workspace(&repo, &id).await.unwrap();
    let start = site.client.begin_upload(&repo, xxh3_128(b"abandoned"), 9, None).await.unwrap();
    assert_eq!(start, UploadStart::AlreadyStored);
}

async fn content_that_is_not_what_was_announced_is_refused(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let (id, to) = (fresh_id(), path("a"));
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    let hash = xxh3_128(b"announced");
    let upload = awaiting(site.client.begin_upload(&repo, hash, 9, Some((&id, &to))).await.unwrap());
    let put = site.client.put_part(&repo, &upload.id, 1, Bytes::from_static(b"something")).await;
    let error = put.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Some(400), Reason::HashMismatch), "{error}");
    let again =
        site.client.put_part(&repo, &upload.id, 1, Bytes::from_static(b"announced")).await.unwrap_err();
    assert_eq!(again.reason(), Reason::UploadNotFound, "{again}");
    let merged = site.client.merge_workspace(&repo, &id, &branch("main"), &info("m")).await;
    assert_eq!(merged.unwrap_err().reason(), Reason::NoChanges, "nothing was staged");
    awaiting(site.client.begin_upload(&repo, hash, 9, None).await.unwrap());
}

async fn parts_are_held_to_their_place_and_length(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let size = 500 * PART as u64;
    let upload =
        awaiting(site.client.begin_upload(&repo, xxh3_128(b"never sent"), size, None).await.unwrap());
    assert!(upload.part_window < upload.num_parts, "{upload:?}");
    let put = async |number: u64, len: usize| {
        site.client.put_part(&repo, &upload.id, number, Bytes::from(vec![0; len])).await.unwrap_err()
    };
    let error = put(upload.part_window + 1, PART).await;
    assert_eq!((error.code(), error.reason()), (Some(429), Reason::PartDeferred), "{error}");
    assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(1));
    for (number, len) in [(0, PART), (501, PART), (1, PART - 1), (1, 0)] {
        let error = put(number, len).await;
        assert_eq!((error.code(), error.reason()), (Some(400), Reason::Other), "{number} {len} {error}");
    }
    assert!(!site.client.put_part(&repo, &upload.id, 1, Bytes::from(vec![0; PART])).await.unwrap());
}

async fn an_unknown_upload_is_said_to_be_unknown(site: &Site) {
    let (repo, other) = (site.repo(&[("old", "0")]).await, site.repo(&[("old", "0")]).await);
    let upload = awaiting(site.client.begin_upload(&repo, xxh3_128(b"1"), 1, None).await.unwrap());
    for (repo, id) in [(&repo, "nowhere"), (&other, upload.id.as_str())] {
        let error = site.client.put_part(repo, id, 1, Bytes::from_static(b"1")).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (Some(404), Reason::UploadNotFound), "{error}");
    }
}

async fn a_path_may_hold_every_control_character(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let id = fresh_id();
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    let name: String = (1..0x20).map(char::from).chain(['\u{7f}', '\u{85}', '\u{2028}', '"', ':']).collect();
    let to = path(&format!("d\n/{name}"));
    let content = Bytes::from_static(b"odd");
    let start = site.client.begin_upload(&repo, xxh3_128(&content), 3, Some((&id, &to))).await.unwrap();
    assert!(site.client.put_part(&repo, &awaiting(start).id, 1, content.clone()).await.unwrap());
    let commit = site.client.merge_workspace(&repo, &id, &branch("main"), &info("odd")).await.unwrap();
    let entry = site.client.entry(&repo, &commit.id, &to).await.unwrap().unwrap();
    assert_eq!(entry.name, name);
    assert_eq!(site.read(&repo, to.as_str()).await.unwrap(), content);
    let page = site.client.list_dir(&repo, &commit.id, &path("d\n"), 1, 10).await.unwrap().unwrap();
    assert_eq!(page.entries[0].name, name);

    let id = fresh_id();
    site.client.open_workspace(&repo, &id, &branch("main")).await.unwrap();
    assert_eq!(site.client.stage_removals(&repo, &id, &[to.as_str()]).await.unwrap(), [""; 0]);
    site.client.merge_workspace(&repo, &id, &branch("main"), &info("even")).await.unwrap();
    assert_eq!(site.read(&repo, to.as_str()).await, None);
}

async fn empty_content_has_no_parts(site: &Site) {
    let repo = site.repo(&[("old", "0")]).await;
    let error = site.client.begin_upload(&repo, xxh3_128(b""), 0, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsendable);
    let upload = json!({ "hash": format!("{:x}", xxh3_128(b"")), "size": 0 });
    let answer = site.http.post(site.page(&repo, "/versions/uploads")).json(&upload).send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

async fn a_hash_may_have_leading_zeros(site: &Site) {
    let mut texts = (0..100_000_u32).map(|n| format!("number {n}"));
    let text =
        texts.find(|text| xxh3_128(text.as_bytes()) >> 116 == 0).expect("one in 4,096 begins with 000");
    let (hash, size) = (xxh3_128(text.as_bytes()), text.len() as u64);
    let repo = site.repo(&[("a", &text)]).await;
    let entry = site.client.entry(&repo, &site.head(&repo).await, &path("a")).await.unwrap().unwrap();
    assert_eq!((entry.xxh3, entry.size), (Some(hash), size));
    for spelled in [format!("{hash:x}"), format!("{hash:032x}")] {
        let upload = json!({ "hash": spelled, "size": size });
        let request = site.http.post(site.page(&repo, "/versions/uploads")).json(&upload);
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["file"], "already_stored", "{spelled}");
    }
    let answer: serde_json::Value =
        site.http.get(site.page(&repo, "/meta/main/a")).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["entry"]["hash"], format!("{hash:x}"), "the server writes no leading zeros");
}
