//! Does scoring keep up with a live source? Every frame of 1920x1080 at 30 a second, scored within the stream.
//! `cargo run --release --example live [SECONDS [PROPERTY=VALUE...]]`, the element's properties; 4 crops and 2 threads otherwise.

use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::plugin;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(60), |text| text.parse())?;
    let properties: Vec<String> = args.collect();
    gst::init()?;
    plugin::register()?;
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc is-live=true pattern=ball num-buffers={} ! \
         video/x-raw,format=I420,width=1920,height=1080,framerate=30/1 ! queue max-size-buffers=8 ! \
         qmambaiqa name=iqa crops=4 threads=2 post-messages=false {} ! fakesink name=sink sync=false",
        seconds * 30,
        properties.join(" ")
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    let iqa = pipeline.by_name("iqa").ok_or("no element")?;
    let late = Arc::new(Mutex::new(Vec::new()));
    let (into, clocked) = (late.clone(), pipeline.clone());
    iqa.static_pad("src").ok_or("no pad")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = clocked.current_running_time();
        if let (Some(now), Some(pts), Ok(mut late)) = (now, info.buffer().and_then(|b| b.pts()), into.lock()) {
            late.push(now.saturating_sub(pts));
        }
        gst::PadProbeReturn::Ok
    });
    let bus = pipeline.bus().ok_or("no bus")?;
    let begin = (Instant::now(), cpu_time()?);
    pipeline.set_state(gst::State::Playing)?;
    let end = bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]);
    let spent = (begin.0.elapsed(), cpu_time()?.saturating_sub(begin.1));
    if let Some(gst::MessageView::Error(e)) = end.as_ref().map(|m| m.view()) {
        return Err(e.error().to_string().into());
    }
    let statistics = iqa.property::<gst::Structure>("statistics");
    pipeline.set_state(gst::State::Null)?;
    let mut late = std::mem::take(&mut *late.lock().map_err(|_| "a probe panicked")?);
    // The first second is the network's first frames.
    late.drain(..30.min(late.len()));
    let (fifth, last) = (late.len() / 5, late.iter().rev().take(late.len() / 5).max().copied());
    let first = late.iter().take(fifth).max().copied();
    late.sort_unstable();
    let at = |part: f64| late.get(((late.len() as f64 - 1.0) * part) as usize).copied().unwrap_or_default();
    println!("{statistics}");
    println!(
        "buffers leave the element after their time: median {}, 99 % {}, most {}",
        at(0.5).display(),
        at(0.99).display(),
        at(1.0).display()
    );
    let shown = |time: Option<gst::ClockTime>| time.unwrap_or_default().display().to_string();
    println!("most in the first fifth {}, in the last fifth {}", shown(first), shown(last));
    println!(
        "{:.1} s, {:.0} % of a core",
        spent.0.as_secs_f64(),
        100.0 * spent.1.as_secs_f64() / spent.0.as_secs_f64()
    );
    let status = fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no peak memory known"));
    Ok(())
}

/// User and system time of this process so far, on Linux: ticks of 10 ms.
fn cpu_time() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).map_or(Ok(0), |text| text.parse::<u64>());
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
