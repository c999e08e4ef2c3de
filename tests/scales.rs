//! Crops of several sizes of a picture, and pictures as they are displayed, in real pipelines and on the command line.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use qmambaiqa::crops::{CropPlan, Sampling, Scales};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::plugin::FrameQuality;
use qmambaiqa::random::Random;
use qmambaiqa::{Options, Scorer};

#[allow(dead_code)] // shared with tests that use more of it
#[path = "common/command.rs"]
mod command;
use command::{good, json};

/// Runs a pipeline to its end: the quality of its last buffer, and its warnings, or the error.
fn run(description: &str) -> Result<(FrameQuality, Vec<String>), String> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        qmambaiqa::plugin::register().expect("the element registers");
    });
    let pipeline = gst::parse::launch(&format!("{description} ! appsink name=sink sync=false")).unwrap();
    let bin = pipeline.downcast_ref::<gst::Bin>().unwrap();
    let sink = bin.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let (bus, mut quality, mut warnings) = (pipeline.bus().unwrap(), None, Vec::new());
    let mut failed = pipeline.set_state(gst::State::Playing).err().map(|e| e.to_string());
    loop {
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => failed = Some(error.error().to_string()),
                gst::MessageView::Warning(warning) => warnings.push(warning.error().to_string()),
                _ => (),
            }
        }
        if failed.is_some() || sink.is_eos() {
            break;
        }
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) {
            quality = FrameQuality::from_buffer(sample.buffer().unwrap());
            if let Some(iqa) = bin.by_name("wrong-later") {
                iqa.set_property("scales", "3");
            }
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    match (failed, quality) {
        (None, Some(quality)) => Ok((quality, warnings)),
        (failed, _) => Err(failed.unwrap_or_else(|| "no quality".into())),
    }
}

fn source(caps: &str) -> String {
    format!("videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,format=I420,{caps}")
}

/// A picture with structure at every size, and noise.
fn picture(width: usize, height: usize) -> Vec<u8> {
    let mut random = Random::new(3, 0);
    let wave = |x: usize, y: usize, period: f64| (x as f64 / period).sin() + (y as f64 / period).cos();
    let value = |i: usize| {
        let (x, y) = (i % width, i / width);
        128.0 + [3.0, 11.0, 40.0, 150.0].map(|period| 14.0 * wave(x, y, period)).iter().sum::<f64>()
    };
    (0..width * height).map(|i| (value(i) + 8.0 * random.normal()).clamp(0.0, 255.0) as u8).collect()
}

#[test]
fn meta_names_the_sizes_that_were_scored() {
    let scales = |caps: &str, element: &str| {
        run(&format!("{} ! qmambaiqa {element}", source(caps))).unwrap().0.scales.to_string()
    };
    assert_eq!(scales("width=1920,height=1080", ""), "1,2,4");
    assert_eq!(scales("width=1920,height=1080", "scales=1"), "1");
    assert_eq!(scales("width=1920,height=1080", "scales=2,4 style-prompt=compression"), "2,4");
    assert_eq!(scales("width=320,height=240", ""), "1");
    assert_eq!(scales("width=320,height=240", "display-height=960"), "1,2,4");
    assert_eq!(scales("width=1920,height=1080", "crops=2"), "2,4");
    assert_eq!(scales("width=1920,height=1080", "crops=1"), "4");
}

#[test]
fn settings_that_are_none_are_named() {
    for (element, message) in
        [("scales=3", "scales `3`: expected `auto`, or reductions"), ("scales=1,,2", "such as 1,2,4")]
    {
        let error = run(&format!("{} ! qmambaiqa {element}", source("width=320,height=240"))).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let frames = "videotestsrc num-buffers=20 ! video/x-raw,format=I420,width=320,height=240";
    let (quality, warnings) = run(&format!("{frames} ! qmambaiqa name=wrong-later crops=1")).unwrap();
    assert!(warnings.iter().any(|w| w.contains("stays as it was") && w.contains("`3`")), "{warnings:?}");
    assert_eq!(quality.scales.to_string(), "1");
}

#[test]
fn own_size_only_is_judged_by_the_ordinary_head() {
    let scorer = Scorer::open(&Options::default()).unwrap();
    let (width, height) = (640, 480);
    let data = picture(width, height);
    let frame = Frame::new(PixelFormat::Gray8, width, height, &[Plane::new(&data, width)], Colour::SRGB).unwrap();
    let plan = CropPlan::new(4, Sampling::Grid, 0).unwrap().with_scales(Scales::NATIVE);
    let score = scorer.score(&frame, &plan, 0).unwrap();
    // What a picture of the crops alone scores, with crops that are known not to be of any size.
    let crops = qmambaiqa::crops::Crops::normalised(plan.sample(&frame, 0).unwrap()).unwrap();
    assert_eq!(scorer.score_crops(&crops).unwrap(), score);
    let all = scorer.score(&frame, &plan.with_scales(Scales::AUTO), 0).unwrap();
    assert_eq!((score.scales.to_string(), all.scales.to_string()), ("1".into(), "1,2".into()));
    assert_ne!(score.raw, all.raw);
}

/// Scores do not depend on how crops are batched, nor on the number of threads.
#[test]
fn scores_of_all_sizes_repeat() {
    let (width, height) = (961, 903);
    let data = picture(width, height);
    let frame = Frame::new(PixelFormat::Gray8, width, height, &[Plane::new(&data, width)], Colour::SRGB).unwrap();
    let plan = CropPlan::new(6, Sampling::Random, 9).unwrap();
    let scorers = [1, 2].map(|threads| {
        let style_prompt = "compression".into();
        Scorer::open(&Options { threads, style_prompt, ..Options::default() }).unwrap()
    });
    let score = scorers[0].score(&frame, &plan, 4).unwrap();
    assert_eq!((score.crops, score.scales.to_string()), (6, "1,2,4".into()));
    assert_eq!(scorers[1].score(&frame, &plan, 4).unwrap(), score);
    let crops = [4, 5, 4].map(|index| scorers[1].crops(&frame, &[], &plan, index).unwrap());
    let batch = scorers[0].score_batch(&crops.each_ref()).unwrap();
    assert!(batch[0] == score && batch[2] == score && batch[1] != score, "{batch:?}");
}

#[test]
fn display_height_scores_the_picture_scaled_up() {
    let picture = source("width=960,height=540");
    let displayed = run(&format!("{picture} ! qmambaiqa crops=9 display-height=1080")).unwrap().0;
    let scaled = "videoscale method=catrom ! video/x-raw,width=1920,height=1080";
    let scaled = run(&format!("{picture} ! {scaled} ! qmambaiqa crops=9")).unwrap().0;
    let own = run(&format!("{picture} ! qmambaiqa crops=9")).unwrap().0;
    assert!((displayed.score - scaled.score).abs() < 3.0, "{} {}", displayed.score, scaled.score);
    assert_eq!((displayed.scales, own.scales.to_string()), (scaled.scales, "1,2".into()));
}

#[test]
fn pixels_that_are_not_square_are_scaled() {
    let narrow = source("width=360,height=480,pixel-aspect-ratio=2/1");
    let square = run(&format!("{narrow} ! qmambaiqa")).unwrap().0;
    let stored = run(&format!("{narrow} ! qmambaiqa square-pixels=false")).unwrap().0;
    let plain = run(&format!("{} ! qmambaiqa", source("width=360,height=480"))).unwrap().0;
    assert_eq!(stored.score, plain.score);
    assert_ne!(square.score, plain.score);
    assert_eq!((square.scales.to_string(), stored.scales.to_string()), ("1,2".into(), "1".into()));
}

#[test]
fn command_line_scores_sizes_and_displays() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut y4m = b"YUV4MPEG2 W640 H480 F25:1 A1:1 Cmono\nFRAME\n".to_vec();
    y4m.extend(picture(640, 480));
    std::fs::write(dir.path().join("a.y4m"), &y4m).unwrap();
    let score = |arguments: &[&str]| {
        let arguments = [&["score", "a.y4m", "--format", "json"], arguments].concat();
        let lines = json(&good(dir.path(), &arguments, b""));
        (lines[0]["score"].as_f64().unwrap(), lines[0]["scales"].as_str().unwrap().to_owned())
    };
    let all = score(&[]);
    let own = score(&["--scales", "1"]);
    assert_eq!((all.1.as_str(), own.1.as_str()), ("1,2", "1"));
    assert!(all.0 != own.0 && score(&["--display-height", "960"]).1 == "1,2,4");
    // The aspect ratio of the header.
    let wide: Vec<u8> = String::from_utf8_lossy(&y4m[..40]).replace("A1:1", "A2:1").into_bytes();
    std::fs::write(dir.path().join("b.y4m"), [&wide, &y4m[40..]].concat()).unwrap();
    let of_b = |arguments: &[&str]| {
        let arguments = [&["score", "b.y4m", "--format", "json"], arguments].concat();
        json(&good(dir.path(), &arguments, b""))[0]["score"].as_f64().unwrap()
    };
    assert_eq!(of_b(&["--no-square-pixels"]), all.0);
    assert_ne!(of_b(&[]), all.0);
    for (arguments, message) in
        [(["--scales", "5"], "such as 1,2,4"), (["--display-height", "99999"], "0 (the picture's own)")]
    {
        let out = command::run(dir.path(), &[&["score", "a.y4m"], &arguments[..]].concat(), b"");
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && error.contains(message), "{error}");
    }
}
