//! Programs of kernels on an NVIDIA GPU. `no_cuda.rs` has the same names for builds without feature `cuda`.

#[path = "cuda_gate.rs"]
mod gate;
#[path = "cuda_graph.rs"]
mod graph;

pub(crate) use gate::{Leave, in_use, is_in_use_here};
pub(crate) use graph::{Graph, to_cpu};

use super::kernels::{Argument, Program, Type};
use super::selective_scan::ScanOrders;
use super::timing::{self, Part, Timer};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUdeviceptr, CUevent_flags};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaModule, CudaStream, DevicePtr, SyncOnDrop};
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Device, DeviceLocation, Layout, Result, Storage, Tensor, bail};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// The kernels for every GPU there is code for.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// The driver and CUDA's libraries, in the order in which `kernels/lazy.c` numbers them, with what to do without each.
const LIBRARIES: [(&str, &str); 5] = [
    ("libcuda.so.1", "no NVIDIA driver is installed"),
    ("libcublas", "install the CUDA runtime libraries"),
    ("libcublasLt", "install the CUDA runtime libraries"),
    ("libcurand", "install the CUDA runtime libraries"),
    ("libnvrtc", "install the CUDA runtime libraries"),
];

unsafe extern "C" {
    /// Loads the driver and CUDA's libraries; 0, or the number of the first that is not there.
    safe fn qmambaiqa_load_cuda() -> i32;
}

/// The GPUs in use, with their names: one that is lost does not say its name any more.
static DEVICES: Mutex<BTreeMap<usize, (Device, Option<String>)>> = Mutex::new(BTreeMap::new());

/// The `index`-th GPU, one device for the whole process. The error is a clause for a sentence.
pub(crate) fn device(index: usize) -> std::result::Result<Device, String> {
    let mut devices = DEVICES.lock();
    if let Some((device, _)) = devices.get(&index) {
        return Ok(device.clone());
    }
    let missing = qmambaiqa_load_cuda();
    if let Some((library, advice)) = usize::try_from(missing - 1).ok().and_then(|i| LIBRARIES.get(i)) {
        return Err(format!("cannot load {library}: {advice}"));
    }
    match CudaContext::device_count() {
        Ok(count) if index < count as usize => {}
        Ok(0) => return Err("there is no GPU".into()),
        Ok(count) => return Err(format!("there are {count} GPUs, numbered from 0")),
        Err(error) => return Err(format!("the NVIDIA driver does not start: {error}")),
    }
    // One stream, so that what one thread of the process launches is done before what another launches after it.
    let device = Device::new_cuda_with_stream(index).map_err(|e| crate::error::plain(&e))?;
    if let Ok(cuda) = device.as_cuda_device() {
        // SAFETY: what events would order are several streams, and the process has this one for the device: `Device` is made
        // nowhere else. They would be waited for and recorded with each operand of each launch, and a graph cannot have them.
        unsafe { cuda.disable_event_tracking() };
    }
    let name = device.as_cuda_device().ok().and_then(|cuda| cuda.cuda_stream().context().name().ok());
    devices.insert(index, (device.clone(), name));
    Ok(device)
}

/// The name of a GPU.
pub(crate) fn name(device: &Device) -> Option<String> {
    let DeviceLocation::Cuda { gpu_id } = device.location() else { return None };
    DEVICES.lock().get(&gpu_id)?.1.clone()
}

/// How many multiprocessors the GPU has that holds `storage`.
pub(crate) fn multiprocessors(storage: &CudaStorage) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let count = storage.device().cuda_stream().context().attribute(attribute).w()?;
    Ok(count as usize)
}

/// An image's orders `(K, length)` on a GPU, there once for as long as they are in use.
pub(crate) fn orders(orders: &Arc<ScanOrders>, device: &Device) -> Result<Tensor> {
    type Kept = (Weak<ScanOrders>, Device, Tensor);
    static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
    let mut kept = KEPT.lock();
    kept.retain(|(orders, ..)| orders.strong_count() > 0);
    let same = |(of, on, _): &&Kept| std::ptr::eq(of.as_ptr(), Arc::as_ptr(orders)) && on.same_device(device);
    if let Some((_, _, tensor)) = kept.iter().find(same) {
        return Ok(tensor.clone());
    }
    let tables = orders.tables();
    let tensor = Tensor::from_vec(tables.concat(), (tables.len(), tables[0].len()), device)?;
    kept.push((Arc::downgrade(orders), device.clone(), tensor.clone()));
    Ok(tensor)
}

/// The kernels, loaded into a GPU's context once.
fn module(device: &CudaDevice) -> Result<Arc<CudaModule>> {
    static LOADED: Mutex<BTreeMap<usize, Arc<CudaModule>>> = Mutex::new(BTreeMap::new());
    let context = device.cuda_stream().context().clone();
    let mut loaded = LOADED.lock();
    if let Some(module) = loaded.get(&context.ordinal()) {
        return Ok(Arc::clone(module));
    }
    let module = context.load_module(Ptx::from_binary(IMAGE.to_vec())).w()?;
    loaded.insert(context.ordinal(), Arc::clone(&module));
    Ok(module)
}

/// Where a storage's values begin. The guard must live until the launches that use them have been issued.
fn pointer<'a>(storage: &'a CudaStorage, stream: &'a CudaStream) -> Result<(CUdeviceptr, SyncOnDrop<'a>)> {
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(stream),
        CudaStorageSlice::F16(slice) => slice.device_ptr(stream),
        CudaStorageSlice::BF16(slice) => slice.device_ptr(stream),
        CudaStorageSlice::U32(slice) => slice.device_ptr(stream),
        CudaStorageSlice::U8(slice) => slice.device_ptr(stream),
        _ => bail!("no kernels for {:?}", storage.dtype()),
    })
}

fn allocate(device: &CudaDevice, of: Type, count: usize) -> Result<CudaStorage> {
    // SAFETY: every value of a program's buffer is written by a launch before one reads it; the tests poison them.
    unsafe {
        Ok(match of {
            Type::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
            Type::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<half::f16>(count)?, device.clone()),
            Type::Bf16 => CudaStorage::wrap_cuda_slice(device.alloc::<half::bf16>(count)?, device.clone()),
        })
    }
}

/// Does something on a GPU, and waits for it where [`timing`] is on.
pub(crate) fn timed<T>(part: Part, device: &Device, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !timing::is_on() {
        return work();
    }
    device.synchronize()?;
    let _timer = Timer::of(part);
    let made = work()?;
    device.synchronize()?;
    Ok(made)
}

/// Seconds from the beginning of what `work` launches to its end.
pub(crate) fn seconds(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let stream = device.cuda_stream();
    let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w();
    let begin = event()?;
    work()?;
    let milliseconds = begin.elapsed_ms(&event()?).w()?;
    Ok(f64::from(milliseconds) / 1e3)
}

/// Runs a program and returns its first result.
pub(crate) fn run(program: &Program, operands: &[(&CudaStorage, &Layout)]) -> Result<CudaStorage> {
    let first = launch(program, operands)?.into_iter().next();
    first.ok_or_else(|| candle_core::Error::Msg(format!("{} has no result", program.operation())))
}

/// Runs a program on tensors and returns its results, each flat.
pub(crate) fn apply(program: &Program, operands: &[&Tensor]) -> Result<Vec<Tensor>> {
    let locked: Vec<_> = operands.iter().map(|operand| operand.storage_and_layout()).collect();
    let on_gpu = locked.iter().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) => Ok((storage, *layout)),
        _ => bail!("{}: an operand is not on the GPU", program.operation()),
    });
    let made = launch(program, &on_gpu.collect::<Result<Vec<_>>>()?)?;
    let results = made.into_iter().zip(program.made()).take(program.results());
    let tensor =
        |(storage, &(_, count))| Tensor::from_storage(Storage::Cuda(storage), count, BackpropOp::none(), false);
    Ok(results.map(tensor).collect())
}

/// Runs a program and returns all that it makes.
fn launch(program: &Program, operands: &[(&CudaStorage, &Layout)]) -> Result<Vec<CudaStorage>> {
    let Some((first, _)) = operands.first() else { bail!("{}: no operands", program.operation()) };
    timed(program.part(), &Device::Cuda(first.device().clone()), || launch_on(first.device(), program, operands))
}

fn launch_on(device: &CudaDevice, program: &Program, operands: &[(&CudaStorage, &Layout)]) -> Result<Vec<CudaStorage>> {
    let stream = device.cuda_stream();
    program.check(operands.iter().map(|(storage, layout)| (storage.dtype(), *layout)))?;
    let made = program.made().iter().map(|&(of, count)| allocate(device, of, count)).collect::<Result<Vec<_>>>()?;
    {
        let mut guards = Vec::new();
        let mut pointers = Vec::new();
        for (storage, offset) in
            operands.iter().map(|(s, l)| (*s, l.start_offset())).chain(made.iter().map(|storage| (storage, 0)))
        {
            let (start, guard) = pointer(storage, &stream)?;
            pointers.push(start + (offset * storage.dtype().size_in_bytes()) as CUdeviceptr);
            guards.push(guard);
        }
        let module = module(device)?;
        for launch in program.launches() {
            let function = module.load_function(&launch.kernel).w()?;
            let mut builder = stream.launch_builder(&function);
            for argument in &launch.arguments {
                match argument {
                    Argument::Buffer(buffer) => builder.arg(&pointers[buffer.index()]),
                    Argument::Int(value) => builder.arg(value),
                    Argument::Long(value) => builder.arg(value),
                };
            }
            let [x, y, z] = launch.grid;
            let block_dim = (super::kernels::LANES as u32, super::kernels::WARPS as u32, 1);
            let config = LaunchConfig { grid_dim: (x, y, z), block_dim, shared_mem_bytes: launch.shared };
            // SAFETY: number, order and kind of the arguments are the kernel's, and it stays within the buffers: the host
            // build runs the same launches under the address sanitizer. `check` has seen that operands are as described.
            unsafe { builder.launch(config) }.w()?;
        }
    }
    Ok(made)
}
