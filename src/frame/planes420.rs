//! A 4:2:0 frame as a GPU reads it: planes and numbers.

use super::convert::{Finish, column_weights};
use super::{Frame, Position};

/// Planes of a 4:2:0 frame, and all that makes RGB of them.
#[derive(Debug, Clone)]
pub struct Planes420<'a> {
    /// Bytes of the planes that hold Y, U and V; with interleaved chroma the last two are one.
    pub planes: [&'a [u8]; 3],
    /// Bytes from one row to the next, of luma and of chroma.
    pub strides: [usize; 2],
    /// Bytes from one chroma sample to the next.
    pub chroma_step: usize,
    /// Bytes from the start of a row to the first U and to the first V.
    pub chroma_offsets: [usize; 2],
    /// Bytes of a sample.
    pub bytes: usize,
    /// Bits that a sample is shifted up by.
    pub shift: usize,
    /// Chroma samples in a row, and rows of them.
    pub chroma_size: (usize, usize),
    /// Whether chroma lies between rows, not on every other.
    pub centred: bool,
    /// Whether rows belong to two fields in turn.
    pub interlaced: bool,
    /// Left and top of the picture within the planes.
    pub corner: (usize, usize),
    /// Black, span of luma, neutral chroma; factors of V in R, of U and V in G, of U in B; weights of the chroma columns
    /// (previous, this) of even pixels and (this, next) of odd ones.
    pub constants: ([f32; 7], [f32; 4]),
}

impl<'a> Frame<'a> {
    /// The planes of a 4:2:0 frame; `None` of other formats, of a frame whose samples are R, G, B, and where U and V have
    /// different strides.
    pub fn planes420(&self) -> Option<Planes420<'a>> {
        let layout = self.layout;
        let Finish::Matrix { black, span, neutral, rv, gu, gv, bu } = Finish::of(self) else { return None };
        let [y, u, v] = layout.components;
        let [luma, chroma, chroma_v] = [y, u, v].map(|component| self.planes[component.plane]);
        if layout.subsampling != (1, 1) || chroma.stride != chroma_v.stride {
            return None;
        }
        Some(Planes420 {
            planes: [luma.data, chroma.data, chroma_v.data],
            strides: [luma.stride, chroma.stride],
            chroma_step: u.step,
            chroma_offsets: [u.offset, v.offset],
            bytes: layout.sample.bytes,
            shift: layout.sample.shift as usize,
            chroma_size: layout.samples(1, self.coded.0, self.coded.1),
            centred: self.colour.siting.vertical == Position::Centred,
            interlaced: self.interlaced,
            corner: (self.shown.x, self.shown.y),
            constants: ([black, span, neutral, rv, gu, gv, bu], column_weights(self)),
        })
    }
}
