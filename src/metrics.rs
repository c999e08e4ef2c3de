//! Metrics for a monitoring system: OpenMetrics text over HTTP, at `/metrics`, as Prometheus scrapes it.
//!
//! Each has the labels `stream`, `model` and `style_prompt`.
//!
//! | metric | |
//! |---|---|
//! | `qmambaiqa_score` | gauge: of the last scored frame, 0 (worst) to 100 (best) |
//! | `qmambaiqa_score_window_mean`, `qmambaiqa_score_ewma` | gauges: mean over the window, moving average |
//! | `qmambaiqa_alarm` | gauge: 1 while there is an alarm, else 0 |
//! | `qmambaiqa_black`, `qmambaiqa_change`, `qmambaiqa_sharpness`, `qmambaiqa_frozen_seconds`, `qmambaiqa_scene` | gauges: the last scored frame's [indicators](crate::indicators), where they are known |
//! | `qmambaiqa_frames_seen_total`, `_scored_total`, `_dropped_total`, `_late_total` | counters |
//! | `qmambaiqa_scores`, `qmambaiqa_scoring_time_seconds` | histograms: of scores, of the time that scoring a frame takes |
//!
//! Gauges are there from the first scored frame on; a stream's series go when it stops. Streams of one process may share an
//! address.

use crate::http::{Content, Server, Site};
use crate::indicators::Indicators;
use crate::{Error, Result};
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

const SITE: Site = Site { what: "metrics", home: "/metrics" };

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    stream: String,
    model: String,
    style_prompt: String,
}

type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What a scored frame tells.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    pub model: &'a str,
    pub style_prompt: &'a str,
    /// 0 (worst) to 100 (best), as the mean and the average.
    pub score: f64,
    pub window_mean: Option<f64>,
    pub ewma: Option<f64>,
    /// Whether there is an alarm.
    pub alarm: bool,
    pub indicators: Indicators,
    /// The time that scoring it took.
    pub took: Duration,
}

/// What happens to a frame.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// It passes.
    Seen,
    /// It has a score of its own.
    Scored,
    /// It was due and gave way to a newer one.
    Dropped,
    /// It was due and too late to be scored.
    Late,
}

/// Every metric.
struct Families {
    /// In the order of [`GAUGES`].
    gauges: [Gauges; 9],
    /// In the order of [`Event`].
    counters: [Counters; 4],
    scores: Histograms,
    times: Histograms,
}

/// The gauges' values, in the order of [`GAUGES`].
fn gauges(sample: &Sample) -> [Option<f64>; 9] {
    let Indicators { black, change, frozen, sharpness, scene } = sample.indicators;
    let alarm = f64::from(u8::from(sample.alarm));
    let (score, frozen, scene) = (Some(sample.score), Some(frozen as f64 / 1e9), Some(scene as f64));
    [score, sample.window_mean, sample.ewma, Some(alarm), Some(black), change, sharpness, frozen, scene]
}

const GAUGES: [(&str, &str); 9] = [
    ("score", "Quality of the last scored frame, 0 (worst) to 100 (best)"),
    ("score_window_mean", "Mean score over the window"),
    ("score_ewma", "Exponentially weighted moving average of scores"),
    ("alarm", "1 while there is an alarm, else 0"),
    ("black", "Share of black pixels in the last scored frame"),
    ("change", "Mean absolute difference of luma, 0 to 1, from the frame that the present still began with"),
    ("sharpness", "Variance of the Laplacian over that of luma in the last scored frame"),
    ("frozen_seconds", "Time that the picture has stood still"),
    ("scene", "Number of the scene, from 0"),
];

const COUNTERS: [(&str, &str); 4] = [
    ("frames_seen", "Frames that passed"),
    ("frames_scored", "Frames that were scored"),
    ("frames_dropped", "Frames that were due and gave way to newer ones"),
    ("frames_late", "Frames that were due and too late to be scored"),
];

impl Families {
    fn register(registry: &mut Registry) -> Self {
        let gauges = GAUGES.map(|(name, help)| {
            let family = Gauges::default();
            registry.register(name, help, family.clone());
            family
        });
        let counters = COUNTERS.map(|(name, help)| {
            let family = Counters::default();
            registry.register(name, help, family.clone());
            family
        });
        let scores = Histograms::new_with_constructor(|| Histogram::new(linear_buckets(10.0, 10.0, 10)));
        registry.register("scores", "Scores", scores.clone());
        // 1 ms to 8 s.
        let times = Histograms::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14)));
        registry.register_with_unit("scoring_time", "Time that scoring a frame takes", Unit::Seconds, times.clone());
        Self { gauges, counters, scores, times }
    }
}

/// A server of metrics, which ends with the last of its [`Stream`]s and of those who [hold](Exporter::open) it.
pub struct Exporter {
    address: SocketAddr,
    families: Families,
    /// Names of the streams.
    streams: Mutex<BTreeSet<String>>,
    _server: Server,
}

/// Those of this process.
static EXPORTERS: Mutex<Vec<Weak<Exporter>>> = Mutex::new(Vec::new());

impl Exporter {
    /// The process's exporter at an address: `HOST:PORT`, or a port of this machine alone.
    ///
    /// # Errors
    /// The address is none, or taken.
    pub fn open(address: &str) -> Result<Arc<Self>> {
        let address = SITE.address(address)?;
        let mut exporters = EXPORTERS.lock();
        exporters.retain(|exporter| exporter.strong_count() > 0);
        if let Some(exporter) = exporters.iter().filter_map(Weak::upgrade).find(|e| e.address == address) {
            return Ok(exporter);
        }
        let exporter = Arc::new(Self::start(address)?);
        exporters.push(Arc::downgrade(&exporter));
        Ok(exporter)
    }

    fn start(address: SocketAddr) -> Result<Self> {
        let mut registry = Registry::with_prefix("qmambaiqa");
        let families = Families::register(&mut registry);
        let server = Server::start(address, SITE, move |path| {
            if path != SITE.home {
                return Ok(None);
            }
            let mut text = String::new();
            text::encode(&mut text, &registry)?;
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok(Some(Content { kind, body: text.into_bytes() }))
        })?;
        Ok(Self { address, families, streams: Mutex::default(), _server: server })
    }
}

/// The series of one stream; they end with it.
pub struct Stream {
    exporter: Arc<Exporter>,
    labels: Labels,
    /// Earlier ones: the style prompt may change.
    before: Vec<Labels>,
}

impl Stream {
    /// Begins the series of a stream at an address: `HOST:PORT`, or a port of this machine alone.
    ///
    /// # Errors
    /// The address is none, or taken; or it has a stream of that name.
    pub fn start(address: &str, stream: &str, model: &str, style_prompt: &str) -> Result<Self> {
        let exporter = Exporter::open(address)?;
        if !exporter.streams.lock().insert(stream.to_owned()) {
            return Err(Error::Input(format!(
                "metrics at {} have a stream `{stream}` already: give this one another stream-name",
                exporter.address
            )));
        }
        let labels =
            Labels { stream: stream.to_owned(), model: model.to_owned(), style_prompt: style_prompt.to_owned() };
        for family in &exporter.families.counters {
            drop(family.get_or_create(&labels)); // counters begin with 0
        }
        Ok(Self { exporter, labels, before: Vec::new() })
    }

    /// Counts a frame.
    pub fn count(&self, event: Event) {
        self.exporter.families.counters[event as usize].get_or_create(&self.labels).inc();
    }

    /// Takes what a scored frame tells into account; it is [counted](Self::count) apart from that.
    pub fn scored(&mut self, sample: &Sample) {
        let families = &self.exporter.families;
        if (self.labels.model.as_str(), self.labels.style_prompt.as_str()) != (sample.model, sample.style_prompt) {
            for family in &families.gauges {
                family.remove(&self.labels);
            }
            let (model, style_prompt) = (sample.model.to_owned(), sample.style_prompt.to_owned());
            let labels = Labels { model, style_prompt, ..self.labels.clone() };
            self.before.push(std::mem::replace(&mut self.labels, labels));
        }
        for (family, value) in families.gauges.iter().zip(gauges(sample)) {
            match value {
                Some(value) => {
                    family.get_or_create(&self.labels).set(value);
                }
                None => {
                    family.remove(&self.labels);
                }
            }
        }
        families.scores.get_or_create(&self.labels).observe(sample.score);
        families.times.get_or_create(&self.labels).observe(sample.took.as_secs_f64());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let families = &self.exporter.families;
        for labels in self.before.iter().chain([&self.labels]) {
            for family in &families.gauges {
                family.remove(labels);
            }
            for family in &families.counters {
                family.remove(labels);
            }
            families.scores.remove(labels);
            families.times.remove(labels);
        }
        self.exporter.streams.lock().remove(&self.labels.stream);
    }
}
