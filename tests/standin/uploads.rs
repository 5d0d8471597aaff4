//! Uploads in parts. They live in the server's memory only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Bytes;
use serde_json::json;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::answer::{self, Reply};

/// After this long without a part, the server forgets an upload.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An upload that waits for its parts.
pub(crate) struct Upload {
    pub(crate) repo: String,
    pub(crate) hash: u128,
    pub(crate) size: u64,
    pub(crate) part_size: u64,
    /// How many parts from the first missing one on are taken.
    pub(crate) window: u64,
    pub(crate) destination: Option<(String, String)>,
    pub(crate) parts: BTreeMap<u64, Bytes>,
    /// Parts of which the rest is waited for.
    pub(crate) arriving: BTreeSet<u64>,
    pub(crate) active: Instant,
}

impl Upload {
    pub(crate) fn is_alive(&self) -> bool {
        !self.arriving.is_empty() || self.active.elapsed() < IDLE_TIMEOUT
    }

    fn num_parts(&self) -> u64 {
        self.size.div_ceil(self.part_size)
    }

    pub(crate) fn begun(&self, id: &str) -> Reply {
        answer::created(json!({ "file": "awaiting_parts", "upload_id": id, "part_size": self.part_size,
            "num_parts": self.num_parts(), "part_window": self.window }))
    }

    /// Takes one part. The whole content comes out once it is complete and what was announced.
    pub(crate) fn take(&mut self, id: &str, number: u64, part: Bytes) -> Result<Option<Bytes>, Reply> {
        let refuse =
            |why: String| answer::described(400, &format!("Version upload refused: {why} (upload {id})"));
        self.active = Instant::now();
        let count = self.num_parts();
        if number == 0 || number > count {
            return Err(refuse(format!("part {number} is not between 1 and {count}")));
        }
        if self.parts.contains_key(&number) {
            return Ok(None);
        }
        if self.arriving.contains(&number) {
            let detail = format!("an earlier copy of part {number} is still being stored");
            return Err(answer::too_many("upload_part_deferred", &detail, 1));
        }
        let missing = (1..=count).find(|number| !self.parts.contains_key(number)).unwrap_or(count);
        if number - missing >= self.window {
            let detail = format!("part {number} comes too early");
            return Err(answer::too_many("upload_part_deferred", &detail, 1));
        }
        let len = if number == count { self.size - (count - 1) * self.part_size } else { self.part_size };
        if part.len() as u64 != len {
            return Err(refuse(format!("part {number} is {} bytes, not {len}", part.len())));
        }
        self.parts.insert(number, part);
        if (self.parts.len() as u64) < count {
            return Ok(None);
        }
        let mut hasher = Xxh3::new();
        self.parts.values().for_each(|part| hasher.update(part));
        let hash = hasher.digest128();
        if hash != self.hash {
            let why = format!("the file's {} bytes hash to {hash:x}, not {:x}", self.size, self.hash);
            return Err(refuse(why));
        }
        let parts: Vec<Bytes> = std::mem::take(&mut self.parts).into_values().collect();
        Ok(Some(match parts.as_slice() {
            [whole] => whole.clone(),
            parts => Bytes::from(parts.concat()),
        }))
    }
}
