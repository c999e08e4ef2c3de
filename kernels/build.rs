//! Builds what feature `cuda` needs, and has the linker mark a frei0r filter as one that stays loaded.

#[cfg(feature = "cuda")]
mod compile;

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    for variable in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // Hosts unload filters (dlclose), while threads that have scored still end in this library's code: rayon's, and whichever
    // have thread-local values of it. Unmapped code is a crash.
    #[cfg(feature = "frei0r")]
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    #[cfg(feature = "cuda")]
    if let Err(error) = compile::all() {
        println!("cargo::error={error}");
    }
}
