//! Logs: a record for each scored frame, in a file.
//!
//! | format | ending | layout |
//! |---|---|---|
//! | [`Format::Csv`] | `.csv` | a row for each frame, under a row with the fields' names |
//! | [`Format::Jsonl`] | `.jsonl` | an object a line for each frame |
//! | [`Format::Vmaf`] | `.json` | one object, as libvmaf's JSON log |
//!
//! CSV and JSON lines have the fields of [`Record`]; a value that is unknown is empty, or `null`. `schema` is [`SCHEMA`] and
//! grows with each change that a reader must know of. VMAF's layout is
//!
//! ```json
//! {
//!   "version": "0.1.0",
//!   "frames": [
//!     {"frameNum": 0, "metrics": {"qmambaiqa": 61.5, "qmambaiqa_deviation": 3.2, "black": 0.01, "sharpness": 0.2}}
//!   ],
//!   "pooled_metrics": {
//!     "qmambaiqa": {"min": 61.5, "max": 61.5, "mean": 61.5, "harmonic_mean": 61.5}
//!   },
//!   "aggregate_metrics": {}
//! }
//! ```
//!
//! with this crate's version, the score as `qmambaiqa`, and the other metrics where they are known.
//!
//! Every record is written at once, so that a process that is killed leaves whole lines; of a VMAF log the end is missing
//! then.

use crate::crops::Scales;
use crate::indicators::Indicators;
use crate::pooling::Pool;
use crate::scorer::Score;
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Version of the fields of CSV and JSON lines.
pub const SCHEMA: u32 = 2;

/// How a log is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Jsonl,
    Vmaf,
}

impl Format {
    /// The format that a file's ending stands for.
    ///
    /// # Errors
    /// It stands for none.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            Some("json") => Ok(Self::Vmaf),
            _ => Err(Error::Input(format!(
                "{}: its ending says no format; use .csv, .jsonl or .json (VMAF's layout), or set the format",
                path.display()
            ))),
        }
    }
}

/// What is written of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Record<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the stream, or file.
    pub stream: &'a str,
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Position in the stream in seconds.
    pub time: Option<f64>,
    /// 0 (worst) to 100 (best).
    pub score: f64,
    /// The network's output, mean over crops.
    pub raw: f64,
    /// Standard deviation over crops, on the scale of `score`.
    pub deviation: f64,
    /// Half-width of the 95 % confidence interval of `score` over crops.
    pub confidence: Option<f64>,
    /// Crops scored.
    pub crops: usize,
    /// The reductions of the picture that they were taken of, such as `1,2,4`.
    pub scales: Scales,
    /// The [indicators](crate::indicators), here and below.
    pub black: Option<f64>,
    pub change: Option<f64>,
    /// In seconds.
    pub frozen: Option<f64>,
    pub sharpness: Option<f64>,
    pub scene: Option<u64>,
    pub model: &'a str,
    pub style_prompt: &'a str,
}

impl<'a> Record<'a> {
    /// The record of a frame, `time` seconds into its stream.
    pub fn new(stream: &'a str, frame: u64, time: Option<f64>, score: &Score, names: (&'a str, &'a str)) -> Self {
        let Score { score, raw, deviation, confidence, crops, scales } = *score;
        let confidence = confidence.is_finite().then_some(confidence);
        let (black, change, frozen, sharpness, scene) = (None, None, None, None, None);
        let (schema, (model, style_prompt)) = (SCHEMA, names);
        #[rustfmt::skip]
        let record = Self {
            schema, stream, frame, time, score, raw, deviation, confidence, crops, scales, black, change, frozen, sharpness,
            scene, model, style_prompt,
        };
        record
    }

    /// With a frame's indicators.
    #[must_use]
    pub fn with(self, indicators: &Indicators) -> Self {
        let Indicators { black, change, frozen, sharpness, scene } = *indicators;
        let frozen = Some(frozen as f64 / 1e9);
        Self { black: Some(black), change, frozen, sharpness, scene: Some(scene), ..self }
    }

    /// The metrics of VMAF's layout.
    fn metrics(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let known = [("qmambaiqa", Some(self.score)), ("qmambaiqa_deviation", Some(self.deviation))];
        let indicators = [("black", self.black), ("sharpness", self.sharpness)];
        known.into_iter().chain(indicators).filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    format: Format,
    records: u64,
    /// VMAF's pooled metrics.
    pooled: BTreeMap<&'static str, Pool>,
    /// Where VMAF's frames end, once what comes after them is written.
    complete: Option<u64>,
}

impl Log {
    /// Begins a log, in place of what the file held.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, format: Format) -> Result<Self> {
        let file = File::create(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut log = Self { path: path.to_owned(), file, format, records: 0, pooled: BTreeMap::new(), complete: None };
        if format == Format::Vmaf {
            log.put(&format!("{{\n  \"version\": \"{}\",\n  \"frames\": [", env!("CARGO_PKG_VERSION")))?;
        }
        Ok(log)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let text = match self.format {
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(self.records == 0).from_writer(Vec::new());
                let written = writer.serialize(record).map_err(io::Error::other);
                let bytes = written.and_then(|()| writer.into_inner().map_err(io::Error::other));
                String::from_utf8_lossy(&self.named(bytes)?).into_owned()
            }
            Format::Jsonl => self.named(serde_json::to_string(record).map_err(io::Error::other))? + "\n",
            Format::Vmaf => {
                self.reopen()?;
                let mut metrics = Map::new();
                for (name, value) in record.metrics() {
                    self.pooled.entry(name).or_insert_with(|| Pool::new(None)).push(None, value);
                    metrics.insert(name.into(), value.into());
                }
                let frame = json!({ "frameNum": record.frame, "metrics": metrics });
                let separator = if self.records == 0 { "" } else { "," };
                format!("{separator}\n    {frame}")
            }
        };
        self.put(&text)?;
        self.records += 1;
        Ok(())
    }

    /// Writes what comes after the frames. More frames may follow, and another end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn complete(&mut self) -> Result<()> {
        if self.format != Format::Vmaf || self.complete.is_some() {
            return Ok(());
        }
        let pooled = self.pooled.iter().filter_map(|(&name, pool)| {
            let s = pool.stream()?;
            let of = json!({ "min": s.min, "max": s.max, "mean": s.mean, "harmonic_mean": s.harmonic_mean });
            Some(format!("\n    {}: {of}", Value::from(name)))
        });
        let pooled = pooled.collect::<Vec<_>>().join(",");
        let end = self.file.stream_position();
        self.put(&format!("\n  ],\n  \"pooled_metrics\": {{{pooled}\n  }},\n  \"aggregate_metrics\": {{}}\n}}\n"))?;
        self.complete = Some(end.unwrap_or(0)); // a pipe has no positions, and takes no more frames
        Ok(())
    }

    /// Takes back what [`complete`](Self::complete) wrote.
    fn reopen(&mut self) -> Result<()> {
        let Some(end) = self.complete.take() else { return Ok(()) };
        let cut = self.file.set_len(end).and_then(|()| self.file.seek(SeekFrom::Start(end)));
        self.named(cut).map(drop)
    }

    fn put(&mut self, text: &str) -> Result<()> {
        let written = self.file.write_all(text.as_bytes());
        self.named(written)
    }

    fn named<T>(&self, result: io::Result<T>) -> Result<T> {
        result.map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: (&str, &str) = ("qmamba-nano", "none");

    fn score(score: f64, crops: usize) -> Score {
        let confidence = if crops > 1 { 1.5 } else { f64::NAN };
        Score { score, raw: score / 100.0, deviation: 0.5, confidence, crops, scales: Scales::NATIVE }
    }

    /// Two frames: one where all is known and one where little is.
    fn write(path: &Path) -> Log {
        let mut log = Log::create(path, Format::of(path).unwrap()).unwrap();
        let indicators =
            Indicators { black: 0.25, change: Some(0.125), frozen: 1_500_000_000, sharpness: Some(2.0), scene: 3 };
        let first = Record::new("a, \"b\"", 7, Some(0.28), &score(40.0, 4), NAMES).with(&indicators);
        log.write(&first).unwrap();
        log.write(&Record::new("a, \"b\"", 8, None, &score(60.0, 1), NAMES)).unwrap();
        log
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn csv_and_json_lines_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (csv, lines) = (folder.path().join("l.csv"), folder.path().join("l.jsonl"));
        // Whole without an end: the process may be killed.
        let _open = (write(&csv), write(&lines));
        let text = read(&lines);
        let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = json!({
            "schema": 2, "stream": "a, \"b\"", "frame": 7, "time": 0.28, "score": 40.0, "raw": 0.4, "deviation": 0.5,
            "confidence": 1.5, "crops": 4, "scales": "1", "black": 0.25, "change": 0.125, "frozen": 1.5, "sharpness": 2.0, "scene": 3,
            "model": "qmamba-nano", "style_prompt": "none",
        });
        assert_eq!((objects.len(), &objects[0]), (2, &expected));
        for unknown in ["time", "confidence", "black", "change", "frozen", "sharpness", "scene"] {
            assert_eq!(objects[1][unknown], Value::Null, "{unknown}");
        }
        let mut reader = csv::Reader::from_path(&csv).unwrap();
        let fields: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!((fields.len(), rows.len()), (expected.as_object().unwrap().len(), 2));
        for (row, object) in rows.iter().zip(&objects) {
            for (field, value) in fields.iter().zip(row) {
                let expected = match &object[field] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    number => number.to_string(),
                };
                assert_eq!(value, expected, "{field}");
            }
        }
    }

    #[test]
    fn vmaf_s_layout_is_read_back_and_goes_on_after_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.json");
        let mut log = write(&path);
        log.complete().unwrap();
        log.complete().unwrap();
        let parse = || serde_json::from_str::<Value>(&read(&path)).unwrap();
        let object = parse();
        assert_eq!(object["version"], env!("CARGO_PKG_VERSION"));
        let first = json!({ "qmambaiqa": 40.0, "qmambaiqa_deviation": 0.5, "black": 0.25, "sharpness": 2.0 });
        assert_eq!(object["frames"][0], json!({ "frameNum": 7, "metrics": first }));
        assert_eq!(object["frames"][1]["metrics"], json!({ "qmambaiqa": 60.0, "qmambaiqa_deviation": 0.5 }));
        let pooled = &object["pooled_metrics"]["qmambaiqa"];
        assert_eq!((&pooled["min"], &pooled["max"], &pooled["mean"]), (&40.0.into(), &60.0.into(), &50.0.into()));
        // 2 / (1 / 41 + 1 / 61) - 1
        assert!((pooled["harmonic_mean"].as_f64().unwrap() - 48.039_215_686).abs() < 1e-6);
        assert_eq!(object["pooled_metrics"]["black"]["mean"], 0.25);

        log.write(&Record::new("a", 9, None, &score(80.0, 1), NAMES)).unwrap();
        log.complete().unwrap();
        let object = parse();
        assert_eq!((object["frames"].as_array().unwrap().len(), &object["frames"][2]["frameNum"]), (3, &9.into()));
        assert_eq!(object["pooled_metrics"]["qmambaiqa"]["mean"], 60.0);
        // Without a frame it is a log all the same.
        Log::create(&path, Format::Vmaf).unwrap().complete().unwrap();
        assert_eq!(parse()["frames"], json!([]));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = Log::create(Path::new("/nowhere/l.csv"), Format::Csv).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/l.csv: No such file"), "{error}");
        let error = Format::of(Path::new("scores.txt")).unwrap_err().to_string();
        assert!(error.contains("scores.txt") && error.contains(".jsonl"), "{error}");
        if Path::new("/dev/full").exists() {
            let mut log = Log::create(Path::new("/dev/full"), Format::Jsonl).unwrap();
            let error = log.write(&Record::new("a", 0, None, &score(1.0, 1), NAMES)).unwrap_err().to_string();
            assert!(error.starts_with("/dev/full: No space"), "{error}");
        }
    }
}
