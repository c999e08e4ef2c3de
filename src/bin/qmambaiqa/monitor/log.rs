//! Logs of JSON lines.

use super::source::Source;
use crate::common::complain;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file of all streams, or one of each; what they hold stays.
pub struct Logs {
    files: Vec<(PathBuf, Option<File>)>,
}

impl Logs {
    /// # Errors
    /// A file cannot be written, or two streams' names make the same.
    pub fn open(path: &Path, sources: &[Source]) -> Result<Self> {
        let paths: Vec<PathBuf> = if path.is_dir() {
            sources.iter().map(|source| path.join(file_name(&source.name))).collect()
        } else {
            vec![path.to_owned()]
        };
        if paths.iter().collect::<BTreeSet<_>>().len() < paths.len() {
            bail!("{}: two streams would have one log; tell them apart with --name", path.display());
        }
        let open = |path: PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            let file = file.with_context(|| format!("{}: the log cannot be written", path.display()))?;
            Ok((path, Some(file)))
        };
        Ok(Self { files: paths.into_iter().map(open).collect::<Result<_>>()? })
    }

    /// Adds a line of a stream. Where that fails it says so, once, and the file gets no more.
    pub fn write(&mut self, stream: usize, text: &str) {
        let index = stream.min(self.files.len().saturating_sub(1));
        let Some((path, slot)) = self.files.get_mut(index) else { return };
        let Some(file) = slot else { return };
        if let Err(error) = file.write_all(format!("{text}\n").as_bytes()) {
            complain(&anyhow::Error::from(error).context(format!("{}: the log ends here", path.display())));
            *slot = None;
        }
    }
}

/// A stream's name with whatever a file's name should not have replaced.
fn file_name(stream: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    format!("{}.jsonl", stream.chars().map(plain).collect::<String>())
}
