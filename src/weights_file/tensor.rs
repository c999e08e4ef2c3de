//! From bytes in a file to checked values.

use super::{RawTensor, shown};
use half::{bf16, f16};

/// More dimensions than any layer has.
const MAX_RANK: usize = 16;

/// The type of a tensor's elements in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    F16,
    BF16,
    F32,
    F64,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether tensors of this type have values.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

/// Where a tensor's elements are in its storage, in elements.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
    pub offset: usize,
}

impl View {
    /// Row-major from the storage's beginning.
    pub(super) fn contiguous(shape: Vec<usize>) -> Result<Self, String> {
        let mut stride = vec![1usize; shape.len()];
        let mut step = 1usize;
        for (stride, &n) in stride.iter_mut().zip(&shape).rev() {
            *stride = step;
            step = step.checked_mul(n).ok_or_else(|| too_large(&shape))?;
        }
        Ok(Self { shape, stride, offset: 0 })
    }

    /// Elements of the tensor; an error where a dimension is 0 or there are too many.
    pub(super) fn count(&self) -> Result<usize, String> {
        if self.shape.len() > MAX_RANK {
            return Err(format!("{} dimensions, more than {MAX_RANK}", self.shape.len()));
        }
        if self.shape.contains(&0) {
            return Err(format!("shape {:?} has a dimension of size 0", self.shape));
        }
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| too_large(&self.shape))
    }

    /// One behind the last element of the storage that the tensor uses.
    fn end(&self) -> Option<usize> {
        let mut last = self.offset;
        for (&n, &stride) in self.shape.iter().zip(&self.stride) {
            last = last.checked_add(n.checked_sub(1)?.checked_mul(stride)?)?;
        }
        last.checked_add(1)
    }
}

fn too_large(shape: &[usize]) -> String {
    format!("shape {shape:?} has more elements than fit into memory")
}

/// Reads the tensor that `view` shows of `storage`, little-endian elements of type `dtype`. Messages begin with the
/// tensor's name.
pub(super) fn decode(name: &str, dtype: Dtype, storage: &[u8], view: View) -> Result<RawTensor, String> {
    decode_unnamed(dtype, storage, view).map_err(|message| named(name, &message))
}

/// A message about the tensor `name`.
pub(super) fn named(name: &str, message: &str) -> String {
    format!("tensor {}: {message}", shown(name))
}

fn decode_unnamed(dtype: Dtype, storage: &[u8], mut view: View) -> Result<RawTensor, String> {
    let count = view.count()?;
    if view.stride.len() != view.shape.len() {
        return Err(format!("{} strides for {} dimensions", view.stride.len(), view.shape.len()));
    }
    // The stride of a single element means nothing, and may be anything.
    for (stride, _) in view.stride.iter_mut().zip(&view.shape).filter(|(_, n)| **n == 1) {
        *stride = 0;
    }
    let held = storage.len() / dtype.size();
    match view.end() {
        Some(end) if end <= held => {}
        Some(end) => return Err(format!("needs {end} elements of a storage of {held}")),
        None => return Err("its offset and strides lie outside any storage".into()),
    }
    let values = match dtype {
        Dtype::F16 => gather(storage, &view, count, |b| f64::from(f16::from_le_bytes(b))),
        Dtype::BF16 => gather(storage, &view, count, |b| f64::from(bf16::from_le_bytes(b))),
        Dtype::F32 => gather(storage, &view, count, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => gather(storage, &view, count, f64::from_le_bytes),
        _ => Ok(Vec::new()),
    };
    let values = values.map_err(|(at, value)| {
        let what = if value.is_nan() {
            "NaN".into()
        } else if value.is_infinite() {
            "infinity".into()
        } else {
            format!("{value:e}, too large for 32 bits,")
        };
        format!("{what} at index {:?}", index(&view.shape, at))
    })?;
    Ok(RawTensor { shape: view.shape, dtype, values })
}

/// The elements in row-major order, or the position and value of the first that is not a finite f32. The caller has
/// checked that the view lies within the storage.
fn gather<const N: usize>(
    storage: &[u8],
    view: &View,
    count: usize,
    number: impl Fn([u8; N]) -> f64,
) -> Result<Vec<f32>, (usize, f64)> {
    let (elements, _) = storage.as_chunks::<N>();
    let mut values = Vec::with_capacity(count);
    let mut push = |element: &[u8; N]| {
        let exact = number(*element);
        let value = exact as f32;
        let at = values.len();
        values.push(value);
        if value.is_finite() { Ok(()) } else { Err((at, exact)) }
    };
    let dense = View::contiguous(view.shape.clone()).ok();
    if dense.is_some_and(|d| d.stride.iter().zip(&view.stride).zip(&view.shape).all(|((a, b), &n)| a == b || n == 1)) {
        elements.iter().skip(view.offset).take(count).try_for_each(push)?;
        return Ok(values);
    }
    let mut index = vec![0usize; view.shape.len()];
    let mut at = view.offset;
    for _ in 0..count {
        elements.get(at).map_or(Ok(()), &mut push)?;
        for ((i, &n), &stride) in index.iter_mut().zip(&view.shape).zip(&view.stride).rev() {
            *i += 1;
            at += stride;
            if *i < n {
                break;
            }
            at -= stride * n;
            *i = 0;
        }
    }
    Ok(values)
}

/// The index of the element at position `at` in row-major order.
fn index(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let i = at % n.max(1);
            at /= n.max(1);
            i
        })
        .collect();
    index.reverse();
    index
}
