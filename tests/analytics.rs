//! The score as a datum of GstAnalytics. `cargo test --features analytics --test analytics`, with GStreamer 1.24 or newer.
#![cfg(feature = "analytics")]

use gstreamer as gst;
use gstreamer_analytics::{
    AnalyticsClassificationMtd, AnalyticsMetaRefExt, AnalyticsRelationMeta, AnalyticsRelationMetaClassificationExt,
};
use gstreamer_check::Harness;
use qmambaiqa::plugin::{CLASS, FrameQuality};

/// What a buffer's relation metas classify: names and levels.
fn classes(buffer: &gst::BufferRef) -> Vec<(String, f32)> {
    let metas = buffer.iter_meta::<AnalyticsRelationMeta>();
    metas
        .flat_map(|meta| {
            let each = meta.iter::<AnalyticsClassificationMtd>();
            each.map(|mtd| (mtd.quark(0).as_str().to_string(), mtd.level(0))).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn scores_stand_beside_what_others_said() {
    gst::init().unwrap();
    qmambaiqa::plugin::register().unwrap();
    let element = gst::ElementFactory::make("qmambaiqa").property("crops", 1u32).build().unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps_str("video/x-raw,format=GRAY8,width=256,height=240,framerate=10/1");
    for labelled in [false, true] {
        let pixels: Vec<u8> = (0..256 * 240).map(|i| (i * 7 % 251) as u8).collect();
        let mut buffer = gst::Buffer::from_slice(pixels);
        if labelled {
            let mut meta = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
            meta.add_one_cls_mtd(0.75, glib::Quark::from_str("cat")).unwrap();
        }
        let scored = harness.push_and_pull(buffer).unwrap();
        let score = (FrameQuality::from_buffer(&scored).unwrap().score / 100.0) as f32;
        let mut expected = vec![(CLASS.to_owned(), score)];
        if labelled {
            expected.insert(0, ("cat".to_owned(), 0.75));
        }
        assert_eq!(classes(&scored), expected);
        assert_eq!(scored.iter_meta::<AnalyticsRelationMeta>().count(), 1);
    }
}
