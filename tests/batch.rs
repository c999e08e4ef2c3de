//! Frames that are held to be scored in one batch: nothing but the time at which they leave may differ.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_check::Harness;
use gstreamer_video::{self as gst_video, prelude::*};
use qmambaiqa::plugin::{FrameQuality, Report};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CAPS: &str = "video/x-raw,format=I420,width=320,height=240,framerate=10/1";

fn init() {
    gst::init().unwrap();
    qmambaiqa::plugin::register().unwrap();
}

/// What passes behind the element, in its order, and the messages.
#[derive(Debug, PartialEq)]
struct Run {
    passed: Vec<Passed>,
    reports: Vec<Report>,
}

#[derive(Debug, Clone, PartialEq)]
enum Passed {
    Buffer {
        pts: Option<gst::ClockTime>,
        discontinuity: bool,
        pixels: blake3::Hash,
        quality: Option<Box<FrameQuality>>,
    },
    Event(gst::EventType),
}

/// A hash of a buffer's pixels, without what is between rows: videotestsrc leaves that as memory was.
fn pixels(pad: &gst::Pad, buffer: &gst::BufferRef) -> blake3::Hash {
    let info = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let mut hash = blake3::Hasher::new();
    for component in 0..info.n_components() {
        let plane = frame.format_info().plane()[component as usize];
        let row = (frame.comp_width(component) * frame.comp_pstride(component) as u32) as usize;
        let rows = frame.plane_data(plane).unwrap().chunks(frame.plane_stride()[plane as usize] as usize);
        rows.take(frame.comp_height(component) as usize).for_each(|bytes| _ = hash.update(&bytes[..row]));
    }
    hash.finalize()
}

/// Records what passes a pad.
fn watch(pad: &gst::Pad) -> Arc<Mutex<Vec<Passed>>> {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let seen = passed.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let one = match (info.buffer(), info.event()) {
            (Some(buffer), _) => Passed::Buffer {
                pts: buffer.pts(),
                discontinuity: buffer.flags().contains(gst::BufferFlags::DISCONT),
                pixels: pixels(pad, buffer),
                quality: FrameQuality::from_buffer(buffer).map(Box::new),
            },
            (_, Some(event)) => Passed::Event(event.type_()),
            _ => return gst::PadProbeReturn::Ok,
        };
        seen.lock().unwrap().push(one);
        gst::PadProbeReturn::Ok
    });
    passed
}

fn run(source: &str, element: &str) -> Run {
    init();
    let description = format!("{source} ! qmambaiqa name=iqa threads=2 {element} ! fakesink sync=false");
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    let passed = watch(&pipeline.by_name("iqa").unwrap().static_pad("src").unwrap());
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut reports = Vec::new();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(60)).expect("it ends");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => panic!("{element}: {e:?}"),
            _ => reports.extend(Report::from_message(&message)),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let passed = std::mem::take(&mut *passed.lock().unwrap());
    Run { passed, reports }
}

/// Everything that passes, and every message, is as with a batch of one, to the bit and in order.
#[test]
fn a_batch_changes_nothing() {
    let ball = format!("videotestsrc num-buffers=11 pattern=ball ! {CAPS}");
    let sizes = "concat name=c videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=320,height=240 ! c. \
        videotestsrc num-buffers=3 pattern=ball ! video/x-raw,format=RGB,width=641,height=355 ! c. \
        videotestsrc num-buffers=2 ! video/x-raw,format=P010_10LE,width=300,height=228 ! c. c.";
    for (source, element) in [
        (&*ball, "crops=2"),
        (&*ball, "crops=3 sampling=random seed=4 interval=200000000 hold=true"),
        (&*ball, "crops=2 interval=300000000"),
        (&*ball, "crops=2 skip-black-bars=true overlay=true region=0,0,300,230 low-threshold=99 alarm-hold=200000000"),
        (sizes, "crops=2"),
    ] {
        let alone = run(source, element);
        assert!(alone.passed.iter().any(|p| matches!(p, Passed::Buffer { quality: Some(_), .. })));
        for batch in [2, 4, 64] {
            assert_eq!(run(source, &format!("{element} batch={batch} max-latency=60000000000")), alone, "{element}");
        }
        // Frames that leave when they have been held too long are the same too.
        assert_eq!(run(source, &format!("{element} batch=3 max-latency=1000000")), alone, "{element}");
    }
}

#[test]
fn a_live_source_passes_in_order() {
    let live = format!("videotestsrc is-live=true num-buffers=20 pattern=ball ! {}", CAPS.replace("10/1", "40/1"));
    let scores = |run: &Run| -> Vec<_> {
        run.passed
            .iter()
            .filter_map(|passed| match passed {
                Passed::Buffer { quality, .. } => Some(quality.as_ref().map(|q| (q.frame, q.score))),
                Passed::Event(_) => None,
            })
            .collect()
    };
    let alone = scores(&run(&live.replace("is-live=true", ""), "crops=2"));
    assert_eq!(alone.len(), 20);
    assert_eq!(scores(&run(&live, "crops=2 batch=6 max-latency=150000000")), alone);
}

/// An element whose frames are pushed one by one, and what passes behind it.
fn harness(settings: &[(&str, &str)]) -> (Harness, Arc<Mutex<Vec<Passed>>>) {
    init();
    let element = gst::ElementFactory::make("qmambaiqa").build().unwrap();
    element.set_property("crops", 1u32);
    settings.iter().for_each(|(name, value)| element.set_property_from_str(name, value));
    let passed = watch(&element.static_pad("src").unwrap());
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=224,height=224,framerate=25/1");
    passed.lock().unwrap().clear(); // the stream's start
    (harness, passed)
}

fn frame(milliseconds: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(vec![milliseconds as u8; 224 * 224]);
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(milliseconds));
    buffer
}

/// Numbers of the frames that have passed, and the events between them.
fn order(passed: &Mutex<Vec<Passed>>) -> Vec<Result<u64, gst::EventType>> {
    let passed = passed.lock().unwrap();
    let number = |passed: &Passed| match passed {
        Passed::Buffer { quality, .. } => Ok(quality.as_ref().expect("a score").frame),
        Passed::Event(event) => Err(*event),
    };
    passed.iter().map(number).collect()
}

const LONG: (&str, &str) = ("max-latency", "600000000000");

#[test]
fn frames_leave_when_the_batch_is_whole_and_before_what_follows_them() {
    let (mut harness, passed) = harness(&[("batch", "3"), LONG]);
    let [first, second] = [frame(0), frame(40)];
    let address = |buffer: &gst::BufferRef| buffer.map_readable().unwrap().as_ptr();
    let sent = [&first, &second].map(|buffer| address(buffer));
    harness.push(first).unwrap();
    harness.push(second).unwrap();
    assert_eq!((harness.buffers_received(), order(&passed)), (0, vec![]));
    harness.push(frame(80)).unwrap();
    assert_eq!(order(&passed), [Ok(0), Ok(1), Ok(2)]);
    // The pixels are where they were.
    assert_eq!([(); 2].map(|()| address(&harness.pull().unwrap())), sent);

    let mut expected = order(&passed);
    for (i, event) in [
        gst::event::Tag::new(gst::TagList::new()),
        gst::event::CustomDownstream::new(gst::Structure::new_empty("anything")),
        gst::event::Gap::builder(gst::ClockTime::from_mseconds(160)).build(),
        gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()),
        gst::event::Eos::new(),
    ]
    .into_iter()
    .enumerate()
    {
        harness.push(frame(120 + 40 * i as u64)).unwrap();
        let kind = event.type_();
        assert!(harness.push_event(event));
        expected.extend([Ok(3 + i as u64), Err(kind)]);
        assert_eq!(order(&passed), expected);
    }
}

#[test]
fn a_gap_in_the_stream_ends_a_batch() {
    let (mut harness, passed) = harness(&[("batch", "3"), LONG]);
    harness.push(frame(0)).unwrap();
    let mut later = frame(4000);
    later.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
    harness.push(later).unwrap();
    assert_eq!(order(&passed), [Ok(0), Ok(1)]);
    harness.push(frame(4040)).unwrap();
    harness.push(frame(4080)).unwrap();
    harness.push_event(gst::event::Eos::new());
    let marked: Vec<bool> = passed
        .lock()
        .unwrap()
        .iter()
        .filter_map(|passed| match passed {
            Passed::Buffer { discontinuity, .. } => Some(*discontinuity),
            Passed::Event(_) => None,
        })
        .collect();
    assert_eq!(marked, [false, true, false, false]);
}

#[test]
fn a_flush_drops_what_is_held() {
    let (mut harness, passed) = harness(&[("batch", "2"), LONG]);
    harness.push(frame(0)).unwrap();
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    passed.lock().unwrap().clear();
    harness.push(frame(40)).unwrap();
    assert_eq!(order(&passed), []);
    harness.push(frame(80)).unwrap();
    assert_eq!(order(&passed), [Ok(0), Ok(1)]);
    assert_eq!(harness.buffers_received(), 2);
}

#[test]
fn no_frame_is_held_longer_than_allowed() {
    let (mut harness, passed) = harness(&[("batch", "100"), ("max-latency", "50000000")]);
    for i in 0..3 {
        let begin = Instant::now();
        harness.push(frame(40 * i)).unwrap();
        let buffer = harness.pull().expect("without another frame behind it");
        // Scoring is in it, on a machine that may have other things to do; frames alone would never make the batch.
        let held = begin.elapsed();
        assert!((Duration::from_millis(50)..Duration::from_secs(10)).contains(&held), "{held:?}");
        assert_eq!(buffer.pts(), Some(gst::ClockTime::from_mseconds(40 * i)));
    }
    assert_eq!(order(&passed), [Ok(0), Ok(1), Ok(2)]);
    // Stopping with a frame held is no trouble.
    harness.push(frame(120)).unwrap();
    drop(harness);
}

/// An application may stop the element in the streaming thread, which has the lock that the timer waits for.
#[test]
fn the_stream_may_be_stopped_by_who_sees_its_end() {
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut harness, _) = harness(&[("batch", "3"), ("max-latency", "1")]);
        let element = harness.element().unwrap();
        let weak = element.downgrade();
        element.static_pad("src").unwrap().add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
                weak.upgrade().unwrap().set_state(gst::State::Null).unwrap();
            }
            gst::PadProbeReturn::Ok
        });
        let sink = element.static_pad("sink").unwrap();
        // So that the timer rings while the frame is scored, and waits.
        let lock = sink.stream_lock();
        harness.push(frame(0)).unwrap();
        harness.push_event(gst::event::Eos::new());
        drop(lock);
        done.send(element.current_state()).unwrap();
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(60)), Ok(gst::State::Null));
}

#[test]
fn frames_that_are_not_scored_wait_for_none_but_those_before_them() {
    let (mut harness, passed) = harness(&[("batch", "2"), LONG, ("interval", "100000000"), ("hold", "true")]);
    harness.push(frame(0)).unwrap();
    harness.push(frame(40)).unwrap(); // carries the score of the first, which is still to come
    assert_eq!(order(&passed), []);
    harness.push(frame(120)).unwrap();
    assert_eq!(order(&passed), [Ok(0), Ok(0), Ok(2)]);
    harness.push(frame(160)).unwrap();
    assert_eq!(order(&passed), [Ok(0), Ok(0), Ok(2), Ok(2)]);
}

/// The lock, which the timer needs, is never free: the next frame ends the batch.
#[test]
fn a_frame_that_comes_too_late_ends_the_batch() {
    let (mut harness, passed) = harness(&[("batch", "100"), ("max-latency", "50000000")]);
    let sink = harness.element().unwrap().static_pad("sink").unwrap();
    let _lock = sink.stream_lock();
    let begin = Instant::now();
    let mut sent = 0;
    while order(&passed).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10) && sent < 99, "{sent} frames, and none leaves");
        std::thread::sleep(Duration::from_millis(5)); // the time between frames of a stream
        harness.push(frame(40 * sent)).unwrap();
        sent += 1;
    }
    assert!(begin.elapsed() >= Duration::from_millis(50));
    assert_eq!(order(&passed), (0..sent).map(Ok).collect::<Vec<_>>());
}

#[test]
fn an_interval_does_not_have_any_number_of_frames_held() {
    let (mut harness, passed) = harness(&[("batch", "2"), LONG, ("interval", "100000000000"), ("hold", "true")]);
    for i in 0..7 {
        harness.push(frame(40 * i)).unwrap();
    }
    assert_eq!(order(&passed), []);
    harness.push(frame(280)).unwrap();
    assert_eq!(order(&passed), [Ok(0); 8]);
}

/// What has failed outside a frame's own way, before an event, is the next frame's answer, whatever that frame brings about.
#[test]
fn a_failure_is_not_forgotten() {
    let (mut harness, _) = harness(&[("batch", "3"), LONG]);
    let source = harness.element().unwrap().static_pad("src").unwrap();
    let fails = Mutex::new(true);
    source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if !std::mem::take(&mut *fails.lock().unwrap()) {
            return gst::PadProbeReturn::Ok;
        }
        info.flow_res = Err(gst::FlowError::NotLinked);
        gst::PadProbeReturn::Handled
    });
    harness.push(frame(0)).unwrap();
    harness.push_event(gst::event::Tag::new(gst::TagList::new()));
    let mut next = frame(4000);
    next.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
    assert_eq!(harness.push(next), Err(gst::FlowError::NotLinked));
    harness.push(frame(4040)).unwrap();
}

#[test]
fn what_is_held_at_a_reset_leaves_without_a_score() {
    let (mut harness, passed) = harness(&[("batch", "2"), LONG]);
    harness.push(frame(0)).unwrap();
    harness.element().unwrap().emit_by_name::<()>("reset", &[]);
    harness.push(frame(40)).unwrap();
    let scored: Vec<_> = passed
        .lock()
        .unwrap()
        .iter()
        .filter_map(|passed| match passed {
            Passed::Buffer { quality, .. } => Some(quality.as_ref().map(|quality| quality.frame)),
            Passed::Event(_) => None,
        })
        .collect();
    assert_eq!(scored, [None, Some(0)]);
}

#[test]
fn a_pipeline_is_told_of_its_latency() {
    init();
    for (batch, told) in [(1u32, false), (4, true)] {
        let element = gst::ElementFactory::make("qmambaiqa").property("batch", batch).build().unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_state(gst::State::Paused).unwrap();
        assert_eq!(bus.pop_filtered(&[gst::MessageType::Latency]).is_some(), told, "batch {batch}");
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn latency_is_said() {
    let upstream = gst::ClockTime::from_mseconds(10);
    for (settings, held) in [
        (&[("batch", "4"), ("max-latency", "70000000")][..], 70),
        (&[("batch", "1"), ("max-latency", "70000000")], 0),
        (&[("batch", "4"), ("max-latency", "70000000"), ("async", "true")], 0),
    ] {
        let (mut harness, _) = harness(settings);
        harness.set_upstream_latency(upstream);
        assert_eq!(harness.query_latency(), Some(upstream + gst::ClockTime::from_mseconds(held)), "{settings:?}");
    }
}

#[test]
fn pools_are_asked_for_as_many_buffers_as_are_held() {
    let (harness, _) = harness(&[("batch", "7"), LONG]);
    let caps = harness.element().unwrap().static_pad("sink").unwrap().current_caps().unwrap();
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    assert!(harness.element().unwrap().static_pad("sink").unwrap().query(&mut query));
    let least = query.allocation_pools().map(|(_, _, min, _)| min).max();
    assert_eq!(least, Some(4 * 7));
}

#[test]
fn beside_the_stream_there_is_no_batch() {
    init();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=2 ! {CAPS} ! qmambaiqa batch=4 async=true crops=1 ! fakesink sync=false"
    ))
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut warnings = Vec::new();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(60)).expect("it ends");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Warning(warning) => warnings.push(warning.error().to_string()),
            gst::MessageView::Error(e) => panic!("{e:?}"),
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("batch=4 is ignored"), "{warnings:?}");
}
