//! The GPU against the CPU: each operation, and scores of frames. Where there is no GPU they are skipped, and say why.

use candle_core::{DType, Device, Result, Tensor, Var};
use qmambaiqa::crops::{CropPlan, Crops, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane, Region};
use qmambaiqa::model::parameters::Precision;
use qmambaiqa::ops::{self, Then, selective_scan::ScanOrders};
use qmambaiqa::random::Random;
use qmambaiqa::{Options, Scorer, device};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(feature = "train")]
mod common;

/// The first GPU; `None`, with the reason printed, where none can be used. With `QMAMBAIQA_GPU` set that is a failure:
/// `tests/gpu.sh` sets it, so that nothing is called passed that was skipped.
fn gpu(test: &str) -> Option<Device> {
    let found = device::open("cuda");
    if std::env::var_os("QMAMBAIQA_GPU").is_some() {
        return Some(found.expect("a GPU that can be used"));
    }
    found.map_err(|reason| println!("skipped {test}: {reason}")).ok()
}

/// Activations' types, and what a result may differ by: in `f32` by other exponentials and orders of sums, else by up to four
/// roundings.
const TYPES: [(DType, f64); 3] = [(DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)];

struct Operands {
    random: Random,
    gpu: Device,
    of: DType,
}

impl Operands {
    /// Noise as the type holds it: for the CPU in `f32`, for the GPU in `of`.
    fn activation(&mut self, shape: &[usize]) -> Result<[Tensor; 2]> {
        let [cpu, _] = self.parameter(shape)?;
        let low = cpu.to_dtype(self.of)?;
        Ok([low.to_dtype(DType::F32)?, low.to_device(&self.gpu)?])
    }

    /// Noise in `f32` on both.
    fn parameter(&mut self, shape: &[usize]) -> Result<[Tensor; 2]> {
        let values = (0..shape.iter().product()).map(|_| (2.0 * self.random.uniform() - 1.0) as f32);
        let cpu = Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu)?;
        let gpu = cpu.to_device(&self.gpu)?;
        Ok([cpu, gpu])
    }
}

fn check(name: &str, tolerance: f64, [cpu, gpu]: [Tensor; 2]) -> Result<()> {
    let gpu = gpu.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let largest = |t: Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let error = f64::from(largest((&cpu - gpu)?)? / largest(cpu)?.max(1e-3));
    println!("{name}: {error:.1e}");
    assert!(error <= tolerance, "{name}: {error:.1e} over {tolerance:.0e}"); // false for NaN
    Ok(())
}

/// Products with what follows them.
fn products(operands: &mut Operands, name: &str, tolerance: f64, [batch, h, w, c]: [usize; 4]) -> Result<()> {
    let rows = batch * h * w;
    // A view that does not begin where its memory does, so that its packs are not aligned.
    let x = operands.activation(&[rows + 1, c])?.map(|x| x.narrow(0, 1, rows));
    let [a, b] = x;
    let x = [a?, b?];
    let maps = operands.activation(&[batch, h, w, c])?;
    for outputs in [c, c.div_ceil(8) * 8] {
        let (matrix, residual) = (operands.activation(&[outputs, c])?, operands.activation(&[rows, outputs])?);
        let (taps, bias) = (operands.activation(&[outputs, 9 * c])?, operands.activation(&[outputs])?);
        let (weight, shift) = (operands.parameter(&[outputs])?, operands.parameter(&[outputs])?);
        let then = |i: usize| {
            let norm = |gelu| Then::Norm { weight: &weight[i], bias: &shift[i], gelu };
            [Then::Nothing, Then::Gelu, Then::Add(&residual[i]), norm(false), norm(true)]
        };
        for (kind, (a, b)) in then(0).into_iter().zip(then(1)).enumerate() {
            let [a, b] = [(0, a), (1, b)].map(|(i, then)| ops::linear_then(&x[i], &matrix[i], Some(&bias[i]), then));
            check(&format!("{name} to {outputs}, then {kind}"), tolerance, [a?, b?])?;
        }
        for (kind, i) in [1, 3, 4].into_iter().enumerate() {
            let conv = |on: usize| ops::conv3x3_then(&maps[on], &taps[on], &bias[on], 2, then(on)[i]);
            check(&format!("{name}, convolution to {outputs}, then {kind}"), tolerance, [conv(0)?, conv(1)?])?;
        }
        let sums = |i: usize| ops::add_layer_norm(&residual[i], &residual[i], &weight[i], &shift[i]);
        let ((a, b), (c, d)) = (sums(0)?, sums(1)?);
        check(&format!("{name}: sum"), tolerance, [a, c])?;
        check(&format!("{name}: its norm"), tolerance, [b, d])?;
    }
    Ok(())
}

#[test]
fn operations() {
    let Some(gpu) = gpu("operations") else { return };
    let run = || -> Result<()> {
        for (of, tolerance) in TYPES {
            let mut operands = Operands { random: Random::new(1, 0), gpu: gpu.clone(), of };
            for (batch, h, w, c) in [(1, 1, 1, 1), (2, 5, 7, 33), (3, 14, 14, 96), (64, 7, 7, 64)] {
                let name = |op: &str| format!("{op} {batch}x{h}x{w}x{c} {of:?}");
                let x = operands.activation(&[batch, h, w, c])?;
                let (weight, bias) = (operands.parameter(&[c])?, operands.parameter(&[c])?);
                let [a, b] = [0, 1].map(|i| ops::layer_norm(&x[i], &weight[i], &bias[i]));
                check(&name("layer_norm"), tolerance, [a?, b?])?;
                let taps = operands.parameter(&[c, 1, 3, 3])?;
                let [a, b] = [0, 1].map(|i| ops::depthwise_conv3x3(&x[i], &taps[i], true));
                check(&name("depthwise_conv3x3"), tolerance, [a?, b?])?;
                check(&name("gelu"), tolerance, [ops::gelu(&x[0])?, ops::gelu(&x[1])?])?;
                products(&mut operands, &name("product"), tolerance, [batch, h, w, c])?;
                let tokens = x.each_ref().map(|x| x.reshape((batch, h * w, c)));
                let [x0, x1] = tokens;
                let x = [x0?, x1?];
                check(&name("mean_tokens"), tolerance, [ops::mean_tokens(&x[0])?, ops::mean_tokens(&x[1])?])?;
                for window in [0, 2] {
                    let orders = Arc::new(ScanOrders::new(h, w, NonZeroUsize::new(window)));
                    let rank = c.div_ceil(16);
                    let projections = operands.activation(&[batch, h * w, 4 * (rank + 2)])?;
                    let packed = operands.parameter(&[4, rank + 3, c])?;
                    for merge in [true, false] {
                        let scan =
                            |i: usize| ops::selective_scan(&x[i], &projections[i], &packed[i], &orders, 1, merge);
                        check(
                            &name(&format!("scan, window {window}, merge {merge}")),
                            tolerance,
                            [scan(0)?, scan(1)?],
                        )?;
                    }
                }
            }
        }
        Ok(())
    };
    run().unwrap();
}

/// The gradients of each operation, of a sum weighted by noise.
#[test]
fn gradients() {
    let Some(gpu) = gpu("gradients") else { return };
    type Operation<'a> = (&'a str, Vec<Vec<usize>>, Box<dyn Fn(&[Tensor]) -> Result<Tensor> + 'a>);
    let run = || -> Result<()> {
        for (b, h, w, c) in [(1usize, 1usize, 1usize, 1usize), (2, 5, 7, 33), (3, 14, 14, 96)] {
            let (l, rank) = (h * w, c.div_ceil(16));
            let mut operations: Vec<Operation> = vec![
                (
                    "layer_norm",
                    vec![vec![b, l, c], vec![c], vec![c]],
                    Box::new(|t| ops::layer_norm(&t[0], &t[1], &t[2])),
                ),
                ("depthwise", vec![vec![b, h, w, c], vec![c, 1, 3, 3]], {
                    Box::new(|t| ops::depthwise_conv3x3(&t[0], &t[1], true))
                }),
                ("conv3x3", vec![vec![b, h, w, c], vec![8, 9 * c], vec![8]], {
                    Box::new(|t| ops::conv3x3(&t[0], &t[1], &t[2], 2))
                }),
                ("linear", vec![vec![b, l, c], vec![9, c], vec![9]], {
                    Box::new(|t| ops::linear(&t[0], &t[1], Some(&t[2])))
                }),
                ("gelu", vec![vec![b, l, c]], Box::new(|t| ops::gelu(&t[0]))),
                ("mean_tokens", vec![vec![b, l, c]], Box::new(|t| ops::mean_tokens(&t[0]))),
                ("gated_merge", vec![vec![b, 4, l, c], vec![b, 4, c]], Box::new(|t| ops::gated_merge(&t[0], &t[1]))),
                ("modulate", vec![vec![b, l, c], vec![b, 1, c], vec![b, 1, c]], {
                    Box::new(|t| ops::modulate(&t[0], &t[1], &t[2]))
                }),
            ];
            for window in [0, 2] {
                let orders = Arc::new(ScanOrders::new(h, w, NonZeroUsize::new(window)));
                let shapes = vec![vec![b, l, c], vec![b, l, 4 * (rank + 2)], vec![4, rank + 3, c]];
                let scan = move |t: &[Tensor]| ops::selective_scan(&t[0], &t[1], &t[2], &orders, 1, window == 0);
                operations.push(("scan", shapes, Box::new(scan)));
            }
            let mut operands = Operands { random: Random::new(3, 0), gpu: gpu.clone(), of: DType::F32 };
            for (name, shapes, operation) in operations {
                let pairs = shapes.iter().map(|shape| operands.parameter(shape)).collect::<Result<Vec<_>>>()?;
                let shape = operation(&pairs.iter().map(|pair| pair[0].clone()).collect::<Vec<_>>())?;
                let weights = operands.parameter(shape.dims())?;
                let of = |i: usize| -> Result<Vec<Tensor>> {
                    let variables = pairs.iter().map(|pair| Var::from_tensor(&pair[i])).collect::<Result<Vec<_>>>()?;
                    let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
                    let store = (operation(&inputs)? * &weights[i])?.sum_all()?.backward()?;
                    inputs.iter().map(|input| Ok(store.get(input).expect("a gradient").clone())).collect()
                };
                for (i, (cpu, gpu)) in of(0)?.into_iter().zip(of(1)?).enumerate() {
                    check(&format!("gradient {i} of {name} {b}x{h}x{w}x{c}"), 1e-4, [cpu, gpu])?;
                }
            }
        }
        Ok(())
    };
    run().unwrap();
}

/// Scores of frames: the GPU in `f32` within 0.01 of the CPU in `f32`, and in half precision within 0.2, of 100.
#[test]
fn scores() {
    if gpu("scores").is_none() {
        return;
    }
    let open = |device: &str, style_prompt: &str, precision| {
        let (device, style_prompt) = (device.into(), style_prompt.into());
        Scorer::open(&Options { device, style_prompt, precision, ..Options::default() }).unwrap()
    };
    let (width, height) = (640, 360);
    let mut random = Random::new(2, 0);
    let noises = [1, 8, 32, 100, 200];
    let pictures: Vec<Vec<u8>> = noises
        .iter()
        .map(|&noise| (0..width * height * 3).map(|i| ((i / 7 % 256 + random.below(noise)) / 2) as u8).collect())
        .collect();
    let plan = CropPlan::new(5, Sampling::Grid, 0).unwrap();
    for style_prompt in ["none", "compression"] {
        let cpu = open("cpu", style_prompt, Precision::Exact);
        let [exact, half] = [Precision::Exact, Precision::Standard].map(|p| open("cuda", style_prompt, p));
        println!("{}", exact.device());
        let crops = pictures.iter().map(|picture| {
            let planes = [Plane::new(picture, width * 3)];
            let frame = Frame::new(PixelFormat::Rgb, width, height, &planes, Colour::SRGB).unwrap();
            cpu.crops(&frame, &[Region::new(0, 0, width, height)], &plan, 0).unwrap()
        });
        let crops: Vec<Crops> = crops.collect();
        let crops: Vec<&Crops> = crops.iter().collect();
        // All frames in one batch on the GPU.
        let [a, b, c] = [&cpu, &exact, &half].map(|scorer| scorer.score_batch(&crops).unwrap());
        for (noise, ((a, b), c)) in noises.iter().zip(a.iter().zip(&b).zip(&c)) {
            let [a, b, c] = [a, b, c].map(|score| score.score);
            println!("noise {noise}, style prompt {style_prompt}: CPU {a:.4}, GPU f32 {b:.4}, f16 {c:.4}");
            assert!((a - b).abs() < 0.01 && (a - c).abs() < 0.2, "{a} {b} {c}");
        }
        // Alone as in a batch, up to roundings.
        let alone = exact.score_crops(crops[1]).unwrap().score;
        assert!((alone - b[1].score).abs() < 0.01, "{alone} {}", b[1].score);
    }
}

/// Frames of 4:2:0 reach the GPU as they are, and score as the CPU scores them; together with frames that do not too.
#[test]
fn frames_of_yuv() {
    if gpu("frames_of_yuv").is_none() {
        return;
    }
    let open = |device: &str| {
        let options = Options { device: device.into(), precision: Precision::Exact, ..Options::default() };
        Scorer::open(&options).unwrap()
    };
    let (cpu, gpu) = (open("cpu"), open("cuda"));
    let mut random = Random::new(6, 0);
    let (width, height) = (640, 481);
    let bytes: Vec<u8> = (0..width * height * 3).map(|i| ((i / 5 % 256 + random.below(60)) / 2) as u8).collect();
    let (luma, chroma) = bytes.split_at(width * height);
    let planes = [Plane::new(luma, width), Plane::new(chroma, width)];
    let nv12 = Frame::new(PixelFormat::Nv12, width, height, &planes, Colour::BT601).unwrap();
    let rgb = Frame::new(PixelFormat::Rgb, width, height, &[Plane::new(&bytes, width * 3)], Colour::SRGB).unwrap();
    let plan = CropPlan::new(4, Sampling::Random, 0).unwrap().with_scales("1,2".parse().unwrap());
    let crops = |scorer: &Scorer| [&nv12, &rgb, &nv12].map(|frame| scorer.crops(frame, &[], &plan, 5).unwrap());
    let scores = |scorer: &Scorer| {
        let crops = crops(scorer);
        scorer.score_batch(&crops.each_ref()).unwrap().iter().map(|score| score.score).collect::<Vec<_>>()
    };
    assert_eq!(crops(&gpu)[0].scales(), plan.scales());
    let (on_cpu, on_gpu) = (scores(&cpu), scores(&gpu));
    println!("CPU {on_cpu:?}, GPU {on_gpu:?}");
    assert!(on_cpu.iter().zip(&on_gpu).all(|(a, b)| (a - b).abs() < 0.01), "{on_cpu:?} {on_gpu:?}");
    assert!((on_cpu[0] - on_cpu[1]).abs() > 0.1 && on_gpu[0] == on_gpu[2], "{on_cpu:?} {on_gpu:?}");
    // What was cut for a GPU the CPU scores as well, where it takes over.
    let taken_over = cpu.score_batch(&crops(&gpu).each_ref()).unwrap();
    assert!(taken_over.iter().zip(&on_cpu).all(|(a, b)| a.score == *b));
}

/// Batches that come again and again become CUDA graphs, which score as before, whatever adapter is in use. With
/// EMULATED_GPU_CAPTURES set (`tests/emulated_gpu.sh`) they cannot, and score all the same.
#[test]
fn steady_batches_become_graphs() {
    if gpu("steady_batches_become_graphs").is_none() {
        return;
    }
    let mut scorer = Scorer::open(&Options { device: "cuda".into(), ..Options::default() }).unwrap();
    let mut random = Random::new(4, 0);
    let crops = [0, 1].map(|_| (0..224 * 224 * 3).map(|_| random.uniform() as f32).collect());
    let crops = crops.map(|values| Crops::normalised(values).unwrap());
    for (graphs, style_prompt) in ["none", "compression"].into_iter().enumerate() {
        scorer.set_style_prompt(style_prompt, false).unwrap();
        let first = crops.each_ref().map(|crop| scorer.score_crops(crop).unwrap().score);
        assert_eq!(scorer.graphs().iter().sum::<usize>(), graphs, "two are not yet steady");
        for _ in 0..3 {
            let again = crops.each_ref().map(|crop| scorer.score_crops(crop).unwrap().score);
            assert!(first.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-3), "{first:?} {again:?}");
        }
        let refused = std::env::var_os("EMULATED_GPU_CAPTURES").is_some();
        assert_eq!(scorer.graphs(), if refused { [0, graphs + 1] } else { [graphs + 1, 0] }, "{style_prompt}");
        assert!((first[0] - first[1]).abs() > 1e-3, "the crops score alike: {first:?}");
    }
}

/// What is freed by other threads leaves a recording alone. (`tests/emulated_gpu.sh` has recordings take long enough to meet it.)
#[test]
fn recordings_are_not_disturbed() {
    if gpu("recordings_are_not_disturbed").is_none() {
        return;
    }
    let adapter = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/compression.safetensors");
    if !std::path::Path::new(adapter).exists() {
        println!("skipped recordings_are_not_disturbed: no {adapter} here");
        return;
    }
    let open = |precision| Scorer::open(&Options { device: "cuda".into(), precision, ..Options::default() }).unwrap();
    let scorer = open(Precision::Standard);
    let crop = Crops::normalised(vec![0.5; 224 * 224 * 3]).unwrap();
    // Each with an adapter of its own on the GPU.
    let exact = open(Precision::Exact);
    let others: Vec<Scorer> = (0..300)
        .map(|_| {
            let mut other = exact.clone();
            other.set_style_prompt(adapter, false).unwrap();
            other
        })
        .collect();
    for _ in 0..3 {
        scorer.score_crops(&crop).unwrap();
    }
    let recorded = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for other in others {
                drop(other);
                if !recorded.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        scorer.score_crops(&crop).unwrap();
        recorded.store(true, Ordering::SeqCst);
    });
    assert_eq!(scorer.graphs(), [1, 0]);
}

/// The device `auto` is the GPU, since it scores as the CPU does.
#[test]
fn auto_takes_the_gpu() {
    if gpu("auto_takes_the_gpu").is_none() {
        return;
    }
    let scorer = Scorer::open(&Options::default()).unwrap();
    assert_eq!(scorer.notice(), None);
    assert!(scorer.device().starts_with("cuda:0"), "{}", scorer.device());
}

/// A short run of qmamba-nano on a folder's pictures.
#[cfg(feature = "train")]
fn short_run(folder: &std::path::Path) -> qmambaiqa::train::Settings {
    use qmambaiqa::train::{Phase, Settings, SplitBy};
    common::make_data(folder);
    Settings {
        data: vec![folder.to_owned()],
        phases: vec![Phase { crop: 32, epochs: 1 }],
        batch: 30,
        learning_rate: 1e-3,
        decay_every: None,
        warmup: 1,
        average: 0.0,
        validation: 0.0,
        split: SplitBy::Random,
        ..Settings::default()
    }
}

/// One step of training, of every kind: the weights that come of it are the CPU's.
#[cfg(feature = "train")]
#[test]
fn a_step_of_training() {
    use qmambaiqa::model::AdapterConfig;
    use qmambaiqa::train::{Autocast, Optimizer, Settings, train_on};
    let Some(gpu) = gpu("a_step_of_training") else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = short_run(folder.path());
    let local = Settings { model: "lqmamba-t".into(), ..settings.clone() };
    let start = Some("qmamba-nano".into());
    let tuned = Settings { start, tuning: Some(AdapterConfig::default()), ..settings.clone() };
    let muon = Settings { optimizer: Optimizer::Muon, ..settings.clone() };
    let bf16 = |settings: &Settings| Settings { autocast: Autocast::Bf16, ..settings.clone() };
    // Of the loss, relative; of weights that must agree.
    for (name, settings, tolerance, share) in [
        ("qmamba-nano", &settings, 1e-4, 0.99),
        ("lqmamba-t", &local, 1e-4, 0.99),
        ("style prompt", &tuned, 1e-4, 0.99),
        ("Muon", &muon, 1e-4, 0.99),
        ("qmamba-nano in bf16", &bf16(&settings), 2e-3, 0.95),
        ("style prompt in bf16", &bf16(&tuned), 2e-3, 0.95),
    ] {
        let losses = [("cpu", &Device::Cpu), ("gpu", &gpu)].map(|(on, device)| {
            let out = folder.path().join(format!("{name} {on}.safetensors"));
            train_on(device, settings, &out, 2, &|_| {}).unwrap();
            let log = std::fs::read_to_string(folder.path().join(format!("{name} {on}.safetensors.log.csv"))).unwrap();
            let row = log.lines().nth(1).unwrap().split(',').nth(4).unwrap().parse::<f64>().unwrap();
            let tensors = qmambaiqa::weights_file::read(&out).unwrap().tensors;
            (row, tensors)
        });
        let [(cpu_loss, cpu), (gpu_loss, gpu)] = losses;
        println!("{name}: loss {cpu_loss} on the CPU, {gpu_loss} on the GPU");
        assert!((cpu_loss - gpu_loss).abs() <= tolerance * cpu_loss.abs(), "{name}: {cpu_loss} {gpu_loss}");
        // Adam's first step is the rate times the gradient's sign, so equal weights are equal signs; where a gradient is as
        // good as zero its sign is chance.
        let (mut same, mut all) = (0usize, 0usize);
        for (name, tensor) in &cpu {
            let other = &gpu[name];
            same += tensor.values.iter().zip(&other.values).filter(|(a, b)| (*a - *b).abs() < 2e-4).count();
            all += tensor.values.len();
        }
        println!("{name}: {same} of {all} weights agree after a step");
        assert!(same as f64 >= share * all as f64, "{name}: {same} of {all}");
    }
}

/// A run that stopped on a GPU goes on from its checkpoint, there and on the CPU; what is held out, pictures of two sizes, is validated as
/// on the CPU.
#[cfg(feature = "train")]
#[test]
fn a_run_goes_on() {
    use qmambaiqa::train::{Optimizer, Phase, Progress, Settings, train_on};
    use std::fs;
    let Some(gpu) = gpu("a_run_goes_on") else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        optimizer: Optimizer::Muon,
        validation: 0.4,
        phases: vec![Phase { crop: 32, epochs: 2 }],
        average: 0.5,
        ..short_run(folder.path())
    };
    for i in 1..=10 {
        image::RgbImage::from_pixel(36, 40 + i, image::Rgb([20 * i as u8; 3]))
            .save(folder.path().join(format!("p{}.png", 3 * i)))
            .unwrap();
    }
    let path = |name: &str| folder.path().join(name);
    // The first epoch's checkpoint is there when the second one's step is told.
    let keep = |progress| {
        if let Progress::Step(2, 2, _) = progress {
            for name in ["again", "cpu again"] {
                fs::copy(path("gpu.checkpoint"), path(&format!("{name}.checkpoint"))).unwrap();
            }
        }
    };
    train_on(&gpu, &settings, &path("gpu"), 2, &keep).unwrap();
    let ignore = |_| {};
    train_on(&gpu, &settings, &path("again"), 2, &ignore).unwrap();
    train_on(&Device::Cpu, &settings, &path("cpu again"), 2, &ignore).unwrap();
    train_on(&Device::Cpu, &settings, &path("cpu"), 2, &ignore).unwrap();
    let values = |name: &str| -> Vec<f32> {
        let tensors = qmambaiqa::weights_file::read(&path(&format!("{name}.checkpoint"))).unwrap().tensors;
        tensors.into_values().flat_map(|tensor| tensor.values).collect()
    };
    let whole = values("gpu");
    for other in ["again", "cpu again", "cpu"] {
        let other_values = values(other);
        assert_eq!(other_values.len(), whole.len());
        let same = whole.iter().zip(&other_values).filter(|(a, b)| (*a - *b).abs() <= 2e-4).count();
        println!("{other}: {same} of {} values of the checkpoint agree", whole.len());
        assert!(same as f64 >= 0.99 * whole.len() as f64, "{other}");
    }
    // SRCC of the first epoch, by networks that a step has been made of.
    let srcc = |name: &str| -> f64 {
        let log = fs::read_to_string(path(&format!("{name}.log.csv"))).unwrap();
        log.lines().nth(1).unwrap().split(',').nth(8).unwrap().parse().unwrap()
    };
    println!("SRCC {} on the GPU, {} on the CPU", srcc("gpu"), srcc("cpu"));
    assert!((srcc("gpu") - srcc("cpu")).abs() < 0.1 && srcc("cpu").abs() > 0.0);
}
