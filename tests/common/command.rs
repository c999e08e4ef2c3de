//! What the tests of the command line share.

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub fn run(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmambaiqa"));
    command.args(args).current_dir(folder).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start");
    // It may end without reading all.
    let _ = child.stdin.take().expect("stdin").write_all(input);
    child.wait_with_output().expect("end")
}

pub fn good(folder: &Path, args: &[&str], input: &[u8]) -> String {
    let out = run(folder, args, input);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

pub fn json(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).expect("a JSON object a line")).collect()
}

/// Fails in one line that says `what`.
pub fn bad(folder: &Path, args: &[&str], what: &str) {
    let out = run(folder, args, b"");
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
    assert!(error.starts_with("qmambaiqa: ") && error.contains(what), "{args:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
}

pub fn picture(path: &Path, step: u32) {
    let image =
        image::RgbImage::from_fn(256, 240, |x, y| image::Rgb([(x * step) as u8, (y * step) as u8, (x * y / 64) as u8]));
    image.save(path).expect("picture");
}

pub fn y4m(frames: u8, tags: &str, bytes: usize) -> Vec<u8> {
    let mut out = format!("YUV4MPEG2 W226 H224 F25:1 {tags}\n").into_bytes();
    for frame in 0..frames {
        out.extend(b"FRAME\n");
        out.extend((0..bytes).map(|i| (i % 199) as u8 ^ (frame * 16)));
    }
    out
}

pub const I420: usize = 226 * 224 * 3 / 2;
