//! The one error type.

use std::path::PathBuf;

/// What can go wrong, in words for the person who has to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that was given (a setting, a frame, a row) cannot be used.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A weights file is not what it should be.
    #[error("{path}: {message}")]
    Weights {
        /// The file, or the name of the embedded model.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A GPU failed: it ran out of memory, or was lost.
    #[error("{device} fails: {message}; {advice}")]
    Device {
        /// Its name.
        device: String,
        /// Its reason.
        message: String,
        /// What to do.
        advice: &'static str,
    },
    /// A tensor operation failed: wrong shapes, or the device.
    #[error("computation failed: {}", plain(.0))]
    Tensor(#[from] candle_core::Error),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor error's message without the backtrace that candle appends to it.
pub(crate) fn plain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(inner),
        candle_core::Error::Context { inner, context } => format!("{context}: {inner}"),
        other => other.to_string(),
    }
}

impl Error {
    /// The error of a GPU, which is called `device`, with what to do about it.
    pub(crate) fn of_gpu(device: String, error: &candle_core::Error) -> Self {
        let message = plain(error);
        let lower = message.to_lowercase().replace('_', " ");
        let advice = if lower.contains("out of memory") || lower.contains("alloc failed") {
            "score fewer crops at once (batch, crops), leave more of its memory free, or use the device `cpu`"
        } else {
            "start again, see what nvidia-smi says of it, or use the device `cpu`; `auto` goes on with the CPU by itself"
        };
        Self::Device { device, message, advice }
    }
}

/// Whether an error is a GPU's, and not one of what it was given.
pub(crate) fn is_of_gpu(error: &candle_core::Error) -> bool {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => is_of_gpu(inner),
        candle_core::Error::Context { inner, .. } => is_of_gpu(inner),
        candle_core::Error::Cuda(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gpu_says_comes_with_what_to_do() {
        let error = |text: &str| {
            let error = candle_core::Error::Cuda(text.into()).context("of a layer");
            assert!(is_of_gpu(&error) && !is_of_gpu(&candle_core::Error::Msg(text.into())));
            Error::of_gpu("cuda:0".into(), &error).to_string()
        };
        let full = error("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        let lost = error("DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"...\")");
        assert!(
            full.contains("cuda:0 fails") && full.contains("fewer crops") && lost.contains("nvidia-smi"),
            "{full} {lost}"
        );
    }
}
