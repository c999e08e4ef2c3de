//! `qmambaiqa train`

use crate::training::TrainingArgs;
use anyhow::Result;
use clap::Args as ClapArgs;

/// Train a network on folders of pictures with opinion scores; a killed run goes on when called again.
#[derive(ClapArgs)]
pub struct Args {
    /// Network to train
    #[arg(long, default_value = "qmamba-nano")]
    model: String,
    /// Weights to start from: an embedded model, a file (a classification head is replaced), or another run's checkpoint
    /// (its averages, with the heads for teacher and auxiliary sets)
    #[arg(long)]
    start: Option<String>,
    #[command(flatten)]
    training: TrainingArgs,
}

pub fn run(args: Args) -> Result<()> {
    args.training.run(args.model, args.start, None)
}
