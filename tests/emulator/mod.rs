//! The host build of the kernels as a process that programs are sent to.

use qmambaiqa::ops::kernels::{Argument, Program};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A running emulator.
pub struct Emulator {
    process: Child,
}

/// The sanitizers where there are their libraries, else nothing but the warnings.
fn build() -> Result<PathBuf, String> {
    let kernels = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/host/emulator.cpp");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kernel-emulator");
    let compile = |sanitizers: &[&str]| {
        let flags = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-o"];
        Command::new("g++").args(sanitizers).args(flags).arg(&program).arg(kernels).output()
    };
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    let mut output = compile(&sanitizers).map_err(|e| format!("no g++ here ({e}); apt install g++"))?;
    if String::from_utf8_lossy(&output.stderr).contains("cannot find") {
        println!("kernels run without sanitizers, which this g++ lacks");
        output = compile(&[]).map_err(|e| e.to_string())?;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

impl Emulator {
    /// Builds the emulator once and starts it; `None`, with the reason printed, where it cannot be built.
    pub fn new(test: &str) -> Option<Self> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match BUILT.get_or_init(build) {
            Ok(program) => {
                let process = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                Some(Self { process })
            }
            Err(reason) => {
                println!("skipped {test}: {reason}");
                None
            }
        }
    }

    /// The results of a program, which must be the same to the bit in whatever order a block's threads run.
    pub fn run(&mut self, program: &Program, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let rising = self.run_in_order(program, inputs, 0);
        assert!(rising == self.run_in_order(program, inputs, 1), "{program:?}: threads race");
        rising
    }

    fn run_in_order(&mut self, program: &Program, inputs: &[Vec<u8>], order: u8) -> Vec<Vec<u8>> {
        assert_eq!(inputs.len(), program.inputs());
        let mut request = vec![order];
        let int = |request: &mut Vec<u8>, v: usize| request.extend((v as u32).to_le_bytes());
        let long = |request: &mut Vec<u8>, v: i64| request.extend(v.to_le_bytes());
        let lengths: Vec<usize> = program.made().iter().map(|(of, count)| of.size() * count).collect();
        int(&mut request, inputs.len() + lengths.len());
        for input in inputs {
            long(&mut request, input.len() as i64);
            int(&mut request, 1);
            request.extend(input);
        }
        for &length in &lengths {
            long(&mut request, length as i64);
            int(&mut request, 0);
        }
        int(&mut request, program.launches().len());
        for launch in program.launches() {
            int(&mut request, launch.kernel.len());
            request.extend(launch.kernel.as_bytes());
            launch.grid.iter().chain([&launch.shared]).for_each(|&v| int(&mut request, v as usize));
            int(&mut request, launch.arguments.len());
            for argument in &launch.arguments {
                let (kind, value) = match *argument {
                    Argument::Buffer(buffer) => (0, buffer.index() as i64),
                    Argument::Int(value) => (1, i64::from(value)),
                    Argument::Long(value) => (2, value),
                };
                int(&mut request, kind);
                long(&mut request, value);
            }
        }
        let gone = |_| -> () { panic!("the emulator stopped at {:?}; its message stands above", program.launches()) };
        let (stdin, stdout) = (self.process.stdin.as_mut().unwrap(), self.process.stdout.as_mut().unwrap());
        stdin.write_all(&request).and_then(|()| stdin.flush()).unwrap_or_else(gone);
        let mut results: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![0; length]).collect();
        results.iter_mut().for_each(|result| stdout.read_exact(result).unwrap_or_else(gone));
        results.truncate(program.results());
        results
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.process.stdin.take(); // the end of its input ends it
        let status = self.process.wait().unwrap();
        assert!(status.success() || std::thread::panicking(), "the emulator ended with {status}");
    }
}
