//! `qmambaiqa`: scores, compares, inspects, converts, trains, tunes and evaluates from the command line.

mod codec;
mod common;
mod compare;
mod convert;
mod distort;
mod evaluate;
mod features;
mod ffmpeg;
mod inspect;
mod monitor;
mod protocol;
mod score;
mod source;
mod train;
mod training;
mod tune;
mod variation;
mod video;
mod wrap;

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
    Score(score::Args),
    Ffmpeg(wrap::Args),
    Compare(compare::Args),
    Monitor(monitor::Args),
    Inspect(inspect::Args),
    Convert(convert::Args),
    Evaluate(evaluate::Args),
    Features(features::Args),
    Train(Box<train::Args>),
    Tune(Box<tune::Args>),
    Distort(distort::Args),
    Protocol(protocol::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Score(args) => score::run(&args),
        Command::Ffmpeg(args) => wrap::run(&args),
        Command::Compare(args) => compare::run(args),
        Command::Monitor(args) => monitor::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Features(args) => features::run(&args),
        Command::Train(args) => train::run(*args).map(|()| true),
        Command::Protocol(args) => protocol::run(&args),
        Command::Distort(args) => distort::run(&args),
        Command::Tune(args) => tune::run(*args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE, // what failed has been said
        Err(error) if common::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            common::complain(&error);
            ExitCode::FAILURE
        }
    }
}
