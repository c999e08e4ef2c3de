//! No-reference video quality with QMamba.

mod error;
pub mod model;
pub mod ops;
mod random;

pub use error::{Error, Result};
