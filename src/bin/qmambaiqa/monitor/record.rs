//! What is written of events, as JSON lines.

use qmambaiqa::pooling::Statistics;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line: its stream, the time in seconds since 1970, and what happened.
#[derive(Serialize)]
pub struct Record {
    pub stream: String,
    pub unix_time: f64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum What {
    /// Of a frame, with the fields of [`qmambaiqa::log::Record`] that say something here.
    Score {
        /// Position in the stream in seconds, since it was last found.
        time: Option<f64>,
        score: f64,
        deviation: f64,
        confidence: Option<f64>,
        black: f64,
        /// In seconds.
        frozen: f64,
        sharpness: Option<f64>,
        scene: u64,
    },
    /// One begins (`low`) or ends (`normal`).
    Alarm { state: &'static str, reason: &'static str, score: f64, threshold: f64 },
    /// The stream is `playing`, `lost` or `failed` (given up).
    State { state: &'static str, cause: Option<String>, failures: u32 },
    /// At the end.
    Summary {
        statistics: Option<Statistics>,
        alarms: u64,
        /// How often it was lost.
        losses: u64,
        /// Frames that were due and gave way to newer ones.
        dropped: u64,
    },
}

impl Record {
    pub fn new(stream: &str, what: What) -> Self {
        Self { stream: stream.to_owned(), unix_time: unix_time(), what }
    }

    /// For people; none of a score.
    pub fn text(&self) -> Option<String> {
        let what = match &self.what {
            What::Score { .. } => return None,
            What::Alarm { state: "low", reason, score, threshold } => {
                format!("ALARM {reason}: score {score:.2}, threshold {threshold}")
            }
            What::Alarm { reason, score, .. } => format!("alarm over ({reason}): score {score:.2}"),
            What::State { state, cause: Some(cause), failures } if *failures > 1 => {
                format!("{state} after {}: {cause}", tries(*failures))
            }
            What::State { state, cause: Some(cause), .. } => format!("{state}: {cause}"),
            What::State { state, failures: 0, .. } => (*state).to_owned(),
            What::State { state, failures, .. } => format!("{state} again, after {} failed", tries(*failures)),
            What::Summary { statistics, alarms, losses, dropped } => {
                let scores = statistics.as_ref().map_or("no frame scored".into(), |s| {
                    format!("{} scored frames: mean {:.2}, min {:.2}, p5 {:.2}", s.frames, s.mean, s.min, s.p5)
                });
                format!("{scores}; {alarms} alarms, lost {losses} times, {dropped} frames left out")
            }
        };
        Some(format!("{}  {what}", self.stream))
    }
}

/// Now, in seconds since 1970.
pub fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

pub fn tries(count: u32) -> String {
    if count == 1 { "1 try".into() } else { format!("{count} tries") }
}
