//! No-reference video quality with QMamba.
mod error;
pub use error::{Error, Result};
pub mod crops;
pub mod frame;
pub mod ops;
pub mod pooling;
