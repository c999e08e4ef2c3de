//! What a GPU is asked to do, as data: for each operation a [`Program`] of kernel launches, which follows from shapes alone.
//!
//! The kernels are `kernels/*.cu`. A program names no device: a GPU runs it with feature `cuda`, and a host build of the
//! same kernels runs it in the tests, so that sizes of grids and order of arguments are tested where there is no GPU.

pub mod crops;
pub mod layers;
pub mod scan;

use super::timing::Part;
use candle_core::{DType, Layout, Result, bail};

/// Threads of a warp, and channels of a block where lanes are channels: `LANES` in `kernels/common.cuh`.
pub const LANES: usize = 32;
/// Warps of a block: `WARPS` in `kernels/common.cuh`.
pub const WARPS: usize = 8;
/// Shared memory that every GPU gives a block without being asked, in bytes.
const SHARED: usize = 48 << 10;

/// What activations are in device memory; kernels compute with `f32` all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16: the exponent of `f32`, 8 bits of precision.
    Bf16,
}

impl Type {
    /// Every type there is.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The ending of kernels for this type.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

impl TryFrom<DType> for Type {
    type Error = candle_core::Error;

    fn try_from(dtype: DType) -> Result<Self> {
        Ok(match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::Bf16,
            _ => bail!("no kernels for {dtype:?}; there are some for f32, f16, bf16"),
        })
    }
}

/// A program's buffer: an input, a result, or room for what stands between launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer(usize);

impl Buffer {
    /// Inputs come first, in their order, then results, then the rest.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a kernel is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to a buffer.
    Buffer(Buffer),
    /// `int`
    Int(i32),
    /// `long long`
    Long(i64),
}

impl From<Buffer> for Argument {
    fn from(buffer: Buffer) -> Self {
        Self::Buffer(buffer)
    }
}

/// One launch; every block has [`LANES`] by [`WARPS`] threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name in the image.
    pub kernel: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// In the order of the kernel's signature.
    pub arguments: Vec<Argument>,
}

/// Launches one after the other, and the buffers they work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    operation: &'static str,
    /// Types of the inputs; none where it is bytes or indices.
    inputs: Vec<Option<Type>>,
    results: usize,
    made: Vec<(Type, usize)>,
    launches: Vec<Launch>,
}

impl Program {
    /// An empty program of inputs of these types.
    fn new<const N: usize>(operation: &'static str, inputs: [Option<Type>; N]) -> (Self, [Buffer; N]) {
        let program = Self { operation, inputs: inputs.into(), results: 0, made: Vec::new(), launches: Vec::new() };
        (program, std::array::from_fn(Buffer))
    }

    /// What the program computes, for messages.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What kind of work it is.
    pub fn part(&self) -> Part {
        const KINDS: [(&str, Part); 6] = [
            ("norm", Part::Norm),
            ("selective_scan", Part::Scan),
            ("depthwise", Part::DepthwiseConv),
            ("conv3x3", Part::Patches),
            ("lu", Part::Activation), // gelu, silu
            ("finish_product", Part::Activation),
        ];
        let kind = KINDS.iter().find(|(name, _)| self.operation.contains(name));
        kind.map_or(Part::Rest, |&(_, part)| part)
    }

    /// Buffers that are given.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Refuses operands of other types than the kernels read, and such as do not lie in one piece.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn check<'a>(&self, operands: impl ExactSizeIterator<Item = (DType, &'a Layout)>) -> Result<()> {
        let operation = self.operation;
        if operands.len() != self.inputs.len() {
            bail!("{operation}: {} operands, expected {}", operands.len(), self.inputs.len());
        }
        for ((dtype, layout), of) in operands.zip(&self.inputs) {
            if layout.contiguous_offsets().is_none() {
                bail!("{operation}: operand of shape {:?} is not contiguous", layout.shape());
            }
            if let Some(of) = of
                && Type::try_from(dtype)? != *of
            {
                bail!("{operation}: operand of shape {:?} is {dtype:?}, expected {}", layout.shape(), of.suffix());
            }
        }
        Ok(())
    }

    /// Type and number of values of each buffer that the program makes, in order; the first [`results`](Self::results) are
    /// its results. Their contents before the first launch do not matter.
    pub fn made(&self) -> &[(Type, usize)] {
        &self.made
    }

    /// How many results there are.
    pub fn results(&self) -> usize {
        self.results
    }

    /// What to launch, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// A result; before any [`room`](Self::room).
    fn result(&mut self, of: Type, count: usize) -> Buffer {
        self.results += 1;
        self.room(of, count)
    }

    /// A buffer for what stands between launches.
    fn room(&mut self, of: Type, count: usize) -> Buffer {
        self.made.push((of, count));
        Buffer(self.inputs.len() + self.made.len() - 1)
    }

    fn launch(
        &mut self,
        kernel: impl Into<String>,
        grid: [usize; 3],
        shared: usize,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Result<()> {
        let operation = self.operation;
        if grid[0] > i32::MAX as usize || grid[1].max(grid[2]) > usize::from(u16::MAX) {
            bail!("{operation}: {grid:?} blocks are more than a GPU starts at once; give it a smaller batch");
        }
        if shared > SHARED {
            bail!("{operation}: a block would need {shared} bytes of shared memory, over {SHARED}");
        }
        self.launches.push(Launch {
            kernel: kernel.into(),
            grid: grid.map(|blocks| blocks as u32),
            shared: shared as u32,
            arguments: arguments.into_iter().collect(),
        });
        Ok(())
    }

    /// A size as a kernel's `int`.
    fn int(&self, size: usize) -> Result<Argument> {
        match i32::try_from(size) {
            Ok(size) => Ok(Argument::Int(size)),
            Err(_) => bail!("{}: size {size} is over 2^31; give it a smaller batch", self.operation),
        }
    }

    /// A number of values as a kernel's `long long`, which it counts places in with 32 bits.
    fn short(&self, count: usize) -> Result<Argument> {
        match u32::try_from(count) {
            Ok(count) => Ok(Argument::Long(count.into())),
            Err(_) => bail!("{}: {count} values are over 2^32; give it a smaller batch", self.operation),
        }
    }

    /// Adds up `rows` rows of `columns` partial sums.
    fn sum_rows(&mut self, partial: Buffer, sums: Buffer, rows: usize, columns: usize) -> Result<()> {
        let arguments = [partial.into(), sums.into(), self.int(rows)?, self.int(columns)?];
        self.launch("sum_rows", [columns.div_ceil(LANES * WARPS), 1, 1], 0, arguments)
    }
}

/// The kernel of a type.
fn typed(kernel: &str, of: Type) -> String {
    format!("{kernel}_{}", of.suffix())
}
