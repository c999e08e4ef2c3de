//! The element in real pipelines.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use qmambaiqa::plugin::{FrameQuality, META_NAME, Report};

fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        qmambaiqa::plugin::register().expect("the element registers");
    });
}

/// Runs a pipeline to its end: the quality of every buffer that reaches the appsink `sink`, and the messages.
fn run(description: &str) -> Result<(Vec<Option<FrameQuality>>, Vec<Report>), String> {
    init();
    let pipeline = gst::parse::launch(description).map_err(|e| e.to_string())?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let qualities = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&qualities);
    let sink = pipeline.by_name("sink").expect("a sink").downcast::<gst_app::AppSink>().expect("an appsink");
    sink.set_sync(false);
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let quality = sample.buffer().and_then(FrameQuality::from_buffer);
                seen.lock().unwrap().push(quality);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let mut reports = Vec::new();
    let mut result = Ok(());
    if pipeline.set_state(gst::State::Playing).is_err() {
        result = Err("does not start".to_owned());
    }
    let bus = pipeline.bus().expect("a bus");
    while let Some(message) = bus.timed_pop(gst::ClockTime::from_seconds(60)) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => {
                result = Err(e.error().to_string());
                break;
            }
            _ => reports.extend(Report::from_message(&message)),
        }
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    result?;
    let qualities = qualities.lock().unwrap().clone();
    Ok((qualities, reports))
}

fn frames(n: usize, caps: &str, element: &str) -> String {
    format!("videotestsrc num-buffers={n} pattern=ball ! {caps} ! qmambaiqa {element} ! appsink name=sink")
}

#[test]
fn every_format_and_odd_sizes() {
    init();
    let factory = gst::ElementFactory::find("qmambaiqa").expect("registered");
    let template = factory.static_pad_templates().iter().next().expect("a template").caps();
    let formats = template.structure(0).expect("caps").get::<gst::List>("format").expect("formats");
    let formats: Vec<String> = formats.iter().map(|f| f.get::<String>().expect("a name")).collect();
    for needed in [
        "I420",
        "YV12",
        "NV12",
        "NV21",
        "Y42B",
        "Y444",
        "YUY2",
        "UYVY",
        "I420_10LE",
        "I422_10LE",
        "P010_10LE",
        "GRAY8",
        "RGB",
        "BGR",
        "RGBA",
        "BGRA",
        "RGBx",
        "BGRx",
        "GBR",
    ] {
        assert!(formats.iter().any(|f| f == needed), "{needed} is not taken");
    }
    // One picture in every format: 4:4:4 ones agree closely, subsampled ones roughly, GRAY has no colour.
    let score = |caps: &str| {
        let description = format!(
            "videotestsrc num-buffers=1 pattern=ball ! videoconvert ! {caps} ! qmambaiqa crops=1 ! appsink name=sink"
        );
        let (qualities, _) = run(&description).unwrap_or_else(|e| panic!("{caps}: {e}"));
        qualities[0].clone().unwrap_or_else(|| panic!("{caps}: no score")).score
    };
    let reference = score("video/x-raw,format=RGB,width=320,height=240");
    for format in &formats {
        let difference = (score(&format!("video/x-raw,format={format},width=320,height=240")) - reference).abs();
        assert!(difference < 15.0, "{format}: {difference} away from RGB");
    }
    for size in ["width=321,height=241", "width=17,height=17", "width=1,height=1", "width=225,height=31"] {
        for format in ["I420", "NV12", "YUY2", "RGB", "P010_10LE", "GRAY8"] {
            score(&format!("video/x-raw,format={format},{size}"));
        }
    }
    println!("{} formats scored", formats.len());
}

#[test]
fn buffers_and_messages_agree() {
    let (qualities, reports) =
        run(&frames(5, "video/x-raw,format=I420,width=640,height=360,framerate=10/1", "crops=2")).unwrap();
    assert_eq!(qualities.len(), 5);
    assert_eq!(reports.len(), 7);
    for (i, (quality, report)) in qualities.iter().zip(&reports).enumerate() {
        let quality = quality.as_ref().expect("scored");
        assert_eq!((quality.frame, quality.crops, quality.held), (i as u64, 2, false));
        assert_eq!((quality.model.as_str(), quality.style_prompt.as_str()), ("qmamba-nano", "none"));
        assert!((0.0..=100.0).contains(&quality.score) && quality.deviation >= 0.0 && quality.confidence >= 0.0);
        let Report::Frame { times, quality: reported } = report else { panic!("{report:?}") };
        assert_eq!(reported, quality);
        assert_eq!(times.running_time, i as u64 * 100_000_000);
        assert_eq!(Report::from_structure(&report.to_structure()).as_ref(), Some(report));
    }
    assert!(matches!(&reports[5], Report::Scene { index: 0, statistics, .. } if statistics.frames == 5));
    let Report::Pooled { statistics, .. } = &reports[6] else { panic!("{:?}", reports[6]) };
    let mean = qualities.iter().flatten().map(|q| q.score).sum::<f64>() / 5.0;
    assert!(statistics.frames == 5 && (statistics.mean - mean).abs() < 1e-9);
    let structure = reports[6].to_structure();
    assert_eq!(structure.get::<&str>("type").unwrap(), "pooled");
    assert_eq!(structure.get::<f64>("score").unwrap(), statistics.mean);
}

#[test]
fn pixels_pass_untouched_and_runs_repeat() {
    let caps = "video/x-raw,format=I420,width=320,height=240";
    let hash = |with: &str| {
        init();
        let description = format!("videotestsrc num-buffers=3 ! {caps} {with} ! appsink name=sink sync=false");
        let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bytes: Vec<Vec<u8>> = std::iter::from_fn(|| sink.pull_sample().ok())
            .map(|s| s.buffer().unwrap().map_readable().unwrap().to_vec())
            .collect();
        pipeline.set_state(gst::State::Null).unwrap();
        bytes
    };
    assert_eq!(hash(""), hash("! qmambaiqa"));
    let scores = |element: &str| run(&frames(3, caps, element)).unwrap().0;
    for element in ["crops=4 threads=1", "crops=3 sampling=random seed=5"] {
        assert_eq!(scores(element), scores(element));
    }
    assert_eq!(scores("crops=4 threads=1"), scores("crops=4 threads=2"));
    assert_ne!(scores("sampling=random seed=1"), scores("sampling=random seed=2"));
}

#[test]
fn interval_and_hold() {
    let caps = "video/x-raw,format=I420,width=320,height=240,framerate=10/1";
    let scored = |element: &str| run(&frames(10, caps, element)).unwrap().0;
    let frames =
        |q: &[Option<FrameQuality>]| q.iter().map(|q| q.as_ref().map(|q| (q.frame, q.held))).collect::<Vec<_>>();
    let every = frames(&scored("crops=1 interval=300000000"));
    let expected: Vec<_> = (0..10).map(|i| (i % 3 == 0).then_some((i, false))).collect();
    assert_eq!(every, expected);
    let held = frames(&scored("crops=1 interval=300000000 hold=true"));
    assert_eq!(held, (0..10).map(|i| Some((i / 3 * 3, i % 3 != 0))).collect::<Vec<_>>());
}

#[test]
fn caps_change_in_mid_stream() {
    let description = "concat name=c ! qmambaiqa crops=1 ! appsink name=sink \
        videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=320,height=240 ! c. \
        videotestsrc num-buffers=2 ! video/x-raw,format=RGB,width=641,height=355 ! c. \
        videotestsrc num-buffers=2 ! video/x-raw,format=P010_10LE,width=64,height=48 ! c.";
    let (qualities, _) = run(description).unwrap();
    assert_eq!(qualities.iter().flatten().count(), 6);
}

#[test]
fn an_encoder_behind_keeps_the_meta() {
    init();
    if gst::ElementFactory::find("x264enc").is_none() {
        println!("skipped: no x264enc on this machine");
        return;
    }
    let description = "videotestsrc num-buffers=6 ! video/x-raw,format=I420,width=320,height=240 ! qmambaiqa crops=1 ! \
        queue ! x264enc tune=zerolatency ! appsink name=sink";
    let (qualities, _) = run(description).unwrap();
    assert_eq!(qualities.iter().flatten().count(), 6, "{META_NAME} is lost");
}

#[test]
fn flush_and_reset_start_again() {
    init();
    let mut harness = gstreamer_check::Harness::new("qmambaiqa");
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=224,height=224,framerate=25/1");
    let element = harness.element().expect("an element");
    element.set_property("crops", 1u32);
    let push = |harness: &mut gstreamer_check::Harness, pts: u64| {
        let mut buffer = gst::Buffer::from_slice(vec![128u8; 224 * 224]);
        buffer.get_mut().expect("own").set_pts(gst::ClockTime::from_mseconds(pts));
        let buffer = harness.push_and_pull(buffer).expect("passes");
        FrameQuality::from_buffer(&buffer).expect("scored").frame
    };
    assert_eq!((push(&mut harness, 0), push(&mut harness, 40)), (0, 1));
    let statistics = element.property::<gst::Structure>("statistics");
    assert_eq!(statistics.get::<u64>("frames").unwrap(), 2);
    assert!(element.property::<f64>("last-score") >= 0.0);
    element.emit_by_name::<()>("reset", &[]);
    assert_eq!(element.property::<f64>("last-score"), -1.0);
    assert_eq!(push(&mut harness, 80), 0);
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(push(&mut harness, 0), 0);
}

#[test]
fn wrong_settings_fail_at_the_start_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.safetensors");
    std::fs::write(&text, "these are no weights\n").unwrap();
    for (element, expected) in [
        ("model=/nowhere/weights.safetensors".to_owned(), "/nowhere/weights.safetensors"),
        ("model=qmamba-zero".to_owned(), "qmamba-zero"),
        (format!("model={}", text.display()), "text.safetensors"),
        ("device=cuda:0".to_owned(), "cuda:0"),
        ("device=tpu".to_owned(), "tpu"),
        ("style-prompt=/nowhere/p.safetensors".to_owned(), "/nowhere/p.safetensors"),
    ] {
        let error = run(&frames(1, "video/x-raw,format=I420,width=320,height=240", &element)).unwrap_err();
        assert!(error.contains(expected) && error.contains("cannot load the model"), "{element}: {error}");
    }
}

/// What a sink says when a frame of `running_time` came `late` milliseconds too late.
fn lateness(running_time: u64, late: i64) -> gst::Event {
    let running_time = gst::ClockTime::from_mseconds(running_time);
    gst::event::Qos::builder(gst::QOSType::Underflow, 1.5, late * 1_000_000).timestamp(running_time).build()
}

#[test]
fn late_frames_pass_without_a_score() {
    init();
    let mut harness = gstreamer_check::Harness::new("qmambaiqa");
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=224,height=224,framerate=25/1");
    let element = harness.element().expect("an element");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_property("crops", 1u32);
    let push = |harness: &mut gstreamer_check::Harness, pts: u64| {
        let mut buffer = gst::Buffer::from_slice(vec![128u8; 224 * 224]);
        buffer.get_mut().expect("own").set_pts(gst::ClockTime::from_mseconds(pts));
        let buffer = harness.push_and_pull(buffer).expect("passes");
        FrameQuality::from_buffer(&buffer).map(|q| (q.frame, q.held))
    };
    assert_eq!(push(&mut harness, 0), Some((0, false)));
    harness.push_upstream_event(lateness(0, 80));
    let sent = std::iter::from_fn(|| harness.try_pull_upstream_event()).any(|e| e.type_() == gst::EventType::Qos);
    assert!(sent, "whoever is upstream hears of it too");
    // Up to 80 ms everything is late, and carries a score only where `hold` is set.
    assert_eq!(push(&mut harness, 40), None);
    element.set_property("hold", true);
    assert_eq!(push(&mut harness, 80), Some((0, true)));
    assert_eq!(push(&mut harness, 120), Some((3, false)));
    // Early again.
    harness.push_upstream_event(lateness(120, -40));
    assert_eq!(push(&mut harness, 160), Some((4, false)));
    let statistics = element.property::<gst::Structure>("statistics");
    let count = |name| statistics.get::<u64>(name).unwrap();
    assert_eq!((count("seen"), count("frames"), count("late")), (5, 3, 2));

    let messages = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Qos])).collect::<Vec<_>>();
    assert_eq!(messages.len(), 2);
    let gst::MessageView::Qos(qos) = messages[1].view() else { panic!("{messages:?}") };
    let time = Some(gst::ClockTime::from_mseconds(80));
    let (_, running_time, _, timestamp, _) = qos.get();
    assert_eq!((running_time, timestamp), (time, time));
    assert_eq!(qos.values(), (0, 1.5, 1_000_000));
    let count = |n| gst::GenericFormattedValue::from(gst::format::Buffers::from_u64(n));
    assert_eq!(qos.stats(), (count(1), count(2)));

    // A flush forgets it, and so does who does not want it.
    harness.push_upstream_event(lateness(160, 1000));
    assert_eq!(push(&mut harness, 200), Some((4, true)));
    element.set_property("qos", false);
    assert_eq!(push(&mut harness, 240), Some((6, false)));
    element.set_property("qos", true);
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(push(&mut harness, 280), Some((0, false)));
}
