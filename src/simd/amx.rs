//! Whether the matrix unit that Intel's server CPUs have since Sapphire Rapids (AMX) may be used: the CPU, the kernel and this process
//! have a say.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Set by tests that emulate the unit's instructions.
#[cfg(test)]
pub(crate) static EMULATED: AtomicBool = AtomicBool::new(false);

/// Whether CPU and kernel have it.
pub(crate) fn supported() -> bool {
    /// Tiles and 8-bit products, in EDX of leaf 7.
    const BITS: u32 = 1 << 24 | 1 << 25;
    const GET_SUPPORTED: i32 = 0x1021;
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let mut components = 0u64;
        __cpuid(0).eax >= 7
            && __cpuid_count(7, 0).edx & BITS == BITS
            && arch_prctl(GET_SUPPORTED, (&raw mut components).expose_provenance())
            && components & 1 << TILE_DATA != 0
    })
}

/// Whether this process may use it, which is asked for the first time round.
pub(crate) fn permitted() -> bool {
    const REQUEST_PERMISSION: i32 = 0x1023;
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    #[cfg(test)]
    if EMULATED.load(Relaxed) {
        return true;
    }
    *PERMITTED.get_or_init(|| supported() && arch_prctl(REQUEST_PERMISSION, TILE_DATA))
}

/// The tiles' place among the states of a CPU.
const TILE_DATA: usize = 18;

/// Linux's call for what is particular to x86; false where it fails.
fn arch_prctl(code: i32, argument: usize) -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: `GET_SUPPORTED` writes a `u64` to the address given, `REQUEST_PERMISSION` takes a number; neither does more.
    return unsafe { libc::syscall(libc::SYS_arch_prctl, code, argument) } == 0;
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (code, argument);
        false
    }
}
