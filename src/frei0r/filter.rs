//! The filter behind frei0r's functions.

use crate::crops::{CropPlan, Sampling, Scales};
use crate::frame::{Colour, Frame, PixelFormat, Plane};
use crate::indicators::Watch;
use crate::log::{Format, Log, Record};
use crate::{Error, Options, Result, Scorer};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What logs name the stream: frei0r knows of no name.
const STREAM: &str = "frei0r";

pub(super) struct Parameter {
    pub name: &'static CStr,
    pub explanation: &'static CStr,
    /// Else a number.
    pub is_text: bool,
}

const fn parameter(name: &'static CStr, is_text: bool, explanation: &'static CStr) -> Parameter {
    Parameter { name, explanation, is_text }
}

pub(super) const PARAMETERS: [Parameter; 8] = [
    parameter(c"log", true, c"File to write scores to: .jsonl, .csv, or .json in VMAF's layout"),
    parameter(c"crops", false, c"Crops of 224x224 scored in each frame, 1 to 64"),
    parameter(c"interval", false, c"Seconds between scored frames; 0: every frame"),
    parameter(c"style-prompt", true, c"none, an embedded style prompt such as compression, or a weights file"),
    parameter(c"model", true, c"Embedded model (qmamba-nano) or weights file"),
    parameter(
        c"time-unit",
        false,
        c"Seconds in a unit of the host's time: 0.001 with ffmpeg, 1 with hosts that keep to frei0r",
    ),
    parameter(c"scales", true, c"Sizes of the picture that crops are taken of: auto, or reductions such as 1,2,4"),
    parameter(c"display-height", false, c"Rows of the display that quality is judged on; 0: the picture's own"),
];

/// A parameter's value. Texts stay as C has them, which asks for them again.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Text(CString),
}

/// One use of the filter.
pub(super) struct Filter {
    size: (usize, usize),
    /// In the order of [`PARAMETERS`].
    values: [Value; 8],
    state: State,
}

enum State {
    /// The next frame begins.
    New,
    Running(Box<Running>),
    /// What is wrong has been said.
    Failed,
}

struct Running {
    scorer: Scorer,
    plan: CropPlan,
    interval: f64,
    time_unit: f64,
    watch: Watch,
    log: Log,
    /// Number of the next frame.
    next: u64,
    /// Time of the frame that was scored last.
    last: Option<f64>,
}

/// Logs that this process has begun.
static LOGS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Begins a log, which a process does once for each: hosts make instances anew as they like, say when they seek, or two of the
/// same settings, and what is in the log would be lost.
fn begin(path: &Path, format: Format) -> Result<Log> {
    let mut logs = LOGS.lock();
    // A path that is not there, or no more, has nothing to lose.
    if path.canonicalize().is_ok_and(|path| logs.contains(&path)) {
        return Err(Error::Input(format!(
            "{}: this process has begun this log already and would lose what is in it; name another",
            path.display()
        )));
    }
    let log = Log::create(path, format)?;
    logs.extend(path.canonicalize());
    Ok(log)
}

/// Says what is wrong, in one line.
pub(super) fn complain(error: &Error) {
    eprintln!("qmambaiqa: {}", error.to_string().replace('\n', " "));
}

impl Filter {
    /// For frames of RGBA of that size.
    ///
    /// # Errors
    /// A side is zero, or rows have gaps in some hosts.
    pub fn new(width: usize, height: usize) -> Result<Self> {
        if width == 0 || height == 0 || !width.is_multiple_of(4) {
            // frei0r wants multiples of 8; ffmpeg pads other rows to 16 bytes without a word.
            return Err(Error::Input(format!(
                "frames of {width}x{height}: frei0r's must have a width that is a multiple of 4; crop or scale them before"
            )));
        }
        let text = |text: &str| Value::Text(CString::new(text).unwrap_or_default());
        let Options { model, style_prompt, .. } = Options::default();
        let [crops, interval, time_unit] = [4.0, 0.0, 0.001].map(Value::Number);
        let scales = text(&Scales::default().to_string());
        let own_height = Value::Number(0.0);
        let values = [text(""), crops, interval, text(&style_prompt), text(&model), time_unit, scales, own_height];
        Ok(Self { size: (width, height), values, state: State::New })
    }

    /// Pixels of a frame.
    pub fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    pub fn get(&self, index: usize) -> &Value {
        &self.values[index]
    }

    /// Sets a parameter; a value of another type than the parameter's is left alone.
    pub fn set(&mut self, index: usize, value: Value) {
        let current = &mut self.values[index];
        // Hosts set what has not changed before each frame.
        if *current != value && std::mem::discriminant(current) == std::mem::discriminant(&value) {
            *current = value;
            self.state = State::New;
        }
    }

    /// Scores a frame of RGBA, `time` units from the start, where it is due.
    pub fn update(&mut self, time: f64, frame: &[u8]) {
        // Failed until it has gone well: a panic goes through here.
        let running = match std::mem::replace(&mut self.state, State::Failed) {
            State::Failed => return,
            State::Running(running) => Ok(running),
            State::New => self.open().map(Box::new),
        };
        let scored = running.and_then(|mut running| running.look(time, frame, self.size).map(|()| running));
        match scored {
            Ok(running) => self.state = State::Running(running),
            Err(error) => complain(&error),
        }
    }

    fn open(&self) -> Result<Running> {
        let number = |index: usize| match &self.values[index] {
            Value::Number(number) => *number,
            Value::Text(_) => f64::NAN,
        };
        let text = |index: usize| match &self.values[index] {
            Value::Text(text) => text.to_str().map_err(|_| Error::Input(format!("{text:?} is not UTF-8"))),
            Value::Number(_) => Ok(""),
        };
        let (path, crops, interval, time_unit, rows) = (text(0)?, number(1), number(2), number(5), number(7));
        if path.is_empty() {
            return Err(Error::Input("no log, so nothing is scored: frei0r=qmambaiqa:scores.jsonl names one".into()));
        }
        let format = Format::of(Path::new(path))?;
        if crops.fract() != 0.0 || !(0.0..=1e6).contains(&crops) {
            return Err(Error::Input(format!("crops {crops} is not a number of crops")));
        }
        if rows.fract() != 0.0 || !(0.0..=1e6).contains(&rows) {
            return Err(Error::Input(format!("display-height {rows} is not a number of rows")));
        }
        let plan = CropPlan::new(crops as usize, Sampling::default(), 0)?;
        let plan = plan.with_scales(text(6)?.parse()?).with_display_height(rows as usize)?;
        if Duration::try_from_secs_f64(interval).is_err() {
            return Err(Error::Input(format!("interval {interval} is not a number of seconds from 0 on")));
        }
        if !(time_unit.is_finite() && time_unit > 0.0) {
            return Err(Error::Input(format!("time-unit {time_unit} is not a number of seconds over 0")));
        }
        let options = Options { style_prompt: text(3)?.into(), model: text(4)?.into(), ..Options::default() };
        let scorer = Scorer::open(&options)?;
        for warning in scorer.warnings() {
            eprintln!("qmambaiqa: warning: {warning}");
        }
        // Last, so that nothing that is wrong costs an old log.
        let log = begin(Path::new(path), format)?;
        Ok(Running { scorer, plan, interval, time_unit, watch: Watch::default(), log, next: 0, last: None })
    }
}

impl Running {
    fn look(&mut self, time: f64, frame: &[u8], (width, height): (usize, usize)) -> Result<()> {
        let index = self.next;
        self.next += 1;
        let time = time * self.time_unit;
        let shown = Duration::try_from_secs_f64(time).ok(); // hosts may not know it
        let time = shown.map(|_| time);
        if let (Some(time), Some(last)) = (time, self.last)
            && (last..last + self.interval - 1e-9).contains(&time)
        {
            return Ok(());
        }
        self.last = time;
        let frame = Frame::new(PixelFormat::Rgba, width, height, &[Plane::new(frame, 4 * width)], Colour::SRGB)?;
        let score = self.scorer.score(&frame, &self.plan, index)?;
        let names = (self.scorer.model_name(), self.scorer.style_prompt_name());
        let indicators = self.watch.look(&frame, shown)?;
        self.log.write(&Record::new(STREAM, index, time, &score, names).with(&indicators))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.log.complete() {
            complain(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_begun_once() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["a.jsonl", "b.jsonl"].map(|name| folder.path().join(name));
        let filter = |log: &Path| {
            let mut filter = Filter::new(224, 224).unwrap();
            filter.set(0, Value::Text(CString::new(log.to_str().unwrap()).unwrap()));
            filter.set(1, Value::Number(1.0));
            filter
        };
        let frame: Vec<u8> = (0..4 * 224 * 224).map(|i| (i % 251) as u8).collect();
        let lines = |log: &Path| std::fs::read_to_string(log).unwrap().lines().count();
        filter(&first).update(0.0, &frame); // ends here
        assert_eq!(lines(&first), 1);
        let mut again = filter(&folder.path().join(".").join("a.jsonl"));
        [0.0, 40.0].into_iter().for_each(|time| again.update(time, &frame));
        assert!(matches!(again.state, State::Failed));
        assert_eq!(lines(&first), 1);
        again.set(0, Value::Text(CString::new(second.to_str().unwrap()).unwrap()));
        [80.0, 120.0].into_iter().for_each(|time| again.update(time, &frame));
        drop(again);
        assert_eq!((lines(&first), lines(&second)), (1, 2));
    }
}
