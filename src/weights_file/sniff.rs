//! What a file is, by its first bytes.

/// As many bytes of the file as are looked at.
pub(super) const HEAD: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// PyTorch since 1.6.
    Zip,
    /// PyTorch before 1.6.
    Pickle,
}

/// The pickled magic number that a checkpoint from before PyTorch 1.6 begins with, behind the two bytes of PROTO.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Where a known kind of file has which bytes.
const OTHERS: [(usize, &[u8], &str); 15] = [
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"RIFF", "a RIFF file (WebP, AVI or WAV)"),
    (4, b"ftyp", "an MP4 or QuickTime film"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM film"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
    (0, b"BZh", "a bzip2 archive; unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive; unpack it first"),
    (257, b"ustar", "a tar archive; unpack it first"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x93NUMPY", "a NumPy array"),
];

/// The message for a file that is `what` instead of weights.
pub(super) fn not_weights(what: &str) -> String {
    format!("not a weights file: expected safetensors or a PyTorch checkpoint, found {what}")
}

/// What `bytes` begin; the error is the message for anything that is no weights file.
pub(super) fn kind(bytes: &[u8]) -> Result<Kind, String> {
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    if head.is_empty() {
        return Err(not_weights("an empty file"));
    }
    if head.starts_with(b"version https://git-lfs") {
        return Err(not_weights("a Git LFS pointer; `git lfs pull` fetches the file it stands for"));
    }
    // First of all: a header of the right length would look like a gzip archive.
    if head.get(4..9) == Some(b"\0\0\0\0{") {
        return Ok(Kind::Safetensors);
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Kind::Zip);
    }
    if let Some((_, _, what)) =
        OTHERS.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|h| h.starts_with(magic)))
    {
        return Err(not_weights(what));
    }
    // Before safetensors, whose header length always has a NUL among its bytes: text may have a brace anywhere.
    if is_text(head) {
        let start = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
        let page = start.starts_with("<!doctype html") || start.starts_with("<html");
        return Err(not_weights(if page { "an HTML page, perhaps in place of a download" } else { "text" }));
    }
    // With a length that cannot be, which is for the parser to say.
    if head.get(8) == Some(&b'{') {
        return Ok(Kind::Safetensors);
    }
    if head.first() == Some(&0x80) && head.get(1).is_some_and(|&protocol| (2..=5).contains(&protocol)) {
        // Protocol 4 puts a FRAME before the number.
        let number = head.get(2..).unwrap_or_default();
        let framed = number.first() == Some(&0x95) && number.get(9..).is_some_and(|n| n.starts_with(LEGACY_MAGIC));
        if number.starts_with(LEGACY_MAGIC) || framed {
            return Ok(Kind::Pickle);
        }
        return Err(not_weights("a Python pickle; save with torch.save or safetensors"));
    }
    Err(not_weights("unknown binary data"))
}

/// Whether this is UTF-8 without control characters, a cut last character aside.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(head.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c'))
}
