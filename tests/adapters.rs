//! Adapters that change while the element plays; a test binary of its own, so that nothing else uses memory meanwhile.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::model::adapter::{Adapter, AdapterConfig, Injection};
use qmambaiqa::model::load::{self, ADAPTER, BACKBONE};
use qmambaiqa::model::parameters::{Precision, Shapes};
use qmambaiqa::plugin::FrameQuality;
use qmambaiqa::weights_file::{self, WriteDtype};
use qmambaiqa::{Options, Scorer, embedded};
use std::collections::BTreeMap;
use std::path::Path;

const SIDE: usize = 224;
const FRAMES: usize = 250;
/// Every so many frames there are that many changes one after the other; the last stays for the frames until the next.
const ROUND: usize = 5;
const CHANGES: usize = 21; // so that each of the four comes last in turn

/// An adapter for the embedded model that changes the features, by a pattern of its own.
fn write_adapter(path: &Path, config: AdapterConfig, size: f32) {
    let (_, _, about) =
        load::network(embedded::read_model("qmamba-nano").unwrap(), Path::new("qmamba-nano"), Precision::Exact)
            .unwrap();
    let mut shapes = Shapes::default();
    Adapter::new(&mut shapes, &about.config, &config).unwrap();
    let values = |n: usize| (0..n).map(|i| size * ((i * 37 % 101) as f32 / 50.0 - 1.0)).collect::<Vec<_>>();
    let tensors = shapes.shapes.into_iter().map(|(name, shape)| {
        let n = shape.iter().product();
        (name, (shape, values(n)))
    });
    let metadata = BTreeMap::from([
        (BACKBONE.to_owned(), about.fingerprint),
        (ADAPTER.to_owned(), serde_json::to_string(&config).unwrap()),
    ]);
    weights_file::write(path, &tensors.collect(), WriteDtype::F16, &metadata).unwrap();
}

/// Each of many changes acts from some next frame on, and every buffer says truly which adapter scored it.
#[test]
fn changes_while_playing_reach_the_frames_that_name_them() {
    gst::init().unwrap();
    qmambaiqa::plugin::register().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(format!("{name}.safetensors")).display().to_string();
    let ssf = AdapterConfig { injection: Injection::Ssf, head: true, ..AdapterConfig::default() };
    write_adapter(Path::new(&file("ssf")), ssf, 0.1);
    let choices = ["none".to_owned(), "compression".to_owned(), "generative".to_owned(), file("ssf")];

    // What each gives for the one picture that is shown.
    let picture: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| ((i / 3 % SIDE) ^ (i / (3 * SIDE))) as u8).collect();
    let frame = Frame::new(PixelFormat::Rgb, SIDE, SIDE, &[Plane::new(&picture, SIDE * 3)], Colour::SRGB).unwrap();
    let plan = CropPlan::new(1, Sampling::Grid, 0).unwrap();
    let expected: Vec<f64> = choices
        .iter()
        .map(|style_prompt| {
            let options = Options { style_prompt: style_prompt.clone(), threads: 2, ..Options::default() };
            Scorer::open(&options).unwrap().score(&frame, &plan, 0).unwrap().raw
        })
        .collect();
    assert!((0..4).all(|i| (0..i).all(|j| expected[i] != expected[j])), "{expected:?}");

    let pipeline = gst::parse::launch(
        "appsrc name=src format=time ! queue max-size-buffers=4 ! qmambaiqa name=iqa crops=1 threads=2 ! appsink name=sink \
         sync=false max-buffers=1",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("src").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let element = pipeline.by_name("iqa").unwrap();
    let caps = "video/x-raw,format=RGB,width=224,height=224,framerate=25/1".parse::<gst::Caps>().unwrap();
    source.set_caps(Some(&caps));
    pipeline.set_state(gst::State::Playing).unwrap();
    let feeder = std::thread::spawn(move || {
        for i in 0..FRAMES as u64 {
            let mut buffer = gst::Buffer::from_slice(picture.clone());
            buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40 * i));
            source.push_buffer(buffer).unwrap();
        }
        source.end_of_stream().unwrap();
    });
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        status.split_whitespace().nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
    };
    let (mut seen, mut changes, mut before) = ([0; 4], 0, 0);
    for i in 0..FRAMES {
        let sample = sink.pull_sample().unwrap();
        let quality = FrameQuality::from_buffer(sample.buffer().unwrap()).expect("every buffer is scored");
        let which =
            ["none", "compression", "generative", "ssf"].iter().position(|name| *name == quality.style_prompt).unwrap();
        assert_eq!(quality.raw, expected[which], "frame {i}, {}", quality.style_prompt);
        seen[which] += 1;
        for _ in 0..if i % ROUND == 0 { CHANGES } else { 0 } {
            changes += 1;
            element.set_property("style-prompt", &choices[changes % 4]);
        }
        if i == FRAMES / 5 {
            before = resident();
        }
    }
    let growth = resident().saturating_sub(before);
    println!(
        "{changes} changes, frames by none, compression, generative, a file: {seen:?}; {growth} bytes more over the last four fifths"
    );
    assert!(seen.iter().all(|&n| n > FRAMES / 10), "{seen:?}");
    assert!(growth < 32 << 20, "grew by {growth} bytes");
    feeder.join().unwrap();
    assert!(pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Warning, gst::MessageType::Error]).is_none());
    pipeline.set_state(gst::State::Null).unwrap();
}
