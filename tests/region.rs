//! Regions of interest and black bars in real pipelines.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_check::Harness;
use gstreamer_video as gst_video;
use qmambaiqa::frame::Region;
use qmambaiqa::plugin::FrameQuality;

const CAPS: &str = "video/x-raw,format=RGB,width=640,height=480,framerate=10/1";

fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        gst::init().expect("GStreamer starts");
        qmambaiqa::plugin::register().expect("the element registers");
    });
}

/// Runs a pipeline to its end: the quality of every buffer, or the error.
fn run(description: &str) -> Result<Vec<Option<FrameQuality>>, String> {
    init();
    let pipeline = gst::parse::launch(&format!("{description} ! appsink name=sink sync=false")).unwrap();
    let sink = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    let bus = pipeline.bus().unwrap();
    let error = || match bus.pop_filtered(&[gst::MessageType::Error])?.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    };
    let _ = pipeline.set_state(gst::State::Playing); // an error is on the bus
    let (mut qualities, mut failed) = (Vec::new(), error());
    while failed.is_none() && !sink.is_eos() {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(50)) {
            qualities.push(FrameQuality::from_buffer(sample.buffer().unwrap()));
        }
        failed = error();
    }
    pipeline.set_state(gst::State::Null).unwrap();
    failed.map_or(Ok(qualities), Err)
}

fn scores(description: &str) -> Vec<f64> {
    run(description).unwrap().into_iter().map(|quality| quality.expect("scored").score).collect()
}

#[test]
fn a_region_is_scored_as_if_it_were_all() {
    let source = format!("videotestsrc num-buffers=2 pattern=smpte ! {CAPS}");
    let cropped = format!("{source} ! videocrop left=200 right=140 top=30 bottom=200 ! qmambaiqa");
    assert_eq!(scores(&format!("{source} ! qmambaiqa region=200,30,300,250")), scores(&cropped));
    assert_ne!(scores(&format!("{source} ! qmambaiqa")), scores(&cropped));
    // Smaller than a crop: scaled up as a frame is. Black bars are looked for within the region.
    let small = format!("{source} ! videocrop left=100 right=440 top=30 bottom=390 ! qmambaiqa crops=2");
    let element = "qmambaiqa crops=2 skip-black-bars=true region=100,30,100,60";
    let qualities = run(&format!("{source} ! {element}")).unwrap();
    assert_eq!(qualities[1].as_ref().unwrap().regions, [Region::new(100, 30, 100, 60)]);
    assert_eq!(qualities.iter().flatten().map(|q| q.score).collect::<Vec<_>>(), scores(&small));
}

#[test]
fn bars_are_left_out() {
    let picture = "videotestsrc num-buffers=3 pattern=smpte75 ! video/x-raw,format=RGB,width=640,height=272";
    let boxed = format!("{picture} ! videobox top=-104 bottom=-104 fill=black ! qmambaiqa");
    let plain = run(&format!("{picture} ! qmambaiqa")).unwrap();
    let seen = |all: &[Option<FrameQuality>]| -> Vec<(f64, f64)> {
        all.iter().flatten().map(|quality| (quality.score, quality.indicators.black)).collect()
    };
    let qualities = run(&format!("{boxed} skip-black-bars=true")).unwrap();
    assert_eq!(qualities[0].as_ref().unwrap().regions, [Region::new(0, 104, 640, 272)]);
    assert_eq!(seen(&qualities), seen(&plain));
    assert!(qualities.len() == 3 && seen(&run(&boxed).unwrap()) != seen(&plain));
    // A black picture has no bars.
    let black = format!("videotestsrc num-buffers=1 pattern=black ! {CAPS} ! qmambaiqa");
    assert_eq!(scores(&format!("{black} skip-black-bars=true")), scores(&black));
}

#[test]
fn wrong_regions_are_named() {
    let source = format!("videotestsrc num-buffers=2 ! {CAPS}");
    let error = |element: &str| run(&format!("{source} ! qmambaiqa {element}")).unwrap_err();
    for text in ["1,2,3", "-1,0,10,10", "0,0,0,0", "NaN,0,1,1", "10x10"] {
        let error = error(&format!("region={text}"));
        assert!(error.contains(&format!("region `{text}`: expected x,y,width,height")), "{error}");
    }
    for text in ["0,0,641,480", "640,0,1,1", "4294967295,4294967295,4294967295,4294967295"] {
        let expected = format!("region {text} (x,y,width,height) is not within a picture of 640x480");
        for more in ["", "skip-black-bars=true"] {
            let error = error(&format!("region={text} {more}"));
            assert!(error.contains(&expected), "{error}");
        }
    }
    // A change of size that leaves the region outside.
    let description = "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=640,height=480 ! c. \
        videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=320,height=240 ! c. \
        concat name=c ! qmambaiqa region=300,200,200,200";
    let error = run(description).unwrap_err();
    assert!(error.contains("frame 1") && error.contains("not within a picture of 320x240"), "{error}");
}

/// The element by itself, and its bus.
struct Rig {
    harness: Harness,
    element: gst::Element,
    bus: gst::Bus,
    frames: u64,
}

impl Rig {
    fn new() -> Self {
        init();
        let mut harness = Harness::new("qmambaiqa");
        harness.set_src_caps_str("video/x-raw,format=GRAY8,width=500,height=400,framerate=25/1");
        let (element, bus) = (harness.element().unwrap(), gst::Bus::new());
        element.set_bus(Some(&bus));
        element.set_property("crops", 4u32);
        Self { harness, element, bus, frames: 0 }
    }

    /// Pushes the same picture with regions of interest: type, x, y, width, height.
    fn push(&mut self, regions: &[(&str, u32, u32, u32, u32)]) -> Option<FrameQuality> {
        let pixels: Vec<u8> = (0..500 * 400u32).map(|i| ((i % 500) * (i / 500) / 64) as u8).collect();
        let mut buffer = gst::Buffer::from_slice(pixels);
        let own = buffer.get_mut().unwrap();
        own.set_pts(gst::ClockTime::from_mseconds(40 * self.frames));
        for &(kind, x, y, width, height) in regions {
            gst_video::VideoRegionOfInterestMeta::add(own, kind, (x, y, width, height));
        }
        self.frames += 1;
        FrameQuality::from_buffer(&self.harness.push_and_pull(buffer).unwrap())
    }

    fn warnings(&self) -> Vec<String> {
        let text = |message: gst::Message| match message.view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            _ => String::new(),
        };
        std::iter::from_fn(|| self.bus.pop_filtered(&[gst::MessageType::Warning])).map(text).collect()
    }
}

#[test]
fn a_region_may_change_while_playing() {
    let mut rig = Rig::new();
    let whole = rig.push(&[]).unwrap();
    assert_eq!(whole.regions, [Region::new(0, 0, 500, 400)]);
    rig.element.set_property("region", "100,100,300,250");
    let part = rig.push(&[]).unwrap();
    assert_eq!(part.regions, [Region::new(100, 100, 300, 250)]);
    assert_ne!(part.score, whole.score);
    rig.element.set_property("region", "somewhere");
    assert_eq!(rig.push(&[]).unwrap().score, part.score);
    assert_eq!(rig.element.property::<String>("region"), "100,100,300,250");
    let warnings = rig.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("stays as it was: region `somewhere`"), "{warnings:?}");
    rig.element.set_property("region", "");
    assert_eq!(rig.push(&[]).unwrap().score, whole.score);
}

#[test]
fn regions_of_buffers() {
    let mut rig = Rig::new();
    let faces = [("face", 10, 20, 240, 300), ("car", 0, 0, 50, 50), ("face", 300, 100, 60, 80)];
    let whole = rig.push(&faces).unwrap(); // not asked for
    rig.element.set_property("roi-meta", true);
    let all = rig.push(&faces).unwrap();
    assert_eq!(all.regions.len(), 3);
    rig.element.set_property("roi-type", "face");
    let two = rig.push(&faces).unwrap();
    assert_eq!(two.regions, [Region::new(10, 20, 240, 300), Region::new(300, 100, 60, 80)]);
    assert_eq!((two.crops, whole.crops), (4, 4));
    assert!(two.score != all.score && two.score != whole.score);
    assert_eq!(rig.push(&faces).unwrap().score, two.score);
    assert!(rig.warnings().is_empty());
    // One is scored as the region that is set would be.
    let one = rig.push(&[("face", 100, 100, 300, 250)]).unwrap();
    rig.element.set_property("roi-meta", false);
    rig.element.set_property("region", "100,100,300,250");
    assert_eq!(rig.push(&[]).unwrap().score, one.score);
    // Both: what they have in common. Beyond the picture there is nothing.
    rig.element.set_property("roi-meta", true);
    let cut = rig.push(&[("face", 350, 300, 4_000_000_000, 4_000_000_000), ("face", 0, 0, 90, 90)]).unwrap();
    assert_eq!(cut.regions, [Region::new(350, 300, 50, 50)]);
}

#[test]
fn frames_without_a_region_pass_and_are_warned_of_once() {
    let mut rig = Rig::new();
    rig.element.set_property("roi-meta", true);
    rig.element.set_property("roi-type", "fase");
    let face = ("face", 10, 20, 240, 300);
    assert!(rig.push(&[face, face, ("car", 0, 0, 9, 9)]).is_none() && rig.push(&[]).is_none());
    let warnings = rig.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("no region of interest of fase, but of car, face"),
        "{warnings:?}"
    );
    rig.element.set_property("roi-type", "face");
    assert_eq!(rig.push(&[face]).unwrap().frame, 2);
    // Outside, empty, and a sliver that nothing can be scaled from.
    for region in [("face", 500, 0, 10, 10), ("face", 0, 0, 0, 0), ("face", 0, 0, 1, 400)] {
        assert!(rig.push(&[region]).is_none(), "{region:?}");
    }
    assert!(rig.warnings().is_empty());
}

#[test]
fn an_overlay_is_drawn_over_what_was_scored() {
    let mut rig = Rig::new();
    let plain = rig.push(&[]).unwrap();
    rig.element.set_property("overlay", true);
    rig.element.set_property("region", "100,100,300,250");
    rig.element.set_property("crops", 1u32);
    let source = gst::Buffer::from_slice(vec![90u8; 500 * 400]);
    let kept = source.clone(); // shares the pixels
    let drawn = rig.harness.push_and_pull(source).unwrap();
    let quality = FrameQuality::from_buffer(&drawn).unwrap();
    assert!(quality.score != plain.score && kept.map_readable().unwrap().iter().all(|&pixel| pixel == 90));
    // The crop in the middle of the region, a pixel thick, and the score in the corner.
    let pixels = drawn.map_readable().unwrap();
    let (x, y, last) = (100 + (300 - 224) / 2, 100 + (250 - 224) / 2, 223);
    let at = |x: usize, y: usize| pixels[y * 500 + x];
    for (x, y) in [(x, y), (x + last, y), (x, y + last), (x + last, y + last), (x + 100, y), (x, y + 100)] {
        assert!(at(x, y) > 150, "({x}, {y}): {}", at(x, y));
    }
    assert_eq!([at(x + 1, y + 1), at(x - 1, y), at(x + last + 1, y), at(450, 350)], [90; 4]);
    let label: Vec<u8> = (8..36).flat_map(|y| (8..56).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    assert!(label.iter().any(|&pixel| pixel > 220) && label.iter().filter(|&&pixel| pixel < 60).count() > 500);
    // Other formats; a picture that is smaller than the text.
    for caps in
        ["format=I420,width=641,height=361", "format=P010_10LE,width=320,height=240", "format=YUY2,width=9,height=7"]
    {
        for element in ["overlay=true", "overlay=true crops=9 async=true hold=true"] {
            run(&format!("videotestsrc num-buffers=3 ! video/x-raw,{caps} ! qmambaiqa {element}")).unwrap();
        }
    }
}
