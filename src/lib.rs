//! No-reference video quality with QMamba.

pub mod crops;
pub mod device;
pub mod embedded;
mod error;
pub mod frame;
#[cfg(feature = "frei0r")]
pub mod frei0r;
mod graphs;
#[cfg(feature = "plugin")]
pub mod http;
pub mod indicators;
#[cfg(any(feature = "plugin", feature = "frei0r"))]
pub mod log;
#[cfg(feature = "plugin")]
pub mod metrics;
pub mod model;
mod network;
pub mod ops;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod pooling;
pub mod random;
mod score;
pub mod scorer;
mod simd;
#[cfg(feature = "train")]
pub mod train;
pub mod weights_file;

pub use error::{Error, Result};
pub use scorer::{Options, Score, Scorer};
