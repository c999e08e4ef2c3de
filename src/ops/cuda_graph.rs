//! Forward passes recorded as CUDA graphs: launched as a whole, where launches one by one would take longer than the work.

use super::gate::{Leave, alone};
use crate::random::Random;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Result, Tensor, bail};
use parking_lot::Mutex;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// What is to be recorded: two tensors of a shape from one of a shape.
pub(crate) type Pass = Box<dyn Fn(&Tensor) -> Result<[Tensor; 2]> + Send>;

/// A recorded pass with the memory that it reads and writes.
pub(crate) struct Graph {
    recorded: Mutex<Recorded>,
    leave: Leave,
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.leave.begin();
    }
}

struct Recorded {
    graph: CudaGraph,
    input: Tensor,
    outputs: [Tensor; 2],
}

// SAFETY: a graph may be used by any thread but by one at a time, and a lock is around it.
unsafe impl Send for Recorded {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

impl Graph {
    /// Records a pass over inputs of a shape, `f32`. The results of the first launch are compared with those of the pass itself.
    ///
    /// # Errors
    /// What cannot be recorded, and results that differ.
    pub(crate) fn record(device: &Device, shape: &[usize], pass: Pass) -> Result<Self> {
        type Task = Box<dyn FnOnce() + Send>;
        // Candle keeps what it uploads for operations on a graph's behalf for as long as the thread that recorded it, and a graph
        // reads that: so it is one that never ends.
        static RECORDER: Mutex<Option<Sender<Task>>> = Mutex::new(None);
        let mut recorder = RECORDER.lock();
        let sender = match &*recorder {
            Some(sender) => sender.clone(),
            None => {
                let (sender, tasks) = channel::<Task>();
                let thread = std::thread::Builder::new().name("qmambaiqa-graphs".into());
                thread.spawn(move || tasks.into_iter().for_each(|task| task()))?;
                recorder.insert(sender).clone()
            }
        };
        let (answer, answers) = channel();
        let (device, shape) = (device.clone(), shape.to_vec());
        let task = Box::new(move || drop(answer.send(record(&device, &shape, &pass))));
        let recorded = sender.send(task).ok().and_then(|()| answers.recv().ok());
        let Some(recorded) = recorded else {
            *recorder = None; // the next has another
            bail!("the thread that records CUDA graphs has ended");
        };
        Ok(Self { recorded: Mutex::new(recorded?), leave: Leave::default() })
    }

    /// The results for `input`, on the CPU. For who holds [`in_use`](super::in_use).
    pub(crate) fn run(&self, input: &Tensor) -> Result<[Tensor; 2]> {
        self.recorded.lock().run(input)
    }
}

impl Recorded {
    fn run(&self, input: &Tensor) -> Result<[Tensor; 2]> {
        self.input.slice_set(input, 0, 0)?;
        self.graph.launch().w()?;
        to_cpu(&self.outputs)
    }
}

/// Both on the CPU.
pub(crate) fn to_cpu([a, b]: &[Tensor; 2]) -> Result<[Tensor; 2]> {
    Ok([a.to_device(&Device::Cpu)?, b.to_device(&Device::Cpu)?])
}

fn record(device: &Device, shape: &[usize], pass: &Pass) -> Result<Recorded> {
    let _alone = alone();
    let mut random = Random::new(1, 0);
    let noise = (0..shape.iter().product()).map(|_| (2.0 * random.uniform() - 1.0) as f32).collect::<Vec<_>>();
    let example = Tensor::from_vec(noise, shape, device)?;
    let device = device.as_cuda_device()?;
    let _kept = device.enable_cuda_graph_htod_cache();
    let input = example.copy()?;
    let [a, b] = pass(&input)?;
    let outputs = [a.copy()?, b.copy()?];
    let whole = || -> Result<()> {
        let made = pass(&input)?;
        outputs.iter().zip(&made).try_for_each(|(output, made)| output.slice_set(made, 0, 0))
    };
    // Launched before they are recorded: kernels that are loaded and what is uploaded at a first time are no part of a graph.
    whole()?;
    let expected = to_cpu(&outputs)?;
    let graph = capture(device, whole)?;
    // A graph that does nothing shall not find what was there before.
    for tensor in outputs.iter().chain([&input]) {
        tensor.slice_set(&tensor.zeros_like()?, 0, 0)?;
    }
    let recorded = Recorded { graph, input, outputs };
    for (expected, got) in expected.iter().zip(recorded.run(&example)?) {
        let [expected, got] = [expected, &got].map(|t| t.flatten_all()?.to_vec1::<f32>());
        let (expected, got) = (expected?, got?);
        let largest = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * largest; // no number is not the same
        if !expected.iter().zip(&got).all(same) {
            bail!("a CUDA graph has other results than the launches that it was recorded from");
        }
    }
    Ok(recorded)
}

/// Records what `work` launches.
fn capture(device: &CudaDevice, work: impl Fn() -> Result<()>) -> Result<CudaGraph> {
    let stream: Arc<CudaStream> = device.cuda_stream();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    // Candle panics where it cannot copy something, which is no reason to record on for ever.
    let worked = std::panic::catch_unwind(AssertUnwindSafe(work));
    let mut graph = None;
    let mut tries = 0..1000;
    loop {
        // What was freed into a recording that has failed leaves an error, and whoever comes next is told of that instead of being
        // served: the recording's end too.
        let _ = stream.context().check_err();
        graph = stream.end_capture(CUgraphInstantiate_flags(0)).ok().flatten().or(graph);
        let _ = stream.context().check_err();
        match stream.capture_status() {
            Ok(CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE) => break,
            Ok(_) if tries.next().is_some() => {}
            Ok(_) => bail!("the recording of a CUDA graph does not end"),
            Err(error) => return Err(error).w(), // the GPU is lost
        }
    }
    match (worked, graph) {
        (Ok(Ok(())), Some(graph)) => {
            graph.upload().w()?;
            Ok(graph)
        }
        (Ok(Err(error)), _) => Err(error),
        (Err(_), _) => bail!("the recording of a CUDA graph panicked"),
        (Ok(Ok(())), None) => bail!("nothing could be recorded"),
    }
}
