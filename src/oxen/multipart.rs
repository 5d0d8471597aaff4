//! Forms built by hand: raw UTF-8 file names, a length known before sending, the files' bytes never copied.

use std::hash::BuildHasher;
use std::hash::RandomState;

use bytes::Bytes;

/// A `multipart/form-data` body.
pub(super) struct Form {
    boundary: String,
    chunks: Vec<Bytes>,
}

impl Form {
    /// An empty form with a boundary nobody can foresee, so that no file can hold it.
    pub(super) fn new() -> Self {
        // Each RandomState is keyed with the system's randomness: 128 unpredictable bits in all.
        let random = || RandomState::new().hash_one(0_u8);
        Self { boundary: format!("oxen-sync-{:016x}{:016x}", random(), random()), chunks: Vec::new() }
    }

    /// Adds a text field. `name` is one of ours and needs no quoting.
    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        let head = format!("--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n", self.boundary);
        self.chunks.push(Bytes::from(format!("{head}{value}\r\n")));
        self
    }

    /// Adds a file. The caller has made sure that a header can carry `filename`.
    pub(super) fn file(mut self, name: &str, filename: &str, bytes: Bytes) -> Self {
        // The server takes a backslash inside quotes as an escape; there is no other escaping.
        let filename = filename.replace('\\', "\\\\").replace('"', "\\\"");
        // Never a type of its own: the server unpacks parts of type application/gzip.
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.boundary
        );
        self.chunks.extend([Bytes::from(head), bytes, Bytes::from_static(b"\r\n")]);
        self
    }

    /// The Content-Type header and the body.
    pub(super) fn finish(mut self) -> (String, Vec<Bytes>) {
        self.chunks.push(Bytes::from(format!("--{}--\r\n", self.boundary)));
        (format!("multipart/form-data; boundary={}", self.boundary), self.chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Part = (String, Option<String>, Vec<u8>);

    /// Reads a form the way RFC 7578 says, strictly.
    fn read(content_type: &str, body: &[u8]) -> Vec<Part> {
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let delimiter = format!("--{boundary}");
        let mut rest = body.strip_prefix(delimiter.as_bytes()).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = rest.strip_prefix(b"\r\n") {
            let head_len = find(part, b"\r\n\r\n");
            let head = std::str::from_utf8(&part[..head_len]).unwrap();
            let content = &part[head_len + 4..];
            let content_len = find(content, format!("\r\n{delimiter}").as_bytes());
            rest = &content[content_len + 2 + delimiter.len()..];
            let value = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Disposition: form-data; name=\""))
                .unwrap();
            let (name, value) = value.split_once('"').unwrap();
            let filename = value.strip_prefix("; filename=\"").map(|quoted| {
                let (mut text, mut chars) = (String::new(), quoted.chars());
                loop {
                    match chars.next().unwrap() {
                        '\\' => text.push(chars.next().unwrap()),
                        '"' => break,
                        c => text.push(c),
                    }
                }
                assert_eq!(chars.as_str(), "");
                assert_eq!(head.lines().nth(1), Some("Content-Type: application/octet-stream"));
                text
            });
            parts.push((name.to_owned(), filename, content[..content_len].to_vec()));
        }
        assert_eq!(rest, b"--\r\n");
        parts
    }

    fn find(haystack: &[u8], needle: &[u8]) -> usize {
        haystack.windows(needle.len()).position(|window| window == needle).unwrap()
    }

    proptest! {
        #[test]
        fn a_form_holds_what_was_put_in(
            message in ".*",
            files in prop::collection::vec(("[^\\x00-\\x08\\x0a-\\x1f\\x7f]{1,20}",
                prop::collection::vec(any::<u8>(), 0..200)), 0..5),
        ) {
            let mut form = Form::new().text("message", &message);
            for (name, bytes) in &files {
                form = form.file("files[]", name, Bytes::copy_from_slice(bytes));
            }
            let (content_type, chunks) = form.finish();
            let mut expected = vec![("message".to_owned(), None, message.into_bytes())];
            expected.extend(files.into_iter().map(|(name, bytes)| ("files[]".to_owned(), Some(name), bytes)));
            prop_assert_eq!(read(&content_type, &chunks.concat()), expected);
        }
    }

    #[test]
    fn a_files_bytes_are_not_copied() {
        let bytes = Bytes::from(vec![7; 1000]);
        let (_, chunks) = Form::new().file("files[]", "x", bytes.clone()).finish();
        assert!(chunks.iter().any(|chunk| chunk.as_ptr() == bytes.as_ptr()));
    }

    #[test]
    fn no_two_forms_share_a_boundary() {
        assert_ne!(Form::new().boundary, Form::new().boundary);
    }
}
