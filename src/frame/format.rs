//! Pixel formats as data: where each component's samples lie. One table row a format, no code of its own for any.

use crate::{Error, Result};

/// Where the samples of one component lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    /// Index of the plane.
    pub plane: usize,
    /// Bytes from the start of a row to the first sample.
    pub offset: usize,
    /// Bytes from one sample to the next.
    pub step: usize,
}

/// What the components mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Gray,
    Rgb,
    Yuv,
}

/// How samples are stored: `value = stored >> shift`, of `depth` bits. Two bytes are little-endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub bytes: usize,
    pub depth: u32,
    pub shift: u32,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Layout {
    pub family: Family,
    /// R, G, B or Y, U, V; gray has Y thrice.
    pub components: [Component; 3],
    pub sample: Sample,
    /// log2 of luma samples to one chroma sample (components 1 and 2): horizontally, vertically.
    pub subsampling: (u32, u32),
}

impl Layout {
    /// Planes that hold colour. A plane of alpha comes after them and is never looked at.
    pub fn planes(&self) -> usize {
        self.components.iter().map(|c| c.plane + 1).max().unwrap_or(0)
    }

    /// Samples of `component` (columns, rows) in a picture of `width` x `height`.
    pub fn samples(&self, component: usize, width: usize, height: usize) -> (usize, usize) {
        let (h, v) = if component == 0 { (0, 0) } else { self.subsampling };
        (width.div_ceil(1 << h), height.div_ceil(1 << v))
    }

    /// Least bytes in a row, and rows, of `plane`; `None` where the numbers overflow.
    pub fn plane_size(&self, plane: usize, width: usize, height: usize) -> Option<(usize, usize)> {
        let mut size = (0, 0);
        for (index, component) in self.components.iter().enumerate().filter(|(_, c)| c.plane == plane) {
            let (columns, rows) = self.samples(index, width, height);
            let last = columns.checked_sub(1)?.checked_mul(component.step)?;
            let bytes = last.checked_add(component.offset + self.sample.bytes)?;
            size = (size.0.max(bytes), size.1.max(rows));
        }
        Some(size)
    }
}

const B8: Sample = Sample { bytes: 1, depth: 8, shift: 0 };
const B10: Sample = Sample { bytes: 2, depth: 10, shift: 0 };
const B10_HIGH: Sample = Sample { bytes: 2, depth: 10, shift: 6 };
const B12: Sample = Sample { bytes: 2, depth: 12, shift: 0 };
const B12_HIGH: Sample = Sample { bytes: 2, depth: 12, shift: 4 };
const B16: Sample = Sample { bytes: 2, depth: 16, shift: 0 };

const S420: (u32, u32) = (1, 1);
const S422: (u32, u32) = (1, 0);
const S444: (u32, u32) = (0, 0);

const fn component(plane: usize, offset: usize, step: usize) -> Component {
    Component { plane, offset, step }
}

/// One plane a component: `planes` are those of Y, U, V or of R, G, B.
const fn planar(family: Family, sample: Sample, subsampling: (u32, u32), planes: [usize; 3]) -> Layout {
    let s = sample.bytes;
    let components = [component(planes[0], 0, s), component(planes[1], 0, s), component(planes[2], 0, s)];
    Layout { family, components, sample, subsampling }
}

/// A plane of luma and a plane of chroma pairs, in which U is at place `u` (0 or 1) and V at the other.
const fn semi_planar(sample: Sample, subsampling: (u32, u32), u: usize) -> Layout {
    let s = sample.bytes;
    let components = [component(0, 0, s), component(1, u * s, 2 * s), component(1, (1 - u) * s, 2 * s)];
    Layout { family: Family::Yuv, components, sample, subsampling }
}

/// Pairs of pixels in four samples: places of the first Y, of U and of V. The second Y is two after the first.
const fn packed_422(sample: Sample, places: [usize; 3]) -> Layout {
    let s = sample.bytes;
    let components =
        [component(0, places[0] * s, 2 * s), component(0, places[1] * s, 4 * s), component(0, places[2] * s, 4 * s)];
    Layout { family: Family::Yuv, components, sample, subsampling: S422 }
}

/// Pixels of `step` bytes: places of R, G, B or of Y, U, V.
const fn packed(family: Family, step: usize, places: [usize; 3]) -> Layout {
    let components = [component(0, places[0], step), component(0, places[1], step), component(0, places[2], step)];
    Layout { family, components, sample: B8, subsampling: S444 }
}

macro_rules! formats {
    ($($variant:ident = $name:literal: $layout:expr, $what:literal;)*) => {
        /// How a picture lies in memory: GStreamer's `GstVideoFormat`, same names and order of planes. Alpha is ignored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum PixelFormat {
            $(#[doc = $what] $variant,)*
        }

        impl PixelFormat {
            /// Every format there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// GStreamer's name, as it stands in caps.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub(super) fn layout(self) -> &'static Layout {
                match self {
                    $(Self::$variant => const { &$layout },)*
                }
            }
        }
    };
}

use Family::{Gray, Rgb, Yuv};

formats! {
    I420 = "I420": planar(Yuv, B8, S420, [0, 1, 2]), "4:2:0, planes Y U V";
    Yv12 = "YV12": planar(Yuv, B8, S420, [0, 2, 1]), "4:2:0, planes Y V U";
    Nv12 = "NV12": semi_planar(B8, S420, 0), "4:2:0, planes Y and UV";
    Nv21 = "NV21": semi_planar(B8, S420, 1), "4:2:0, planes Y and VU";
    Nv16 = "NV16": semi_planar(B8, S422, 0), "4:2:2, planes Y and UV";
    Nv61 = "NV61": semi_planar(B8, S422, 1), "4:2:2, planes Y and VU";
    Nv24 = "NV24": semi_planar(B8, S444, 0), "4:4:4, planes Y and UV";
    A420 = "A420": planar(Yuv, B8, S420, [0, 1, 2]), "4:2:0, planes Y U V A";
    Y42b = "Y42B": planar(Yuv, B8, S422, [0, 1, 2]), "4:2:2, planes Y U V";
    Y444 = "Y444": planar(Yuv, B8, S444, [0, 1, 2]), "4:4:4, planes Y U V";
    Yuy2 = "YUY2": packed_422(B8, [0, 1, 3]), "4:2:2, Y U Y V";
    Uyvy = "UYVY": packed_422(B8, [1, 0, 2]), "4:2:2, U Y V Y";
    Yvyu = "YVYU": packed_422(B8, [0, 3, 1]), "4:2:2, Y V Y U";
    Vyuy = "VYUY": packed_422(B8, [1, 2, 0]), "4:2:2, V Y U Y";
    Ayuv = "AYUV": packed(Yuv, 4, [1, 2, 3]), "4:4:4, A Y U V";
    Vuya = "VUYA": packed(Yuv, 4, [2, 1, 0]), "4:4:4, V U Y A";
    I42010le = "I420_10LE": planar(Yuv, B10, S420, [0, 1, 2]), "4:2:0, 10 bits, planes Y U V";
    I42210le = "I422_10LE": planar(Yuv, B10, S422, [0, 1, 2]), "4:2:2, 10 bits, planes Y U V";
    Y44410le = "Y444_10LE": planar(Yuv, B10, S444, [0, 1, 2]), "4:4:4, 10 bits, planes Y U V";
    I42012le = "I420_12LE": planar(Yuv, B12, S420, [0, 1, 2]), "4:2:0, 12 bits, planes Y U V";
    I42212le = "I422_12LE": planar(Yuv, B12, S422, [0, 1, 2]), "4:2:2, 12 bits, planes Y U V";
    Y44412le = "Y444_12LE": planar(Yuv, B12, S444, [0, 1, 2]), "4:4:4, 12 bits, planes Y U V";
    P01010le = "P010_10LE": semi_planar(B10_HIGH, S420, 0), "4:2:0, 10 high bits of 16, planes Y and UV";
    P012Le = "P012_LE": semi_planar(B12_HIGH, S420, 0), "4:2:0, 12 high bits of 16, planes Y and UV";
    P016Le = "P016_LE": semi_planar(B16, S420, 0), "4:2:0, 16 bits, planes Y and UV";
    Y210 = "Y210": packed_422(B10_HIGH, [0, 1, 3]), "4:2:2, 10 high bits of 16, Y U Y V";
    Gray8 = "GRAY8": planar(Gray, B8, S444, [0, 0, 0]), "Luma alone";
    Gray16Le = "GRAY16_LE": planar(Gray, B16, S444, [0, 0, 0]), "Luma alone, 16 bits";
    Rgb = "RGB": packed(Rgb, 3, [0, 1, 2]), "R G B";
    Bgr = "BGR": packed(Rgb, 3, [2, 1, 0]), "B G R";
    Rgba = "RGBA": packed(Rgb, 4, [0, 1, 2]), "R G B A";
    Bgra = "BGRA": packed(Rgb, 4, [2, 1, 0]), "B G R A";
    Argb = "ARGB": packed(Rgb, 4, [1, 2, 3]), "A R G B";
    Abgr = "ABGR": packed(Rgb, 4, [3, 2, 1]), "A B G R";
    Rgbx = "RGBx": packed(Rgb, 4, [0, 1, 2]), "R G B and a byte of padding";
    Bgrx = "BGRx": packed(Rgb, 4, [2, 1, 0]), "B G R and a byte of padding";
    Xrgb = "xRGB": packed(Rgb, 4, [1, 2, 3]), "A byte of padding, R G B";
    Xbgr = "xBGR": packed(Rgb, 4, [3, 2, 1]), "A byte of padding, B G R";
    Gbr = "GBR": planar(Rgb, B8, S444, [2, 0, 1]), "Planes G B R";
    Gbra = "GBRA": planar(Rgb, B8, S444, [2, 0, 1]), "Planes G B R A";
    Gbr10le = "GBR_10LE": planar(Rgb, B10, S444, [2, 0, 1]), "10 bits, planes G B R";
    Gbr12le = "GBR_12LE": planar(Rgb, B12, S444, [2, 0, 1]), "12 bits, planes G B R";
}

impl PixelFormat {
    /// The format of that GStreamer name.
    ///
    /// # Errors
    /// [`Error::Input`], listing the names, where there is none.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|f| f.name()).collect();
            Error::Input(format!("no pixel format {name:?}; there are {}", names.join(", ")))
        })
    }

    /// Planes that must be given: those that hold colour.
    pub fn planes(self) -> usize {
        self.layout().planes()
    }

    /// Whether samples are R, G, B, to which no colour matrix applies.
    pub fn is_rgb(self) -> bool {
        self.layout().family == Family::Rgb
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for PixelFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name)
    }
}
