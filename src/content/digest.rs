use std::fmt;
use std::io::{self, Read, Seek};
use std::sync::mpsc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::Xxh3;

use super::signature::wall_ns;
use super::{EntryKind, OpenError, OpenFile, RootDir, Signature};
use crate::path::LocalPath;

/// Read at once. Large enough that system calls do not count, small enough for a cache.
const CHUNK: usize = 256 * 1024;

/// What identifies a content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digests {
    /// Our identity of a file; `None` as long as nobody has asked for it ([`Wanted::Oxens`]).
    pub sha256: Option<[u8; 32]>,
    /// Oxen's identity of a file: XXH3 with 128 bits and no seed (oxen-server 0.65.2).
    pub xxh3: u128,
}

impl Digests {
    /// Whether both name the same content, as far as both say.
    pub fn agrees(&self, other: &Self) -> bool {
        let differs = self.sha256.zip(other.sha256).is_some_and(|(one, other)| one != other);
        self.xxh3 == other.xxh3 && !differs
    }
}

/// Which hashes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Both, in one pass.
    Both,
    /// Oxen's alone, which costs a tenth: all that an upload needs to begin.
    Oxens,
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digests({:032x})", self.xxh3)
    }
}

/// The hashes of a stream of bytes, in one pass.
#[derive(Clone)]
pub struct Digester {
    sha256: Option<Sha256>,
    xxh3: Xxh3,
    bytes: u64,
}

impl Digester {
    /// Before the first byte.
    pub fn new(wanted: Wanted) -> Self {
        Self { sha256: (wanted == Wanted::Both).then(Sha256::new), xxh3: Xxh3::new(), bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.xxh3.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Oxen's hash of all that was taken.
    pub fn xxh3(&self) -> u128 {
        self.xxh3.digest128()
    }

    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hashes of all that was taken.
    pub fn finish(self) -> Digests {
        Digests { sha256: self.sha256.map(|sha256| sha256.finalize().into()), xxh3: self.xxh3.digest128() }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digester({} bytes)", self.bytes)
    }
}

/// Why a file's content could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was written to, cut or replaced while it was read; what was read is worthless.
    #[error("it changed while it was read")]
    Changed,
    /// It cannot be opened or read.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Open(error.into())
    }
}

/// A file's content as of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Hashed {
    /// The signature, the same before and after reading.
    pub signature: Signature,
    /// Of exactly the bytes that the signature's size counts.
    pub digests: Digests,
    /// Whether a later write could hide behind the signature ([`Signature::is_racy`]).
    pub racy: bool,
}

/// Hashes `opened`, with constant memory.
///
/// # Errors
/// [`ReadError::Changed`] when the bytes did not hold still; else what the kernel says.
pub fn hash_file(opened: &mut OpenFile, wanted: Wanted) -> Result<Hashed, ReadError> {
    let hashed = hash_as_opened(opened, wanted)?;
    if opened.look()? != EntryKind::File(opened.signature) {
        return Err(ReadError::Changed);
    }
    Ok(hashed)
}

/// Hashes a file that is written to all the time, as it was at one moment: the bytes that its size counted when it was
/// opened. Where the file changed meanwhile, they are read once more: bytes that are the same in both readings are those
/// that stood there between the two, which is so for all that is only ever appended to.
///
/// # Errors
/// [`ReadError::Changed`] when the bytes did not hold still; else what the kernel says.
pub fn hash_snapshot(opened: &mut OpenFile) -> Result<Hashed, ReadError> {
    let hashed = hash_as_opened(opened, Wanted::Both)?;
    if opened.look()? == EntryKind::File(opened.signature) {
        return Ok(hashed);
    }
    let again = hash_as_opened(opened, Wanted::Both)?;
    if again.digests != hashed.digests {
        return Err(ReadError::Changed);
    }
    Ok(Hashed { racy: true, ..hashed })
}

/// Hashes as many bytes as there were when the file was opened.
fn hash_as_opened(opened: &mut OpenFile, wanted: Wanted) -> Result<Hashed, ReadError> {
    let wall = wall_ns();
    let signature = opened.signature;
    let digests = hash_first(opened, signature.size, wanted)?;
    Ok(Hashed { signature, digests, racy: signature.is_racy(wall) })
}

/// Hashes the first `size` bytes, whatever else has become of the file: what is asked for is the content that has these
/// hashes, and not that the file holds still.
///
/// # Errors
/// [`ReadError::Changed`] when it is shorter; else what the kernel says.
pub fn hash_first(opened: &mut OpenFile, size: u64, wanted: Wanted) -> Result<Digests, ReadError> {
    opened.file.rewind()?;
    if size < TWO_THREADS_MIN {
        let mut digester = Digester::new(wanted);
        let mut chunk = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK)).max(1)];
        read_chunks(opened, size, &mut chunk, |chunk| digester.update(chunk))?;
        return Ok(digester.finish());
    }
    let (mut sha256, mut xxh3) = (Sha256::new(), Xxh3::new());
    match wanted {
        Wanted::Both => read_by_two(opened, size, |chunk| xxh3.update(chunk), |chunk| sha256.update(chunk))?,
        Wanted::Oxens => read_by_two(opened, size, |_| {}, |chunk| xxh3.update(chunk))?,
    }
    let sha256 = (wanted == Wanted::Both).then(|| sha256.finalize().into());
    Ok(Digests { sha256, xxh3: xxh3.digest128() })
}

/// From this size on, in bytes, a thread of its own is worth its while.
const TWO_THREADS_MIN: u64 = 16 << 20;
/// Chunks on their way from the thread that reads.
const CHUNKS_AHEAD: usize = 2;

/// Reads on one thread, with what costs little of each chunk, while another does what costs most of it.
fn read_by_two(
    opened: &OpenFile,
    size: u64,
    mut cheap: impl FnMut(&[u8]),
    mut costly: impl FnMut(&[u8]) + Send,
) -> Result<(), ReadError> {
    let (full, filled) = mpsc::sync_channel::<Vec<u8>>(CHUNKS_AHEAD);
    let (empty, emptied) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for chunk in filled {
                costly(&chunk);
                // Nobody needs it any more once all is read.
                let _ = empty.send(chunk);
            }
        });
        let mut left = size;
        let mut reader = opened.reader();
        while left > 0 {
            let mut chunk = emptied.try_recv().unwrap_or_default();
            chunk.resize(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)), 0);
            let count = read_some(&mut reader, &mut chunk)?;
            chunk.truncate(count);
            cheap(&chunk);
            left -= count as u64;
            if full.send(chunk).is_err() {
                break;
            }
        }
        // The other ends when there is nothing more to come.
        drop(full);
        Ok(())
    })
}

/// Hands over the first `size` bytes, piece by piece in `chunk`.
fn read_chunks(
    opened: &OpenFile,
    size: u64,
    chunk: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    let mut left = size;
    let mut reader = opened.reader();
    while left > 0 {
        let want = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK));
        let count = read_some(&mut reader, &mut chunk[..want])?;
        each(&chunk[..count]);
        left -= count as u64;
    }
    Ok(())
}

/// Reads at least one byte.
fn read_some(reader: &mut impl Read, chunk: &mut [u8]) -> Result<usize, ReadError> {
    loop {
        match reader.read(chunk) {
            Ok(0) => return Err(ReadError::Changed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the first `size` bytes of a file and checks that they are the content that `expected` names. What has been
/// appended since then does not matter: the bytes are those that were hashed.
///
/// # Errors
/// [`ReadError::Changed`] when it is shorter or holds other bytes by now; else what the kernel says.
pub fn read_small(
    root: &RootDir,
    path: &LocalPath,
    size: u64,
    expected: &Digests,
) -> Result<Bytes, ReadError> {
    let opened = root.open_file(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    opened.reader().take(size).read_to_end(&mut bytes)?;
    let mut digester = Digester::new(Wanted::Both);
    digester.update(&bytes);
    if digester.bytes() != size || !digester.finish().agrees(expected) {
        return Err(ReadError::Changed);
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    fn folder(content: &[u8]) -> (tempfile::TempDir, RootDir, LocalPath) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), content).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        (dir, root, LocalPath::new(Path::new("f")).unwrap())
    }

    #[test]
    fn both_hashes_come_from_one_pass() {
        let (_dir, root, path) = folder(b"abc");
        let hashed = hash_file(&mut root.open_file(&path).unwrap(), Wanted::Both).unwrap();
        let hex: String = hashed.digests.sha256.unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(format!("{:032x}", hashed.digests.xxh3), "06b05ab6733a618578af5f94892f3950");
        assert!(hashed.racy, "the file is as young as its hash");
        assert_eq!(&read_small(&root, &path, 3, &hashed.digests).unwrap()[..], b"abc");
    }

    #[test]
    fn two_threads_hash_as_one_does() {
        let content: Vec<u8> = (0..5_000_001_u32).flat_map(u32::to_le_bytes).collect();
        assert!(content.len() as u64 > TWO_THREADS_MIN);
        let (dir, root, path) = folder(&content);
        let mut expected = Digester::new(Wanted::Both);
        expected.update(&content);
        let mut opened = root.open_file(&path).unwrap();
        assert_eq!(hash_file(&mut opened, Wanted::Both).unwrap().digests, expected.finish());
        let mut opened = root.open_file(&path).unwrap();
        fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap().set_len(1).unwrap();
        assert!(matches!(hash_file(&mut opened, Wanted::Both), Err(ReadError::Changed)));
    }

    #[test]
    fn oxens_hash_alone_is_the_same_and_the_other_may_follow() {
        let content: Vec<u8> = (0..5_000_001_u32).flat_map(u32::to_le_bytes).collect();
        let (dir, root, path) = folder(&content);
        let mut opened = root.open_file(&path).unwrap();
        let both = hash_file(&mut opened, Wanted::Both).unwrap().digests;
        let oxens = hash_file(&mut opened, Wanted::Oxens).unwrap().digests;
        assert_eq!(oxens, Digests { sha256: None, ..both });
        assert!(both.agrees(&oxens) && oxens.agrees(&both) && both.agrees(&both));
        for other in [Digests { sha256: Some([0; 32]), ..both }, Digests { xxh3: 0, ..both }] {
            assert!(!both.agrees(&other));
        }
        fs::OpenOptions::new().append(true).open(dir.path().join("f")).unwrap().write_all(b"d").unwrap();
        let len = content.len() as u64;
        assert_eq!(hash_first(&mut opened, len, Wanted::Both).unwrap(), both, "a log that goes on");
        assert!(matches!(hash_first(&mut opened, len + 2, Wanted::Both), Err(ReadError::Changed)));
    }

    #[test]
    fn bytes_that_move_while_they_are_read_are_not_taken() {
        let (dir, root, path) = folder(b"abc");
        let mut opened = root.open_file(&path).unwrap();
        fs::OpenOptions::new().append(true).open(dir.path().join("f")).unwrap().write_all(b"d").unwrap();
        assert!(matches!(hash_file(&mut opened, Wanted::Both), Err(ReadError::Changed)));
    }

    #[test]
    fn a_file_that_is_appended_to_all_the_time_has_a_snapshot() {
        let (dir, root, path) = folder(b"");
        let whole: Vec<u8> = (0..4 << 20).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = fs::OpenOptions::new().append(true).open(dir.path().join("f")).unwrap();
                for piece in whole.chunks(64) {
                    log.write_all(piece).unwrap();
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let (mut taken, mut len) = (0, 0);
            while taken < 20 && len < whole.len() {
                let mut opened = root.open_file(&path).unwrap();
                len = usize::try_from(opened.signature.size).unwrap();
                let hashed = hash_snapshot(&mut opened).unwrap();
                let mut expected = Digester::new(Wanted::Both);
                expected.update(&whole[..len]);
                assert_eq!(hashed.digests, expected.finish(), "the first {len} bytes");
                taken += 1;
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_file_that_is_written_anew_while_it_is_read_has_none() {
        let (dir, root, path) = folder(b"abc");
        let mut opened = root.open_file(&path).unwrap();
        fs::write(dir.path().join("f"), b"a").unwrap();
        assert!(matches!(hash_snapshot(&mut opened), Err(ReadError::Changed)));
    }

    #[test]
    fn other_bytes_than_the_expected_are_not_taken() {
        let (dir, root, path) = folder(b"abc");
        let digests = hash_file(&mut root.open_file(&path).unwrap(), Wanted::Both).unwrap().digests;
        for other in [&b"abd"[..], b"ab", b"", b"abdabc"] {
            fs::write(dir.path().join("f"), other).unwrap();
            assert!(matches!(read_small(&root, &path, 3, &digests), Err(ReadError::Changed)));
        }
        fs::write(dir.path().join("f"), b"abc and more").unwrap();
        assert_eq!(&read_small(&root, &path, 3, &digests).unwrap()[..], b"abc", "a log that goes on");
    }
}
