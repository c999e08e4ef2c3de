//! What the samples of a picture mean: matrix, range, and where subsampled chroma lies.

/// Which combination of R, G and B luma and chroma are. RGB formats have none, whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// None: a YUV format of this matrix holds G, B and R in Y, U and V (ITU-T H.273, MatrixCoefficients 0).
    Rgb,
    /// ITU-R BT.601: standard definition, JPEG.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance: ultra high definition.
    Bt2020,
    /// SMPTE 240M: early high definition.
    Smpte240m,
    /// FCC 47 CFR 73.682.
    Fcc,
}

impl Matrix {
    /// Kr and Kb of `Y = Kr R + (1 - Kr - Kb) G + Kb B`; `None` for [`Matrix::Rgb`].
    pub(super) fn weights(self) -> Option<(f64, f64)> {
        match self {
            Self::Rgb => None,
            Self::Bt601 => Some((0.299, 0.114)),
            Self::Bt709 => Some((0.2126, 0.0722)),
            Self::Bt2020 => Some((0.2627, 0.0593)),
            Self::Smpte240m => Some((0.212, 0.087)),
            Self::Fcc => Some((0.30, 0.11)),
        }
    }
}

/// Which sample values are black and white, at 8 bits; scaled up by powers of two for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// 16 to 235; chroma 16 to 240.
    Limited,
    /// Every value: 0 to 2^depth - 1.
    Full,
}

/// How one subsampled direction of chroma lies on luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// On the first of the two luma samples.
    Cosited,
    /// Half way between the two.
    Centred,
}

/// Where chroma samples lie, in each direction that is subsampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChromaSite {
    pub horizontal: Position,
    pub vertical: Position,
}

impl ChromaSite {
    /// Beside the left luma sample, between two rows: MPEG-2, H.264 and H.265 unless they say otherwise.
    pub const MPEG2: Self = Self { horizontal: Position::Cosited, vertical: Position::Centred };
    /// Amid four luma samples: JPEG, MPEG-1.
    pub const JPEG: Self = Self { horizontal: Position::Centred, vertical: Position::Centred };
    /// On the top left luma sample: BT.2020 and Blu-ray in ultra high definition.
    pub const COSITED: Self = Self { horizontal: Position::Cosited, vertical: Position::Cosited };
}

/// What the samples of a picture mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colour {
    pub matrix: Matrix,
    pub range: Range,
    pub siting: ChromaSite,
}

impl Colour {
    /// Standard definition television and its files.
    pub const BT601: Self = Self::new(Matrix::Bt601, Range::Limited, ChromaSite::MPEG2);
    /// High definition television and its files.
    pub const BT709: Self = Self::new(Matrix::Bt709, Range::Limited, ChromaSite::MPEG2);
    /// JPEG, motion JPEG.
    pub const JPEG: Self = Self::new(Matrix::Bt601, Range::Full, ChromaSite::JPEG);
    /// Computer graphics: RGB of full range.
    pub const SRGB: Self = Self::new(Matrix::Rgb, Range::Full, ChromaSite::COSITED);

    /// The three together.
    pub const fn new(matrix: Matrix, range: Range, siting: ChromaSite) -> Self {
        Self { matrix, range, siting }
    }
}
