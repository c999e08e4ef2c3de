//! All streams and what happened to them, as views show it.

use super::record::{Record, unix_time};
use super::stream::Event;
use super::view::{Snapshot, View};
use image::RgbImage;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many happenings are shown.
const HAPPENINGS: usize = 50;

/// An alarm or a change of state.
#[derive(Serialize)]
pub struct Happening {
    /// In seconds since 1970.
    pub unix_time: f64,
    pub text: String,
}

pub struct Board {
    began: Instant,
    pub views: Vec<View>,
    /// The newest first.
    pub happenings: VecDeque<Happening>,
    low_threshold: f64,
}

/// What the page gets.
#[derive(Serialize)]
pub struct Overview<'a> {
    /// In seconds, that curves reach back.
    window: f64,
    low_threshold: f64,
    streams: Vec<Snapshot<'a>>,
    events: &'a VecDeque<Happening>,
}

/// Which picture of a stream.
#[derive(Clone, Copy)]
pub enum Which {
    Last,
    /// Of the window.
    Worst,
}

impl Board {
    pub fn new(names: impl Iterator<Item = String>, interval: Duration, low_threshold: f64) -> Self {
        let views = names.map(|name| View::new(name, interval)).collect();
        Self { began: Instant::now(), views, happenings: VecDeque::new(), low_threshold }
    }

    /// Since the monitor began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes an event of a stream in; gives the record of what is news.
    pub fn take(&mut self, number: usize, event: Event) -> Option<Record> {
        let now = self.now();
        let record = self.views.get_mut(number)?.take(event, now)?;
        if let Some(text) = record.text() {
            self.note(record.unix_time, text);
        }
        Some(record)
    }

    fn note(&mut self, unix_time: f64, text: String) {
        self.happenings.truncate(HAPPENINGS - 1);
        self.happenings.push_front(Happening { unix_time, text });
    }

    pub fn note_now(&mut self, text: String) {
        self.note(unix_time(), text);
    }

    /// How far curves reach back.
    pub fn window(&self) -> Duration {
        self.views.first().map_or(Duration::ZERO, |view| view.history.window())
    }

    pub fn overview(&self) -> Overview<'_> {
        let now = self.now();
        Overview {
            window: self.window().as_secs_f64(),
            low_threshold: self.low_threshold,
            streams: self.views.iter().map(|view| view.snapshot(now)).collect(),
            events: &self.happenings,
        }
    }

    /// A picture of a stream, where there is one.
    pub fn picture(&self, number: usize, which: Which) -> Option<Arc<RgbImage>> {
        let view = self.views.get(number)?;
        let still = match which {
            Which::Last => view.last.as_ref(),
            Which::Worst => view.history.worst(self.now()),
        };
        still.map(|still| still.picture.clone())
    }
}
