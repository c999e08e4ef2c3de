//! Builds what feature `cuda` needs; without it there is nothing to do.

#[cfg(feature = "cuda")]
mod compile;

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for variable in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    #[cfg(feature = "cuda")]
    if let Err(error) = compile::all() {
        println!("cargo::error={error}");
    }
}
