//! Starting and stopping for ever; a test binary of its own, so that nothing else uses memory meanwhile.

use gstreamer as gst;
use gstreamer::prelude::*;

#[test]
fn start_and_stop_leak_nothing() {
    gst::init().expect("GStreamer starts");
    qmambaiqa::plugin::register().expect("the element registers");
    let element = gst::ElementFactory::make("qmambaiqa").property("threads", 2u32).build().unwrap();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        status.split_whitespace().nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
    };
    let cycle = |n: usize| {
        for _ in 0..n {
            element.set_state(gst::State::Paused).unwrap();
            element.set_state(gst::State::Null).unwrap();
        }
    };
    cycle(20);
    let before = resident();
    cycle(200);
    let growth = resident().saturating_sub(before);
    println!("200 cycles: {growth} bytes more");
    assert!(growth < 16 << 20, "grew by {growth} bytes");
}
