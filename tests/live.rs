//! Watching a stream: scoring beside it, alarms, scenes, jitter.

use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::indicators::Reason;
use qmambaiqa::plugin::{FrameQuality, Report};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What came out of a run.
struct Run {
    /// Of each buffer behind the element.
    qualities: Vec<Option<FrameQuality>>,
    reports: Vec<Report>,
    /// From before the element to behind it.
    delays: Vec<Duration>,
    /// seen, dropped and scored frames.
    counts: (u64, u64, u64),
    statistics: gst::Structure,
    error: Option<String>,
}

fn run(source: &str, element: &str) -> Run {
    gst::init().unwrap();
    qmambaiqa::plugin::register().unwrap();
    let pipeline =
        gst::parse::launch(&format!("{source} ! qmambaiqa name=iqa {element} ! fakesink sync=false")).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let iqa = pipeline.by_name("iqa").unwrap();
    let entered = Arc::new(Mutex::new(Instant::now()));
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let at = entered.clone();
    iqa.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        *at.lock().unwrap() = Instant::now();
        gst::PadProbeReturn::Ok
    });
    let out = seen.clone();
    iqa.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut out = out.lock().unwrap();
        out.1.push(entered.lock().unwrap().elapsed());
        out.0.push(info.buffer().and_then(|b| FrameQuality::from_buffer(b)));
        gst::PadProbeReturn::Ok
    });
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut reports, mut error) = (Vec::new(), None);
    while let Some(message) = bus.timed_pop(gst::ClockTime::from_seconds(60)) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => {
                error = Some(e.error().to_string());
                break;
            }
            _ => reports.extend(Report::from_message(&message)),
        }
    }
    let statistics = iqa.property::<gst::Structure>("statistics");
    let count = |name| statistics.get::<u64>(name).unwrap_or(0);
    let counts = (count("seen"), count("dropped"), count("frames"));
    pipeline.set_state(gst::State::Null).unwrap();
    let (qualities, delays) = std::mem::take(&mut *seen.lock().unwrap());
    Run { qualities, reports, delays, counts, statistics, error }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn asynchronous_frames_pass_at_once() {
    let source = "videotestsrc is-live=true num-buffers=60 pattern=ball ! \
                  video/x-raw,format=I420,width=640,height=480,framerate=30/1";
    let beside = run(source, "async=true crops=16");
    assert_eq!((beside.error, beside.qualities.len()), (None, 60));
    // Every frame is scored or gave way, and the end waited for the last.
    let (seen, dropped, scored) = beside.counts;
    println!("{seen} frames: {scored} scored, {dropped} gave way");
    assert_eq!((seen, scored + dropped), (60, 60));
    assert!(scored >= 1);
    let Some(Report::Pooled { statistics, .. }) = beside.reports.last() else { panic!("no end") };
    assert_eq!(statistics.frames, scored);
    // Buffers carry the last score with its age, never one of a frame to come; once there is one, each does.
    let first = beside.qualities.iter().position(Option::is_some).unwrap_or(60);
    for (i, quality) in beside.qualities.iter().enumerate().skip(first) {
        let quality = quality.as_ref().expect("held");
        assert!(quality.held && quality.frame < i as u64, "{i}: {quality:?}");
        let frames = (quality.age as f64 * 30.0 / 1e9).round() as u64;
        assert_eq!(frames, i as u64 - quality.frame, "{i}: {quality:?}");
    }
    let frame_scores: Vec<_> = beside.reports.iter().filter(|r| matches!(r, Report::Frame { .. })).collect();
    assert_eq!(frame_scores.len() as u64, scored);

    let within = run(source, "crops=16");
    assert_eq!(within.counts, (60, 0, 60));
    let (a, b) = (median(beside.delays), median(within.delays));
    println!("median delay in the element: {a:?} beside the stream, {b:?} within");
    assert!(a < Duration::from_millis(2) && a * 5 < b, "{a:?} {b:?}");
}

#[test]
fn jitter_scatters_frames_and_keeps_their_number() {
    let scored = |element: &str| -> Vec<u64> {
        let run =
            run("videotestsrc num-buffers=120 ! video/x-raw,format=GRAY8,width=224,height=224,framerate=30/1", element);
        run.qualities.iter().flatten().map(|q| q.frame).collect()
    };
    let regular = scored("crops=1 interval=200000000");
    assert_eq!(regular, (0..20).map(|i| 6 * i).collect::<Vec<_>>());
    let jittered = scored("crops=1 interval=200000000 jitter=1 seed=3");
    println!("{jittered:?}");
    assert!((19..=20).contains(&jittered.len()), "{jittered:?}");
    // One in each interval, at all phases.
    assert!(jittered.iter().enumerate().skip(1).all(|(i, &f)| (6 * i as u64..=6 * i as u64 + 6).contains(&f)));
    let phases: std::collections::BTreeSet<u64> = jittered.iter().map(|f| f % 6).collect();
    assert!(phases.len() >= 4, "{phases:?}");
    assert_eq!(jittered, scored("crops=1 interval=200000000 jitter=1 seed=3"));
    assert_ne!(jittered, scored("crops=1 interval=200000000 jitter=1 seed=4"));
}

/// Patterns of ten frames each, 200 ms apart.
fn patterns(names: &[&str]) -> String {
    let part = |pattern: &&str| {
        format!(
            "videotestsrc num-buffers=10 pattern={pattern} ! video/x-raw,format=I420,width=320,height=240,framerate=5/1 ! c. "
        )
    };
    names.iter().map(part).collect::<String>() + "concat name=c"
}

/// Of each alarm that begins or ends: whether it begins, why, and the milliseconds when it is posted and since when.
fn alarms(run: &Run) -> Vec<(bool, Reason, u64, u64)> {
    let found = |report: &Report| match report {
        Report::Alarm { times, low, reason, since, .. } => {
            assert_eq!(Report::from_structure(&report.to_structure()).as_ref(), Some(report));
            Some((*low, *reason, times.running_time / 1_000_000, since / 1_000_000))
        }
        _ => None,
    };
    run.reports.iter().filter_map(found).collect()
}

fn scores(run: &Run) -> Vec<f64> {
    run.qualities.iter().flatten().map(|q| q.score).collect()
}

/// Two contents in turn; the threshold lies between their scores.
#[test]
fn alarms_begin_and_end() {
    let source = patterns(&["smpte", "snow", "smpte"]);
    let all = scores(&run(&source, "crops=1"));
    assert_eq!(all.len(), 30);
    let (smpte, snow) = (all[5], all[15]);
    println!("smpte {smpte:.1}, snow {snow:.1}");
    assert!((smpte - snow).abs() > 5.0);
    let middle = (smpte + snow) / 2.0;
    let element = format!("crops=1 low-threshold={middle} post-messages=false alarm-hold=600000000");
    // Frames are 200 ms apart: the fourth one after a change is 600 ms late.
    let expected = if snow < smpte {
        vec![(true, Reason::Quality, 2600, 2000), (false, Reason::Quality, 4600, 4000)]
    } else {
        let begin = |at| (true, Reason::Quality, at + 600, at);
        vec![begin(0), (false, Reason::Quality, 2600, 2000), begin(4000)]
    };
    let seen = run(&source, &element);
    assert_eq!((alarms(&seen), seen.error), (expected, None));
    // Hysteresis: nothing is good enough to end it.
    let high = smpte.max(snow) + 1.0;
    let only = alarms(&run(&source, &format!("{element} high-threshold={high}")));
    assert_eq!(only.len(), 1, "{only:?}");
    let error = run(&source, &format!("{element} alarm-error=true")).error;
    assert!(error.is_some_and(|e| e.contains("quality is too low")));
    assert_eq!(alarms(&run(&source, "crops=1")), []);
}

#[test]
fn black_and_frozen_pictures_raise_alarms_where_they_shall() {
    let (black, frozen) = (patterns(&["snow", "black", "snow"]), patterns(&["snow", "red", "snow"]));
    let element = "crops=1 post-messages=false alarm-hold=400000000";
    let seen = run(&black, &format!("{element} black-alarm=true"));
    assert_eq!(alarms(&seen), [(true, Reason::Black, 2400, 2000), (false, Reason::Black, 4400, 4000)]);
    // A still is frozen after a second, and then that must last.
    let freeze = format!("{element} freeze-alarm=true freeze-time=1000000000");
    let seen = run(&frozen, &freeze);
    assert_eq!(alarms(&seen), [(true, Reason::Freeze, 3400, 3000), (false, Reason::Freeze, 4400, 4000)]);
    let indicators: Vec<_> = seen.qualities.iter().flatten().map(|q| q.indicators).collect();
    assert_eq!((indicators[0].change, indicators[15].change), (None, Some(0.0)));
    assert_eq!((indicators[12].frozen, indicators[19].frozen, indicators[20].frozen), (400_000_000, 1_800_000_000, 0));
    assert!(indicators[15].sharpness.is_none() && indicators[5].sharpness.is_some_and(|s| s > 1.0));
    // Off by default; and what is asked for stops the stream.
    for source in [&black, &frozen] {
        assert_eq!(alarms(&run(source, element)), []);
    }
    let error = run(&black, &format!("{element} black-alarm=true alarm-error=true")).error;
    assert!(error.as_ref().is_some_and(|e| e.contains("the picture is black")), "{error:?}");
    // An alarm by score says why it came: everything is under 100.
    let seen = run(&patterns(&["black"]), &format!("{element} low-threshold=100"));
    assert_eq!(alarms(&seen), [(true, Reason::Black, 400, 0)]);
}

#[test]
fn scenes_have_statistics_of_their_own() {
    let seen = run(&patterns(&["smpte", "snow", "red"]), "crops=1 half-life=1000000000");
    let scores = scores(&seen);
    let mut scenes = 0;
    for report in &seen.reports {
        let Report::Scene { times, index, statistics } = report else { continue };
        assert_eq!(Report::from_structure(&report.to_structure()).as_ref(), Some(report));
        assert_eq!((*index, times.running_time, times.duration), (scenes, scenes * 2_000_000_000, 2_000_000_000));
        let of_scene = &scores[10 * scenes as usize..][..10];
        assert_eq!(statistics.frames, 10);
        assert!((statistics.mean - of_scene.iter().sum::<f64>() / 10.0).abs() < 1e-9);
        assert_eq!(statistics.max, of_scene.iter().copied().fold(0.0, f64::max));
        scenes += 1;
    }
    assert_eq!(scenes, 3);
    // A scene is reported before the first frame of the next, the last one before the end.
    let place = |f: fn(&Report) -> bool| seen.reports.iter().position(f).unwrap();
    assert_eq!(place(|r| matches!(r, Report::Scene { .. })), 10);
    assert!(matches!(&seen.reports[seen.reports.len() - 2..], [Report::Scene { .. }, Report::Pooled { .. }]));
    let numbers: Vec<u64> = seen.qualities.iter().flatten().map(|q| q.indicators.scene).collect();
    assert_eq!(numbers, (0..30).map(|i| i / 10).collect::<Vec<_>>());

    // 200 ms at a half-life of a second.
    let average = scores.iter().copied().reduce(|a, score| a + (1.0 - (-0.2f64).exp2()) * (score - a));
    let (ewma, expected) = (seen.statistics.get::<f64>("ewma").unwrap(), average.unwrap());
    assert!((ewma - expected).abs() < 1e-9, "{ewma} for {expected}");
    // While it lasts a scene is among the statistics; what is over has its message.
    assert!(seen.statistics.get::<gst::Structure>("scene").is_err());
    let window = seen.statistics.get::<gst::Structure>("window").unwrap();
    assert_eq!(window.get::<u64>("frames").unwrap(), 30);
}
