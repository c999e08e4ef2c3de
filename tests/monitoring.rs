//! What the element leaves for others to read: logs, and metrics over HTTP.

use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::plugin::Report;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

fn start(description: &str) -> gst::Pipeline {
    gst::init().unwrap();
    qmambaiqa::plugin::register().unwrap();
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let _ = pipeline.set_state(gst::State::Playing); // where it fails, the bus says why
    pipeline
}

/// Waits for the end of the stream: the scores that were posted, or the error.
fn wait(pipeline: &gst::Pipeline) -> Result<Vec<f64>, String> {
    let mut scores = Vec::new();
    while let Some(message) = pipeline.bus().unwrap().timed_pop(gst::ClockTime::from_seconds(60)) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(scores),
            gst::MessageView::Error(e) => return Err(e.error().to_string()),
            _ => {
                if let Some(Report::Frame { quality, .. }) = Report::from_message(&message) {
                    scores.push(quality.score);
                }
            }
        }
    }
    Err("no end".into())
}

fn stop(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Null).unwrap();
}

fn source(frames: u32) -> String {
    format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=5/1"
    )
}

/// Why a pipeline with this element does not start.
fn refusal(element: &str) -> String {
    let pipeline = start(&format!("{} ! qmambaiqa crops=1 {element} ! fakesink sync=false", source(1)));
    let error = wait(&pipeline).unwrap_err();
    stop(&pipeline);
    error
}

#[test]
fn every_scored_frame_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let log = |name: &str, element: &str| {
        let location = path(name);
        let element = format!("qmambaiqa crops=1 log-location={} {element}", location.display());
        let pipeline = start(&format!("{} ! {element} ! fakesink sync=false", source(4)));
        let scores = wait(&pipeline).unwrap();
        assert_eq!(scores.len(), 4);
        // Whole at the end of the stream, before the element stops.
        let text = std::fs::read_to_string(&location).unwrap();
        stop(&pipeline);
        assert_eq!(std::fs::read_to_string(&location).unwrap(), text, "{name}");
        (scores, text)
    };
    let (scores, text) = log("a.jsonl", "stream-name=camera");
    for ((i, &score), line) in scores.iter().enumerate().zip(text.lines()) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["schema"], &record["stream"]), (&2.into(), &"camera".into()));
        assert_eq!((&record["frame"], &record["score"]), (&i.into(), &score.into()));
        assert_eq!((&record["time"], &record["scene"]), (&(i as f64 / 5.0).into(), &0.into()));
        assert_eq!((record["change"].is_null(), record["confidence"].is_null()), (i == 0, true));
    }
    assert_eq!(text.lines().count(), 4);

    let (scores, text) = log("a.csv", "name=first");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| row["score"].parse().unwrap()).collect::<Vec<f64>>(), scores);
    assert!(rows.iter().all(|row| row["stream"] == "first" && row["model"] == "qmamba-nano" && row["schema"] == "2"));

    for (name, format) in [("a.json", ""), ("scores", "log-format=vmaf")] {
        let (scores, text) = log(name, format);
        let object: Value = serde_json::from_str(&text).unwrap();
        let frames = object["frames"].as_array().unwrap();
        let logged: Vec<f64> = frames.iter().map(|f| f["metrics"]["qmambaiqa"].as_f64().unwrap()).collect();
        assert_eq!(logged, scores);
        let mean = object["pooled_metrics"]["qmambaiqa"]["mean"].as_f64().unwrap();
        assert!((mean - scores.iter().sum::<f64>() / 4.0).abs() < 1e-9);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_at_the_start() {
    let error = refusal("log-location=/nowhere/scores.csv");
    assert!(error.contains("cannot write the log: /nowhere/scores.csv: No such file"), "{error}");
    let error = refusal("log-location=scores.txt");
    assert!(error.contains("scores.txt") && error.contains(".jsonl"), "{error}");
    assert!(!Path::new("scores.txt").exists());
}

#[test]
fn a_log_that_can_be_written_no_more_warns_and_the_stream_goes_on() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: no /dev/full on this machine");
        return;
    }
    let element = "qmambaiqa crops=1 post-messages=false log-location=/dev/full log-format=csv";
    let pipeline = start(&format!("{} ! {element} ! fakesink sync=false", source(3)));
    let bus = pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Warning, gst::MessageType::Error, gst::MessageType::Eos];
    let mut seen = Vec::new();
    while let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds) {
        match message.view() {
            gst::MessageView::Warning(w) => seen.push(w.error().to_string()),
            gst::MessageView::Eos(_) => break,
            _ => panic!("{message:?}"),
        }
    }
    stop(&pipeline);
    assert!(matches!(&seen[..], [one] if one.contains("the log ends here: /dev/full: No space")), "{seen:?}");
}

/// An address that nobody listens at.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn streams_share_an_address_for_their_metrics() {
    let port = free();
    let element = |name: &str, more: &str| format!("qmambaiqa name={name} crops=1 metrics-address={port} {more}");
    let pipeline = start(&format!(
        "{} ! {} ! {} ! fakesink sync=false",
        source(5),
        element("a", "low-threshold=100 alarm-hold=0"),
        element("b", "stream-name=other style-prompt=compression interval=400000000")
    ));
    wait(&pipeline).unwrap();
    let answer = get(port, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let value = |metric: &str, stream: &str, style_prompt: &str, more: &str| -> f64 {
        let labels = format!("stream=\"{stream}\",model=\"qmamba-nano\",style_prompt=\"{style_prompt}\"");
        let series = [format!("qmambaiqa_{metric}{{{labels}}} "), format!("qmambaiqa_{metric}{{{more},{labels}}} ")];
        let found = body.lines().find_map(|line| series.iter().find_map(|s| line.strip_prefix(s.as_str())));
        found.unwrap_or_else(|| panic!("no {series:?} in\n{body}")).parse().unwrap()
    };
    for (name, stream, style_prompt, scored) in [("a", "a", "none", 5.0), ("b", "other", "compression", 3.0)] {
        let value = |metric| value(metric, stream, style_prompt, "le=\"+Inf\"");
        let element = pipeline.by_name(name).unwrap();
        let statistics = element.property::<gst::Structure>("statistics");
        assert_eq!(value("score"), element.property::<f64>("last-score"));
        assert_eq!(value("score_ewma"), statistics.get::<f64>("ewma").unwrap());
        assert!((value("score_window_mean") - statistics.get::<f64>("mean").unwrap()).abs() < 1e-9);
        assert_eq!((value("frames_seen_total"), value("frames_scored_total")), (5.0, scored));
        assert_eq!((value("frames_dropped_total"), value("frames_late_total")), (0.0, 0.0));
        assert_eq!((value("scores_count"), value("scores_bucket")), (scored, scored));
        assert_eq!((value("scoring_time_seconds_count"), value("alarm")), (scored, f64::from(name == "a")));
        assert!(value("scoring_time_seconds_sum") > 0.0 && value("black") > 0.5 && value("change") > 0.0);
        assert_eq!((value("frozen_seconds"), value("scene")), (0.0, 0.0));
    }
    assert!(get(port, "/").starts_with("HTTP/1.1 404"));

    // A name counts once, and whoever has the port is not disturbed.
    let error = refusal(&format!("metrics-address=127.0.0.1:{port} stream-name=other"));
    assert!(error.contains("`other` already") && error.contains("stream-name"), "{error}");
    assert!(get(port, "/metrics").contains("stream=\"other\""));

    // A stream's series end with it, the server with the last stream; it may start again at once.
    stop(&pipeline);
    // Its thread lets go of the port a moment later.
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert!(gone, "the server is still there");
    let again = start(&format!("{} ! {} ! fakesink sync=false", source(1), element("c", "")));
    wait(&again).unwrap();
    let answer = get(port, "/metrics");
    assert!(answer.contains("stream=\"c\"") && !answer.contains("stream=\"other\""), "{answer}");
    stop(&again);
}

#[test]
fn another_style_prompt_takes_the_gauges_over() {
    let port = free();
    let pipeline = start(&format!(
        "appsrc name=in caps=video/x-raw,format=GRAY8,width=224,height=224,framerate=5/1 format=time ! \
         qmambaiqa name=iqa crops=1 metrics-address={port} ! appsink name=out sync=false"
    ));
    let source = pipeline.by_name("in").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    for (frame, style_prompt) in ["none", "compression"].into_iter().enumerate() {
        pipeline.by_name("iqa").unwrap().set_property("style-prompt", style_prompt);
        let mut buffer = gst::Buffer::from_slice(vec![90u8; 224 * 224]);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(200 * frame as u64));
        source.push_buffer(buffer).unwrap();
        sink.pull_sample().unwrap();
        let answer = get(port, "/metrics");
        let scores: Vec<&str> = answer.lines().filter(|line| line.starts_with("qmambaiqa_score{")).collect();
        assert!(matches!(&scores[..], [one] if one.contains(style_prompt)), "{scores:?}");
    }
    stop(&pipeline);
    // Its thread lets go of the port a moment later.
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert!(gone, "the server is still there");
}

#[test]
fn wrong_addresses_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = refusal(&format!("metrics-address={address}"));
    assert!(error.contains(&format!("cannot serve metrics at {address}: Address already in use")), "{error}");
    for wrong in ["nowhere", "70000", "127.0.0.1:x"] {
        let error = refusal(&format!("metrics-address={wrong}"));
        assert!(error.contains(&format!("`{wrong}`")) && error.contains("HOST:PORT"), "{error}");
    }
}
