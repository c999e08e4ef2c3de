//! No-reference video quality with QMamba.

mod error;
pub mod model;
pub mod ops;
mod random;
#[cfg(feature = "train")]
pub mod train;
pub mod weights_file;

pub use error::{Error, Result};
