//! No-reference video quality with QMamba.
pub mod ops;
