//! No-reference video quality with QMamba.
mod error;
pub mod ops;
pub mod weights_file;

pub use error::{Error, Result};
