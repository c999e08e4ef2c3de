//! `qmambaiqa protocol`

use crate::common::line;
use crate::training::{threads, watching, without_candles_threads};
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use qmambaiqa::train::protocol::{Kind, Protocol, table};
use std::path::PathBuf;

/// Run one of the paper's protocols on your own copies of its data sets; a stopped run goes on when called again.
///
/// The configuration names the sets and what is trained; examples/protocols has one for each table of the paper.
/// Prints a table in the paper's form and leaves it as CSV, with every outcome as JSON, in the configured folder.
#[derive(ClapArgs)]
pub struct Args {
    /// Which
    #[arg(value_enum)]
    kind: Which,
    /// Configuration, TOML
    #[arg(long)]
    config: PathBuf,
    /// Threads (0: one for each core)
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Each set by itself
    TaskSpecific,
    /// All sets mixed
    Universal,
    /// From one domain to another
    Transfer,
}

pub fn run(args: &Args) -> Result<bool> {
    without_candles_threads()?;
    let protocol = Protocol::read(&args.config)?;
    let (kind, name) = match args.kind {
        Which::TaskSpecific => (Kind::TaskSpecific, "task-specific"),
        Which::Universal => (Kind::Universal, "universal"),
        Which::Transfer => (Kind::Transfer, "transfer"),
    };
    let (bar, watch) = watching()?;
    let outcomes = protocol.run(kind, threads(args.threads), &watch)?;
    bar.finish_and_clear();
    let sets: Vec<String> = protocol.sets.keys().cloned().collect();
    let rows = table(&outcomes, &sets);
    let path = protocol.out.join(format!("{name}.csv"));
    let mut csv = csv::Writer::from_path(&path).with_context(|| path.display().to_string())?;
    for row in &rows {
        csv.write_record(row)?;
    }
    csv.flush()?;
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(cells.join("  ").trim_end())?;
    }
    Ok(true)
}
