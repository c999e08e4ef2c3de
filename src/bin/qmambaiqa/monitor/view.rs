//! What is known of a stream, and how it is put for people.

use super::record::{Record, What, tries};
use super::stream::Event;
use qmambaiqa::plugin::Report;
use qmambaiqa::pooling::Pool;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Playing,
    Lost,
    /// Given up.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Playing => "playing",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
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
    alarms: u64,
    losses: u64,
    dropped: u64,
}

impl View {
    pub fn new(name: String) -> Self {
        Self {
            name,
            state: State::Connecting,
            cause: None,
            failures: 0,
            score: None,
            alarm: None,
            pool: Pool::new(None),
            alarms: 0,
            losses: 0,
            dropped: 0,
        }
    }

    pub fn is_given_up(&self) -> bool {
        self.state == State::Failed
    }

    /// Takes an event in; gives the record of what is news.
    pub fn take(&mut self, event: &Event) -> Option<Record> {
        match event {
            Event::Report(Report::Frame { times, quality }) => {
                self.score = Some(quality.score);
                self.pool.push(None, quality.score);
                let known = |value: f64| value.is_finite().then_some(value);
                let i = &quality.indicators;
                Some(self.record(What::Score {
                    time: (times.stream_time != u64::MAX).then(|| times.stream_time as f64 / 1e9),
                    score: quality.score,
                    deviation: quality.deviation,
                    confidence: known(quality.confidence),
                    black: i.black,
                    frozen: i.frozen as f64 / 1e9,
                    sharpness: i.sharpness,
                    scene: i.scene,
                }))
            }
            Event::Report(Report::Alarm { low, reason, score, threshold, .. }) => {
                self.alarm = low.then_some(reason.name());
                self.alarms += u64::from(*low);
                let state = if *low { "low" } else { "normal" };
                let (reason, score, threshold) = (reason.name(), *score, *threshold);
                Some(self.record(What::Alarm { state, reason, score, threshold }))
            }
            Event::Report(_) => None,
            Event::Dropped(frames) => {
                self.dropped += frames;
                None
            }
            Event::Playing => self.change(State::Playing),
            Event::Lost { cause, failures } => {
                self.cause = Some(cause.clone());
                self.failures = *failures;
                // An alarm ends with the pictures that it was about.
                (self.score, self.alarm) = (None, None);
                self.change(State::Lost)
            }
            Event::GivenUp => self.change(State::Failed),
        }
    }

    /// Changes the state; the record of it, where it is another.
    fn change(&mut self, state: State) -> Option<Record> {
        if self.state == state {
            return None;
        }
        self.losses += u64::from(state == State::Lost);
        self.state = state;
        let cause = self.cause.clone().filter(|_| state != State::Playing);
        Some(self.record(What::State { state: state.name(), cause, failures: self.failures }))
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

    /// What comes of the stream.
    pub fn summary(&self) -> Record {
        let (alarms, losses, dropped) = (self.alarms, self.losses, self.dropped);
        self.record(What::Summary { statistics: self.pool.stream(), alarms, losses, dropped })
    }
}
