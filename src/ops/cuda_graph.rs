//! Forward passes recorded as CUDA graphs: launched as a whole, where launches one by one would take longer than the work.

use crate::random::Random;
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Result, Tensor, bail};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// A stream records what any thread launches on it: whoever uses a GPU shares this, a recording has it alone.
static USE: RwLock<()> = RwLock::new(());

/// Held while a GPU is used.
pub(crate) fn in_use() -> RwLockReadGuard<'static, ()> {
    USE.read()
}

/// What is to be recorded: two tensors of a shape from one of a shape.
pub(crate) type Pass = Box<dyn Fn(&Tensor) -> Result<[Tensor; 2]> + Send>;

/// A recorded pass with the memory that it reads and writes.
pub(crate) struct Graph(Mutex<Recorded>);

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
        drop(recorder);
        let (answer, answers) = channel();
        let (device, shape) = (device.clone(), shape.to_vec());
        let task = Box::new(move || drop(answer.send(record(&device, &shape, &pass))));
        let gone = |_| candle_core::Error::Msg("the thread that records CUDA graphs is gone".into());
        sender.send(task).map_err(|_| gone(()))?;
        let recorded = answers.recv().map_err(|_| gone(()))??;
        Ok(Self(Mutex::new(recorded)))
    }

    /// The results for `input`, on the CPU. For who holds [`in_use`].
    pub(crate) fn run(&self, input: &Tensor) -> Result<[Tensor; 2]> {
        self.0.lock().run(input)
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
    let _alone = USE.write();
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
    let recorded = Recorded { graph, input, outputs };
    for (expected, got) in expected.iter().zip(recorded.run(&example)?) {
        let difference = (expected - &got)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        let largest = expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        if difference.is_nan() || difference > 1e-3 * largest {
            bail!("a CUDA graph's results differ by {difference} where the largest is {largest}");
        }
    }
    Ok(recorded)
}

/// Records what `work` launches.
fn capture(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<CudaGraph> {
    let stream: Arc<CudaStream> = device.cuda_stream();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    let worked = work();
    // What was freed into a recording that has failed leaves an error, which the next call would be told of: not the recording's
    // end, without which the stream records on, nor what comes after it.
    let _ = stream.context().check_err();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).w();
    let _ = stream.context().check_err();
    worked?;
    match graph? {
        Some(graph) => {
            graph.upload().w()?;
            Ok(graph)
        }
        None => bail!("nothing was recorded"),
    }
}
