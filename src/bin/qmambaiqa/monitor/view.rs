//! What is known of a stream, and how it is put for people.

use super::history::{History, Still};
use super::record::{Record, What, tries};
use super::stream::Event;
use image::RgbImage;
use qmambaiqa::plugin::{FrameQuality, Report, Times};
use qmambaiqa::pooling::Pool;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Connecting,
    Playing,
    Lost,
    /// Given up.
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Playing => "playing",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// What is shown of a stream.
#[derive(Serialize)]
pub struct Snapshot<'a> {
    pub name: &'a str,
    pub state: &'static str,
    /// Of the last loss, until the stream is back.
    pub cause: Option<&'a str>,
    pub failures: u32,
    pub score: Option<f64>,
    /// Why there is one.
    pub alarm: Option<&'static str>,
    pub alarms: u64,
    pub losses: u64,
    /// Over all scored frames.
    pub mean: Option<f64>,
    /// Over the window.
    pub curve: Vec<Option<f64>>,
    /// Numbers of the frames that there are pictures of.
    pub last: Option<u64>,
    pub worst: Option<Worst>,
}

#[derive(Serialize)]
pub struct Worst {
    number: u64,
    score: f64,
    unix_time: f64,
}

pub struct View {
    name: String,
    state: State,
    /// Of the last loss.
    cause: Option<String>,
    failures: u32,
    /// Of the newest scored frame, while the stream plays.
    score: Option<f64>,
    /// Why there is one.
    alarm: Option<&'static str>,
    pool: Pool,
    scored: u64,
    pub history: History,
    /// Of the newest scored frame, where pictures are wanted.
    pub last: Option<Still>,
    alarms: u64,
    losses: u64,
    dropped: u64,
}

impl View {
    /// Of a stream that is scored every so often.
    pub fn new(name: String, interval: Duration) -> Self {
        Self {
            name,
            state: State::Connecting,
            cause: None,
            failures: 0,
            score: None,
            alarm: None,
            pool: Pool::new(None),
            scored: 0,
            history: History::new(interval),
            last: None,
            alarms: 0,
            losses: 0,
            dropped: 0,
        }
    }

    pub fn is_given_up(&self) -> bool {
        self.state == State::Failed
    }

    /// Takes an event in, so long after the monitor began; gives the record of what is news.
    pub fn take(&mut self, event: Event, now: Duration) -> Option<Record> {
        match event {
            Event::Report { report, picture } => match *report {
                Report::Frame { times, quality } => Some(self.frame(times, &quality, picture, now)),
                Report::Alarm { low, reason, score, threshold, .. } => {
                    self.alarm = low.then_some(reason.name());
                    self.alarms += u64::from(low);
                    let (state, reason) = (if low { "low" } else { "normal" }, reason.name());
                    Some(self.record(What::Alarm { state, reason, score, threshold }))
                }
                _ => None,
            },
            Event::Dropped(frames) => {
                self.dropped += frames;
                None
            }
            Event::Playing => self.change(State::Playing),
            Event::Lost { cause, failures } => {
                (self.cause, self.failures) = (Some(cause), failures);
                // An alarm ends with the pictures that it was about.
                (self.score, self.alarm) = (None, None);
                self.change(State::Lost)
            }
            Event::GivenUp => self.change(State::Failed),
        }
    }

    fn frame(&mut self, times: Times, quality: &FrameQuality, picture: Option<RgbImage>, now: Duration) -> Record {
        let score = quality.score;
        let known = |value: f64| value.is_finite().then_some(value);
        let i = &quality.indicators;
        let record = self.record(What::Score {
            time: (times.stream_time != u64::MAX).then(|| times.stream_time as f64 / 1e9),
            score,
            deviation: quality.deviation,
            confidence: known(quality.confidence),
            black: i.black,
            frozen: i.frozen as f64 / 1e9,
            sharpness: i.sharpness,
            scene: i.scene,
        });
        self.score = Some(score);
        self.scored += 1;
        self.pool.push(None, score);
        self.history.push(now, score);
        if let Some(picture) = picture.map(Arc::new) {
            let still = Still { picture, score, number: self.scored, unix_time: record.unix_time, time: now };
            self.history.keep(&still);
            self.last = Some(still);
        }
        record
    }

    /// Changes the state; the record of it, where it is another.
    fn change(&mut self, state: State) -> Option<Record> {
        if self.state == state {
            return None;
        }
        self.losses += u64::from(state == State::Lost);
        self.state = state;
        let cause = self.cause().map(str::to_owned);
        Some(self.record(What::State { state: state.name(), cause, failures: self.failures }))
    }

    /// Of the last loss, until the stream is back.
    fn cause(&self) -> Option<&str> {
        self.cause.as_deref().filter(|_| self.state != State::Playing)
    }

    fn record(&self, what: What) -> Record {
        Record::new(&self.name, what)
    }

    /// What is printed every second.
    pub fn status(&self) -> String {
        let score = self.score.map_or("-".into(), |score| format!("{score:.2}"));
        let alarm = self.alarm.map_or(String::new(), |reason| format!("  ALARM {reason}"));
        let failures = match self.state {
            State::Lost => format!("  {} failed so far", tries(self.failures)),
            _ => String::new(),
        };
        format!("{}  {}  score {score}{alarm}{failures}", self.name, self.state.name())
    }

    pub fn snapshot(&self, now: Duration) -> Snapshot<'_> {
        let worst = self.history.worst(now);
        Snapshot {
            name: &self.name,
            state: self.state.name(),
            cause: self.cause(),
            failures: self.failures,
            score: self.score,
            alarm: self.alarm,
            alarms: self.alarms,
            losses: self.losses,
            mean: self.pool.stream().map(|statistics| statistics.mean),
            curve: self.history.curve(now),
            last: self.last.as_ref().map(|still| still.number),
            worst: worst.map(|w| Worst { number: w.number, score: w.score, unix_time: w.unix_time }),
        }
    }

    /// What comes of the stream.
    pub fn summary(&self) -> Record {
        let (alarms, losses, dropped) = (self.alarms, self.losses, self.dropped);
        self.record(What::Summary { statistics: self.pool.stream(), alarms, losses, dropped })
    }
}
