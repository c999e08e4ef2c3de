//! The table mos.csv of a folder.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const HEAD: &str = "image,mos,reference,codec,setting,disagreement,ssimulacra2,vmaf,vmaf_neg,ms_ssim,aim,factor,kernel,\
                    chroma,grain,denoise\n";

/// A table to which contents are added.
pub struct Table {
    path: PathBuf,
    file: File,
    done: BTreeSet<String>,
}

impl Table {
    /// Opens the table of `folder`, in which each content has `rows` rows.
    pub fn open(folder: &Path, rows: usize) -> Result<Self> {
        let path = folder.join("mos.csv");
        let done = done(&path, rows)?;
        let file = OpenOptions::new().append(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file, done })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn has(&self, content: &str) -> bool {
        self.done.contains(content)
    }

    pub fn add(&mut self, rows: &str) -> Result<()> {
        let written = self.file.write_all(rows.as_bytes()).and_then(|()| self.file.flush());
        written.with_context(|| self.path.display().to_string())
    }
}

/// The contents that the table has all `rows` of; what it has of others, where a run was stopped, is taken out.
fn done(table: &Path, rows: usize) -> Result<BTreeSet<String>> {
    let at = || table.display().to_string();
    let text = if table.exists() { fs::read_to_string(table).with_context(at)? } else { String::new() };
    if let Some((head, _)) = text.split_once('\n')
        && head != HEAD.trim_end()
    {
        bail!("{}: has other columns than distort writes; give another folder", table.display());
    }
    let lines = || text.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n'));
    let content = |line: &str| line.split(',').nth(2).unwrap_or_default().to_owned();
    let mut counts = BTreeMap::new();
    lines().for_each(|line| *counts.entry(content(line)).or_insert(0) += 1);
    counts.retain(|_, count| *count == rows);
    let kept: String = lines().filter(|line| counts.contains_key(&content(line))).collect();
    let whole = HEAD.to_owned() + &kept;
    if whole != text {
        fs::write(table, whole).with_context(at)?;
    }
    Ok(counts.into_keys().collect())
}
