//! What feature `cuda` builds beside Rust: the kernels' image, and what stands in for CUDA's libraries until they are loaded.

use std::path::{Path, PathBuf};
use std::process::Command;

/// GPUs that get code of their own: A100, RTX 30, RTX 40, H100, B200, RTX 50. Newer ones compile the portable form of the last.
const ARCHITECTURES: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// Both. The error is one line.
pub fn all() -> Result<(), String> {
    kernels()?;
    stand_ins()
}

fn kernels() -> Result<(), String> {
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or("cargo gives no OUT_DIR")?;
    let mut command = Command::new(nvcc());
    command.args(["-std=c++17", "-O3", "-fatbin", "--threads", "0", "-Werror", "all-warnings"]);
    for architecture in ARCHITECTURES {
        command.arg(format!("-gencode=arch=compute_{architecture},code=sm_{architecture}"));
    }
    // Portable code of the oldest and of the newest.
    for architecture in [ARCHITECTURES[0], ARCHITECTURES[ARCHITECTURES.len() - 1]] {
        command.arg(format!("-gencode=arch=compute_{architecture},code=compute_{architecture}"));
    }
    command.arg("-o").arg(out.join("kernels.fatbin")).arg("kernels/kernels.cu");
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let first = text.lines().find(|line| line.contains("error")).unwrap_or("no message");
            Err(format!("nvcc does not compile the kernels (it must be CUDA 12.8 or newer): {first}"))
        }
        Err(error) => Err(format!(
            "feature `cuda` needs nvcc of CUDA 12.8 or newer in PATH or under CUDA_HOME ({error}); build without it for the CPU"
        )),
    }
}

/// Builds `lazy.c`, which takes the place of CUDA's libraries. It comes before them on the linker's command line, and whole,
/// so none of them is needed and the linker leaves them out.
fn stand_ins() -> Result<(), String> {
    let out = std::env::var("OUT_DIR").map_err(|e| e.to_string())?;
    let names = include_str!("symbols.txt").lines();
    let lines = names.map(|name| format!("SYMBOL({}, {name})\n", library(name))).collect::<String>();
    std::fs::write(format!("{out}/symbols.h"), lines).map_err(|e| format!("{out}/symbols.h: {e}"))?;
    let mut build = cc::Build::new();
    build.file("kernels/lazy.c").include(&out).define("CUDA_MAJOR", cuda_major()?.as_str());
    build.cargo_metadata(false).try_compile("qmambaiqa_lazy").map_err(|e| format!("kernels/lazy.c: {e}"))?;
    println!("cargo::rustc-link-search=native={out}");
    println!("cargo::rustc-link-lib=static:+whole-archive=qmambaiqa_lazy");
    // Candle has kernels that need CUDA's runtime, whose static form looks for the driver only when it is used.
    let home = nvcc().canonicalize().ok().and_then(|nvcc| Some(nvcc.parent()?.parent()?.to_owned()));
    let folders = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
    let Some(folder) = home.and_then(|home| {
        folders.into_iter().map(|folder| home.join(folder)).find(|folder| folder.join("libcudart_static.a").exists())
    }) else {
        return Err("the toolkit of nvcc has no libcudart_static.a: set CUDA_HOME to one that has".into());
    };
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=static:+whole-archive=cudart_static");
    Ok(())
}

/// The library that has a function.
fn library(symbol: &str) -> &'static str {
    ["cublasLt", "cublas", "curand", "nvrtc"].iter().find(|prefix| symbol.starts_with(**prefix)).map_or(
        "cuda",
        |prefix| {
            if *prefix == "cublasLt" { "cublaslt" } else { prefix }
        },
    )
}

/// The toolkit's first number, by which its libraries are named.
fn cuda_major() -> Result<String, String> {
    let output = Command::new(nvcc()).arg("--version").output().map_err(|e| format!("nvcc --version: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let release = text.split("release ").nth(1).and_then(|rest| rest.split('.').next());
    release.map(str::to_owned).ok_or_else(|| format!("nvcc --version says no release: {text:?}"))
}

/// The compiler of the toolkit that the environment names, else that of PATH.
fn nvcc() -> PathBuf {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut compilers = named
        .map(|home| Path::new(&home).join("bin/nvcc"))
        .chain(std::env::split_paths(&path).map(|folder| folder.join("nvcc")));
    compilers.find(|compiler| compiler.exists()).unwrap_or_else(|| "nvcc".into())
}
