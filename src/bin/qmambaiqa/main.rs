//! `qmambaiqa`: scores, inspects, converts, trains and evaluates from the command line.

mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// No-reference video and picture quality with QMamba.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => train::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qmambaiqa: {error:#}");
            ExitCode::FAILURE
        }
    }
}
