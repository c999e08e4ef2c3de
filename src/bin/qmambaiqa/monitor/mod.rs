//! `qmambaiqa monitor`

mod board;
mod command;
mod history;
mod log;
mod picture;
mod pipeline;
mod record;
mod source;
mod stream;
mod terminal;
mod view;
mod web;

use crate::common::{Area, ScorerArgs, line};
use anyhow::{Context, Result, bail};
use board::Board;
use clap::{Args as ClapArgs, ValueEnum};
use command::Command;
use gstreamer as gst;
use log::Logs;
use parking_lot::Mutex;
use pipeline::Setup;
use qmambaiqa::metrics::Exporter;
use record::Record;
use source::Source;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use stream::Event;
use terminal::Screen;
use view::View;

/// How often the state of streams is printed, as lines and on a screen.
const TICK: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_millis(250);

/// How long streams and commands may take to end; what hangs then is left behind.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watch live streams: scores and alarms, and whether they are there at all.
///
/// A stream that fails, ends or stands still is `lost` and tried again, after a second at first and half a minute at the
/// most. Ctrl-C ends it with a summary of each stream. Fails where every stream is given up.
#[derive(ClapArgs)]
pub struct Args {
    /// Streams: whatever GStreamer plays, such as rtsp://camera/1, or files
    #[arg(required = true)]
    uris: Vec<String>,
    #[command(flatten)]
    scorer: ScorerArgs,
    #[command(flatten)]
    area: Area,
    /// Names of the streams, in their order (default: their URIs without user, password and query)
    #[arg(long = "name")]
    names: Vec<String>,
    /// Seconds between scored frames (0: every frame)
    #[arg(long, default_value_t = 0.5)]
    interval: f64,
    /// Share of the interval by which a scored frame comes late at random, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    jitter: f64,
    /// Scores below raise an alarm (0: off)
    #[arg(long, default_value_t = 0.0)]
    low_threshold: f64,
    /// Scores from here on end an alarm (0: those from the low threshold on)
    #[arg(long, default_value_t = 0.0)]
    high_threshold: f64,
    /// Seconds that scores must be beyond a threshold before an alarm begins or ends
    #[arg(long, default_value_t = 1.0)]
    alarm_hold: f64,
    /// Let a black picture raise an alarm, whatever its score
    #[arg(long)]
    black_alarm: bool,
    /// Let a frozen picture raise an alarm, whatever its score
    #[arg(long)]
    freeze_alarm: bool,
    /// Command that is run when an alarm begins or ends and when a stream is lost, back or given up; its environment has
    /// QMAMBAIQA_STREAM, _STATE (low, normal, lost, playing, failed), _REASON and _SCORE. No shell is used: give one as `sh -c '...'`
    #[arg(long)]
    alarm_exec: Option<String>,
    /// Where to serve metrics for Prometheus: HOST:PORT, or a port for this machine alone
    #[arg(long)]
    metrics: Option<String>,
    /// Where to serve a live page of all streams: HOST:PORT, or a port for this machine alone
    #[arg(long)]
    web: Option<String>,
    /// File to which JSON lines are added, or folder for a file of each stream
    #[arg(long)]
    log: Option<PathBuf>,
    /// Seconds without a frame after which a stream is lost
    #[arg(long, default_value_t = 10.0)]
    stall: f64,
    /// Failed tries in a row after which a stream is given up (0: never)
    #[arg(long, default_value_t = 0)]
    retry_limit: u32,
    /// Seconds after which to end (default: never)
    #[arg(long)]
    duration: Option<f64>,
    /// Form of the output; JSON is one object a line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print lines in a terminal too, where there is a view of all streams otherwise
    #[arg(long)]
    plain: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A view of all streams in a terminal; else a line for each stream every second, and one for each change
    Text,
    /// An object for each score, alarm and change of state, and a summary of each stream
    Json,
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| anyhow::anyhow!("{name} {value} is not a number of seconds from 0 on"))
}

/// Refuses a value outside `0..=most`.
fn within(name: &str, value: f64, most: f64) -> Result<()> {
    if !(0.0..=most).contains(&value) {
        bail!("{name} {value} is not within 0 to {most}");
    }
    Ok(())
}

impl Args {
    /// How streams are played and scored.
    fn setup(&self) -> Result<Setup> {
        within("jitter", self.jitter, 1.0)?;
        within("low-threshold", self.low_threshold, 100.0)?;
        within("high-threshold", self.high_threshold, 100.0)?;
        let (low, high) = (self.low_threshold, self.high_threshold);
        if high > 0.0 && high < low {
            bail!("high-threshold {high} is less than low-threshold {low}: an alarm would end before it begins");
        }
        let stall = seconds("stall", self.stall)?;
        if stall.is_zero() {
            bail!("stall 0: every stream would be lost at once");
        }
        Ok(Setup {
            options: self.scorer.options()?,
            plan: self.scorer.plan()?,
            area: self.area,
            interval: seconds("interval", self.interval)?,
            jitter: self.jitter,
            thresholds: [low, high],
            alarm_hold: seconds("alarm-hold", self.alarm_hold)?,
            black_alarm: self.black_alarm,
            freeze_alarm: self.freeze_alarm,
            metrics: self.metrics.clone(),
            stall,
            retry_limit: self.retry_limit,
            pictures: self.web.is_some(),
        })
    }
}

pub fn run(args: &Args) -> Result<bool> {
    let end = match args.duration {
        Some(duration) => Instant::now().checked_add(seconds("duration", duration)?),
        None => None,
    };
    let setup = Arc::new(args.setup()?);
    let on_screen = args.format == Format::Text && !args.plain && stdout().is_terminal() && stdin().is_terminal();
    let quiet = on_screen && stderr().is_terminal();
    let command = args.alarm_exec.as_deref().map(|text| Command::parse(text, quiet)).transpose()?;
    gst::init().context("GStreamer does not start")?;
    qmambaiqa::plugin::register().context("the element cannot be registered")?;
    let sources = Source::all(&args.uris, &args.names)?;
    let logs = args.log.as_deref().map(|path| Logs::open(path, &sources)).transpose()?;
    // Held, so that both are there while every stream is lost.
    let _exporter = args.metrics.as_deref().map(Exporter::open).transpose()?;
    let _scorer = args.scorer.open()?;

    let stop = Arc::new(AtomicBool::new(false));
    let by_signal = stop.clone();
    ctrlc::set_handler(move || by_signal.store(true, Ordering::Relaxed)).context("signals cannot be handled")?;
    let names = sources.iter().map(|source| source.name.clone());
    let board = Arc::new(Mutex::new(Board::new(names, setup.interval, args.low_threshold)));
    let _page = args.web.as_deref().map(|address| web::serve(address, board.clone())).transpose()?;
    let (sender, events) = mpsc::channel();
    let output = match args.format {
        Format::Json => Output::Json,
        Format::Text if on_screen => Output::Screen(Screen::open()?),
        Format::Text => Output::Lines,
    };
    let mut monitor = Monitor { output, board, logs, command };
    for (number, source) in sources.into_iter().enumerate() {
        let (setup, sender, stop) = (setup.clone(), sender.clone(), stop.clone());
        let watch = move || {
            let emit = |event| drop(sender.send((number, event)));
            // A fault, which has said what it is, must not leave a stream that looks well and is not watched.
            if catch_unwind(AssertUnwindSafe(|| stream::watch(&source, &setup, &stop, &emit))).is_err() {
                emit(Event::Lost { cause: "a fault of this program".into(), failures: 1 });
                emit(Event::GivenUp);
            }
        };
        std::thread::Builder::new().name(format!("stream-{number}")).spawn(watch).context("no thread for a stream")?;
    }
    drop(sender);
    let result = monitor.watch(&events, end, &stop);
    if let Output::Screen(_) = monitor.output {
        monitor.output = Output::Lines; // for the summaries
    }
    stop.store(true, Ordering::Relaxed);
    let result = result.and_then(|()| monitor.finish(&events));
    result.map(|()| monitor.board.lock().views.iter().any(|view| !view.is_given_up()))
}

/// How standard output is used.
enum Output {
    Json,
    Lines,
    Screen(Screen),
}

/// What the events of all streams go to.
struct Monitor {
    output: Output,
    board: Arc<Mutex<Board>>,
    logs: Option<Logs>,
    command: Option<Command>,
}

impl Monitor {
    /// Until the end, a signal, or until all streams are given up.
    fn watch(
        &mut self,
        events: &mpsc::Receiver<(usize, Event)>,
        end: Option<Instant>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut tick = Instant::now();
        loop {
            // Short, for a signal to be seen soon.
            match events.recv_timeout(Duration::from_millis(50)) {
                Ok((number, event)) => self.take(number, event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end) {
                return Ok(());
            }
            match &mut self.output {
                Output::Screen(screen) => {
                    if screen.is_over()? {
                        return Ok(());
                    }
                    if now >= tick {
                        tick = now + REFRESH;
                        screen.draw(&mut self.board.lock())?;
                    }
                }
                Output::Lines if now >= tick => {
                    tick = now + TICK;
                    self.board.lock().views.iter().try_for_each(|view| line(&view.status()))?;
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, number: usize, event: Event) -> Result<()> {
        let Some(record) = self.board.lock().take(number, event) else { return Ok(()) };
        if let Some(command) = &self.command {
            command.run(&record);
        }
        self.write(number, &record)
    }

    fn write(&mut self, number: usize, record: &Record) -> Result<()> {
        let json = serde_json::to_string(record)?;
        if let Some(logs) = &mut self.logs {
            logs.write(number, &json);
        }
        match self.output {
            Output::Json => line(&json),
            Output::Lines => record.text().map_or(Ok(()), |text| line(&text)),
            Output::Screen(_) => Ok(()), // the board has it
        }
    }

    /// Lets streams end and sums up.
    fn finish(&mut self, events: &mpsc::Receiver<(usize, Event)>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Ok((number, event)) = events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.take(number, event)?;
        }
        if let Some(command) = &self.command {
            command.finish(deadline);
        }
        let summaries: Vec<Record> = self.board.lock().views.iter().map(View::summary).collect();
        summaries.iter().enumerate().try_for_each(|(number, summary)| self.write(number, summary))
    }
}
