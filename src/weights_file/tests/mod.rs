//! Real files, damaged files and hostile files.

mod pickles;
mod pytorch;
mod safetensors;

use super::{Format, RawTensor, WeightsFile, parse, read};
use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn parsed(bytes: &[u8]) -> Result<WeightsFile, Error> {
    parse(bytes, Path::new("some.file"))
}

/// The message of the error that reading `bytes` gives, which names the file and fits a line.
fn refusal(bytes: &[u8]) -> String {
    match parsed(bytes) {
        Err(error @ Error::Weights { .. }) => {
            let text = error.to_string();
            assert!(text.starts_with("some.file: ") && text.len() < 600, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
            text
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// start, start + 0.25, ..., as `make.py` beside the fixtures fills them.
fn ramp(n: usize, start: f32) -> Vec<f32> {
    (0..n).map(|i| start + 0.25 * i as f32).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name)
}

fn tensor<'a>(file: &'a WeightsFile, name: &str) -> &'a RawTensor {
    file.tensors.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", file.tensors.keys()))
}

#[test]
fn other_files_are_named() {
    let mut tar = vec![0u8; 300];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 16] = [
        (b"", "empty file"),
        (b"Hello, this is some text", "found text"),
        (b"seven b{ut more text", "found text"),
        ("caf\u{e9} caf\u{e9}".as_bytes(), "found text"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b"<HTML><body>404", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"\x89PNG\r\n\x1a\n\0", "PNG"),
        (b"\0\0\0\x20ftypisom\0\0", "MP4"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
        (&tar, "tar archive"),
        (b"\x80\x02}q\0.", "Python pickle"),
        (b"\0", "unknown binary"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "unknown binary"),
        (b"PK\x03\x04 and no more", "damaged or cut short"),
    ];
    for (bytes, expected) in cases {
        let text = refusal(bytes);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.safetensors");
    let error = read(&missing).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("missing.safetensors: "), "{error}");
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("found a directory"), "{error}");
    let film = folder.path().join("weights.pth");
    fs::write(&film, [b"\0\0\0\x20ftypisom".as_slice(), &[0; 4000]].concat()).unwrap();
    assert!(read(&film).unwrap_err().to_string().contains("MP4"));
    // More than is read, without a byte on the disk.
    let huge = folder.path().join("huge.pth");
    fs::File::create(&huge).unwrap().set_len((8 << 30) + 1).unwrap();
    assert!(read(&huge).unwrap_err().to_string().contains("more than"));
}

#[cfg(unix)]
#[test]
fn devices_are_refused_unread() {
    let error = read(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

/// A name with control characters, far too long, in every place that shows it.
#[test]
fn names_in_messages_are_tame() {
    let name = format!("a\u{1b}[31m\n\u{202e}{}", "x".repeat(100_000));
    let header = serde_json::json!({ name: { "dtype": "F4", "shape": [1], "data_offsets": [0, 1] } }).to_string();
    let text = refusal(&safetensors::assemble(&header, &[0]));
    assert!(text.contains(r"a\u{1b}[31m\n\u{202e}xxx") && text.contains("type F4 is not supported"), "{text}");
}
