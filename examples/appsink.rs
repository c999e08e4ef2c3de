//! Reads the quality that each buffer carries at the end of a pipeline: `cargo run --release --example appsink FILE`.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use qmambaiqa::plugin::{self, FrameQuality};
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args_os().nth(1) {
        Some(file) => run(&file).map_err(|error| format!("{}: {error}", file.display())),
        None => Err("name a file: appsink FILE".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("appsink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &std::ffi::OsStr) -> Result<(), Box<dyn Error>> {
    gst::init()?;
    plugin::register()?; // the element comes from this program; no GST_PLUGIN_PATH is needed
    let pipeline = gst::parse::launch(
        "filesrc name=source ! decodebin ! videoconvert ! qmambaiqa ! appsink name=sink sync=false max-buffers=4",
    )?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    pipeline
        .by_name("source")
        .ok_or("no source")?
        .set_property("location", file.to_str().ok_or("the name is not UTF-8")?);
    let sink = pipeline.by_name("sink").and_then(|e| e.downcast::<gst_app::AppSink>().ok()).ok_or("no appsink")?;
    let bus = pipeline.bus().ok_or("no bus")?;

    // What the bus says is the cause; a state that cannot be reached is only its effect.
    let played = match pipeline.set_state(gst::State::Playing) {
        Ok(_) => print_scores(&sink, &bus),
        Err(effect) => failure(&bus).and(Err(effect.into())),
    };
    pipeline.set_state(gst::State::Null)?;
    played
}

/// Until the end of the stream, or until the bus has an error.
fn print_scores(sink: &gst_app::AppSink, bus: &gst::Bus) -> Result<(), Box<dyn Error>> {
    println!("{:>8}  {:>6}  {:>5}  {:>8}", "time", "score", "held", "age");
    loop {
        // With a limit of time: a source that fails would leave an appsink waiting.
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) else {
            failure(bus)?;
            if sink.is_eos() {
                return Ok(());
            }
            continue;
        };
        let buffer = sample.buffer().ok_or("a sample without buffer")?;
        let Some(quality) = FrameQuality::from_buffer(buffer) else { continue };
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let time = buffer.pts().map_or(f64::NAN, |pts| seconds(pts.nseconds()));
        println!("{time:8.3}  {:6.2}  {:>5}  {:8.3}", quality.score, quality.held, seconds(quality.age));
    }
}

/// The error that the bus holds, if any.
fn failure(bus: &gst::Bus) -> Result<(), Box<dyn Error>> {
    match bus.pop_filtered(&[gst::MessageType::Error]).as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.error().to_string().into()),
        _ => Ok(()),
    }
}
