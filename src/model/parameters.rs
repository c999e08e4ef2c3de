//! Where a network's tensors come from: a checkpoint, a random start, or nowhere when only their shapes are asked for.
//!
//! The networks are built by asking a [`Source`] for each tensor by its checkpoint name, so that names and shapes are
//! stated once, where the tensor is used.

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// How a tensor starts where training starts from nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal, with this standard deviation.
    Normal(f64),
    /// Uniform on `[-limit, limit]`.
    Uniform(f64),
    /// `softplus` of it is spread log-uniformly over 0.001..0.1: the scan's step sizes (Mamba).
    StepBias,
}

/// What a network computes its products with. On a GPU: [`Exact`](Self::Exact) with 32-bit floats, the others with 16-bit floats
/// (`f16`), activations too, and 32-bit floats inside of what is not a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats, with gradients.
    #[default]
    Exact,
    /// For inference: 16-bit integers with a scale for each few values, twice as fast where the CPU is made for it. Errors are
    /// a twentieth of bfloat16's.
    Standard,
    /// The same with 8-bit integers.
    Fast,
}

impl Precision {
    /// Every one there is.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Standard, Self::Fast];

    /// Its name in settings.
    pub fn nick(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Standard => "standard",
            Self::Fast => "fast",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = crate::Error;

    fn from_str(nick: &str) -> crate::Result<Self> {
        Self::ALL.into_iter().find(|precision| precision.nick() == nick).ok_or_else(|| {
            let nicks = Self::ALL.map(Self::nick).join(", ");
            crate::Error::Input(format!("no precision {nick:?}; there are {nicks}"))
        })
    }
}

/// Gives tensors by name.
pub trait Source {
    /// The tensor `name`, which must have `shape`.
    ///
    /// # Errors
    /// It is missing or shaped otherwise.
    fn tensor(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor>;

    /// Whether gradients will be asked for. Where not, what is derived from weights is computed once.
    fn trainable(&self) -> bool {
        false
    }

    /// What products are to be computed with. Only [`Precision::Exact`] has gradients.
    fn precision(&self) -> Precision {
        Precision::Exact
    }

    /// The type of activations and of products' weights, with [`Precision::Exact`]; the head computes with `f32` all the same.
    fn activations(&self) -> DType {
        DType::F32
    }
}

/// A source together with the part of the network that asks.
pub struct Scope<'a> {
    source: &'a mut dyn Source,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The whole network's scope.
    pub fn new(source: &'a mut dyn Source) -> Self {
        Self { source, prefix: String::new() }
    }

    /// The scope of a part: names get `part.` in front.
    pub fn pp(&mut self, part: impl std::fmt::Display) -> Scope<'_> {
        Scope { prefix: format!("{}{part}.", self.prefix), source: &mut *self.source }
    }

    /// The same scope, for a part whose names stand beside this one's.
    pub fn reborrow(&mut self) -> Scope<'_> {
        Scope { prefix: self.prefix.clone(), source: &mut *self.source }
    }

    /// See [`Source::tensor`].
    pub fn get(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        self.source.tensor(&format!("{}{name}", self.prefix), shape, init)
    }

    /// See [`Source::trainable`].
    pub fn trainable(&self) -> bool {
        self.source.trainable()
    }

    /// See [`Source::precision`].
    pub fn precision(&self) -> Precision {
        self.source.precision()
    }

    /// See [`Source::activations`].
    pub fn activations(&self) -> DType {
        self.source.activations()
    }

    /// A tensor that products are made with, in the activations' type; as it is where it will change, since products round it
    /// when they are made.
    pub fn factor(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let tensor = self.get(name, shape, init)?;
        if self.trainable() {
            return Ok(tensor);
        }
        let dtype = self.activations();
        let most = if dtype == DType::F16 { f64::from(half::f16::MAX) } else { f64::INFINITY };
        if most.is_finite() && f64::from(tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?) > most {
            bail!("tensor `{name}` has values beyond half precision: take precision=exact, or the device `cpu`");
        }
        tensor.to_dtype(dtype)
    }
}

/// Tensors that have been loaded; what is left when the network has been built is unknown to it.
#[derive(Debug)]
pub struct Loaded {
    /// The tensors by checkpoint name.
    pub tensors: BTreeMap<String, Tensor>,
    /// What the network shall compute with.
    pub precision: Precision,
    /// Where the network shall run.
    pub device: Device,
    /// See [`Source::activations`].
    pub activations: DType,
}

impl Default for Loaded {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), precision: Precision::default(), device: Device::Cpu, activations: DType::F32 }
    }
}

impl Source for Loaded {
    fn tensor(&mut self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        let Some(tensor) = self.tensors.remove(name) else { bail!("tensor `{name}` is missing") };
        if tensor.dims() != shape {
            bail!("tensor `{name}` has shape {:?}, expected {shape:?}", tensor.dims());
        }
        tensor.to_device(&self.device)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn activations(&self) -> DType {
        self.activations
    }
}

/// Names and shapes only; the tensors given are zeros that take no memory.
#[derive(Debug, Default)]
pub struct Shapes {
    /// Every tensor asked for, in the network's order.
    pub shapes: Vec<(String, Vec<usize>)>,
}

impl Shapes {
    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

impl Source for Shapes {
    fn tensor(&mut self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        self.shapes.push((name.to_owned(), shape.to_vec()));
        Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?.broadcast_as(shape)
    }

    fn trainable(&self) -> bool {
        true // nothing is to be derived from these
    }
}

/// Variables to train: given ones, and random ones for the rest.
#[derive(Debug)]
pub struct Trainable {
    seed: u64,
    device: Device,
    given: BTreeMap<String, Tensor>,
    /// See [`Source::activations`]; the variables are `f32`.
    pub activations: DType,
    /// Every variable of the network by name, in the network's order.
    pub variables: Vec<(String, Var)>,
}

impl Trainable {
    /// Starts on `device` from `given`, and from `seed` where a name is not in it.
    pub fn new(seed: u64, given: BTreeMap<String, Tensor>, device: &Device) -> Self {
        Self { seed, device: device.clone(), given, activations: DType::F32, variables: Vec::new() }
    }

    /// Given tensors that no part of the network has asked for.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }
}

impl Source for Trainable {
    fn tensor(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let start = match self.given.remove(name) {
            Some(tensor) if tensor.dims() == shape => tensor,
            Some(tensor) => bail!("tensor `{name}` has shape {:?}, expected {shape:?}", tensor.dims()),
            None => random(init, shape, self.seed, name)?,
        };
        let variable = Var::from_tensor(&start.to_device(&self.device)?)?;
        let tensor = variable.as_tensor().clone();
        self.variables.push((name.to_owned(), variable));
        Ok(tensor)
    }

    fn trainable(&self) -> bool {
        true
    }

    fn activations(&self) -> DType {
        self.activations
    }
}

/// A start that depends on the seed and the tensor's name only, not on what was drawn before.
fn random(init: Init, shape: &[usize], seed: u64, name: &str) -> Result<Tensor> {
    let n = shape.iter().product();
    let name_hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mut random = crate::random::Random::new(seed, name_hash);
    let values: Vec<f32> = match init {
        Init::Zeros => vec![0.0; n],
        Init::Ones => vec![1.0; n],
        Init::Normal(deviation) => (0..n).map(|_| (random.normal() * deviation) as f32).collect(),
        Init::Uniform(limit) => (0..n).map(|_| ((2.0 * random.uniform() - 1.0) * limit) as f32).collect(),
        Init::StepBias => (0..n)
            .map(|_| {
                let (low, high) = (1e-3f64.ln(), 1e-1f64.ln());
                let step = (low + random.uniform() * (high - low)).exp();
                (step + (-(-step).exp_m1()).ln()) as f32 // softplus of it is `step`
            })
            .collect(),
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}
