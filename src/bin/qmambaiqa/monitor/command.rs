//! The command that is run for alarms and changes of state.

use super::record::{Record, What};
use crate::common::complain;
use anyhow::{Context, Result, bail};
use std::process::{self, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many may run at a time; one that hangs must not fill the machine.
const AT_ONCE: usize = 16;

pub struct Command {
    program: String,
    arguments: Vec<String>,
    /// Whether what it prints goes nowhere.
    quiet: bool,
    /// Each running command has a clone.
    running: Arc<()>,
}

impl Command {
    /// Splits a command into words as a shell does. What it prints goes to standard error, or nowhere.
    ///
    /// # Errors
    /// There is no word, or a quotation without an end.
    pub fn parse(text: &str, quiet: bool) -> Result<Self> {
        let mut words =
            shlex::split(text).with_context(|| format!("alarm-exec `{text}` has a quotation without an end"))?;
        if words.is_empty() {
            bail!("alarm-exec is empty");
        }
        Ok(Self { program: words.remove(0), arguments: words, quiet, running: Arc::new(()) })
    }

    /// Waits for those that are running, until a deadline.
    pub fn finish(&self, deadline: Instant) {
        while Arc::strong_count(&self.running) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs it where the record is of an alarm or a state; does not wait, and complains where it fails.
    pub fn run(&self, record: &Record) {
        let (state, reason, score) = match &record.what {
            What::Alarm { state, reason, score, .. } => (*state, (*reason).to_owned(), score.to_string()),
            What::State { state, cause, .. } => (*state, cause.clone().unwrap_or_default(), String::new()),
            What::Score { .. } | What::Summary { .. } => return,
        };
        let running = self.running.clone();
        if Arc::strong_count(&running) > AT_ONCE + 1 {
            complain(&anyhow::anyhow!("alarm-exec: {AT_ONCE} are still running; left out for {}", record.stream));
            return;
        }
        let mut command = process::Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        if self.quiet {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        } else {
            command.stdout(std::io::stderr()); // standard output is for results
        }
        command.env("QMAMBAIQA_STREAM", &record.stream).env("QMAMBAIQA_STATE", state);
        command.env("QMAMBAIQA_REASON", reason).env("QMAMBAIQA_SCORE", score);
        let program = self.program.clone();
        let run = move || {
            let _running = running;
            match command.status() {
                Ok(status) if status.success() => {}
                Ok(status) => complain(&anyhow::anyhow!("alarm-exec: {program}: {status}")),
                Err(error) => complain(&anyhow::Error::from(error).context(format!("alarm-exec: {program}"))),
            }
        };
        if let Err(error) = std::thread::Builder::new().name("alarm-exec".into()).spawn(run) {
            complain(&anyhow::Error::from(error).context("alarm-exec: no thread"));
        }
    }
}
