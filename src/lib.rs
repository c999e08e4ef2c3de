//! No-reference video quality with QMamba.
mod error;
pub use error::{Error, Result};

pub mod frame;
pub mod ops;

