//! Does the element hold a live stream up? Two live sources of 1280x720 at 30 frames a second play side by side, one of them
//! through the element with `async=true`; how late buffers reach the sinks, and the process's memory every
//! minute. `cargo run --release --example latency [SECONDS [PROPERTY=VALUE...]]`, the element's properties; 600 s otherwise.

use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::plugin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How often memory is looked at.
const MINUTE: Duration = Duration::from_secs(60);

/// A stream that notes how late its buffers reach the sink.
struct Stream {
    pipeline: gst::Pipeline,
    late: Arc<Mutex<Vec<gst::ClockTime>>>,
}

impl Stream {
    fn play(element: &str, frames: u64) -> Outcome<Self> {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc is-live=true pattern=ball num-buffers={frames} ! \
             video/x-raw,format=I420,width=1280,height=720,framerate=30/1 ! queue max-size-buffers=8 ! \
             {element} ! fakesink name=sink sync=false"
        ))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
        let late = Arc::new(Mutex::new(Vec::new()));
        let pad = pipeline.by_name("sink").and_then(|sink| sink.static_pad("sink")).ok_or("no sink")?;
        let (into, weak) = (late.clone(), pipeline.downgrade());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let now = weak.upgrade().and_then(|pipeline| pipeline.current_running_time());
            if let (Some(now), Some(pts), Ok(mut late)) = (now, info.buffer().and_then(|b| b.pts()), into.lock()) {
                late.push(now.saturating_sub(pts));
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, late })
    }

    /// Waits for the end and prints how late buffers were.
    fn finish(self, name: &str) -> Outcome<()> {
        let bus = self.pipeline.bus().ok_or("no bus")?;
        let end = bus.timed_pop_filtered(gst::ClockTime::NONE, &[gst::MessageType::Eos, gst::MessageType::Error]);
        if let Some(gst::MessageView::Error(e)) = end.as_ref().map(|m| m.view()) {
            return Err(e.error().to_string().into());
        }
        if let Some(iqa) = self.pipeline.by_name("iqa") {
            println!("{}", iqa.property::<gst::Structure>("statistics"));
        }
        self.pipeline.set_state(gst::State::Null)?;
        let mut late = std::mem::take(&mut *self.late.lock().map_err(|_| "a probe panicked")?);
        late.sort_unstable();
        let at = |part: f64| late.get(((late.len() as f64 - 1.0) * part) as usize).copied().unwrap_or_default();
        let milliseconds = |part| at(part).nseconds() as f64 / 1e6;
        println!(
            "{name}: {} buffers; late at the sink by ms: median {:.3}, 99 % {:.3}, 99.9 % {:.3}, most {:.3}",
            late.len(),
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(0.999),
            milliseconds(1.0)
        );
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(600), |text| text.parse())?;
    let properties: Vec<String> = args.collect();
    gst::init()?;
    plugin::register()?;
    let begin = Instant::now();
    let element =
        format!("qmambaiqa name=iqa async=true interval=500000000 post-messages=false {}", properties.join(" "));
    let without = Stream::play("identity", 30 * seconds)?;
    let with = Stream::play(&element, 30 * seconds)?;
    let length = Duration::from_secs(seconds);
    let last = length.saturating_sub(Duration::from_secs(2));
    for minute in 1.. {
        let at = last.min(MINUTE * minute);
        std::thread::sleep(at.saturating_sub(begin.elapsed()));
        println!("after {:.0} s: {}", begin.elapsed().as_secs_f64(), memory()?);
        if at == last {
            break;
        }
    }
    without.finish("without the element")?;
    with.finish("with the element")
}

/// The process's memory, as Linux says it.
fn memory() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    Ok(line.unwrap_or("no memory known").split_whitespace().collect::<Vec<_>>().join(" "))
}
