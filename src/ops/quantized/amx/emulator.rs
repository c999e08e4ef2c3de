//! The matrix unit's instructions on CPUs that lack them, for tests: an illegal instruction's signal is answered by doing
//! what the instruction would have done (Intel's manual, volume 2), and going on after it.

use crate::simd::amx::{EMULATED, permitted};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::Ordering;

/// Tiles of 16 rows of 64 bytes, and what `ldtilecfg` said of them.
struct State {
    tiles: [[[u8; 64]; 16]; 8],
    row_bytes: [usize; 8],
    rows: [usize; 8],
    configured: bool,
}

thread_local! {
    static STATE: UnsafeCell<State> =
        const { UnsafeCell::new(State { tiles: [[[0xa5; 64]; 16]; 8], row_bytes: [0; 8], rows: [0; 8], configured: false }) };
}

/// Answers illegal instructions of this process from here on, unless the CPU knows them.
pub(in super::super) fn install_if_needed() {
    if permitted() {
        return;
    }
    // SAFETY: the handler has the signature that `SA_SIGINFO` asks for, touches no memory but what instructions name and this
    // thread's state, and allocates nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGILL, &action, ptr::null_mut()), 0);
    }
    println!("the matrix unit is emulated");
    EMULATED.store(true, Ordering::Relaxed);
}

/// Indices into the context's registers, by their number in instructions.
const REGISTERS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// One instruction, `VEX.128 0F38 W0`, taken apart.
struct Instruction {
    opcode: u8,
    /// 0 none, 1 66, 2 F3, 3 F2
    prefix: u8,
    reg: usize,
    rm: usize,
    third: usize,
    /// Base address and the index register's value, where it names memory.
    memory: Option<(usize, usize)>,
    length: usize,
}

/// # Safety
/// `at` is an instruction's address.
unsafe fn decode(at: *const u8, registers: &[i64; 23]) -> Option<Instruction> {
    // SAFETY: an instruction of this form has at least five bytes, and further ones where those before say so.
    let byte = |i: usize| unsafe { at.add(i).read() };
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let extended = |bit: u8| usize::from(byte(1) >> bit & 1 == 0) << 3; // stored inverted
    let register = |n: usize| registers[REGISTERS[n] as usize] as usize;
    let (modrm, mode) = (byte(4), byte(4) >> 6);
    let (mut rm, mut length) = (usize::from(modrm & 7), 5);
    let memory = if mode == 3 {
        None
    } else {
        let mut index = 0;
        if rm == 4 {
            let sib = byte(5);
            length += 1;
            let number = usize::from(sib >> 3 & 7) | extended(6);
            index = if number == 4 { 0 } else { register(number) << (sib >> 6) };
            rm = usize::from(sib & 7);
        }
        if mode == 0 && rm == 5 {
            return None; // relative addresses are not used
        }
        let displacement = match mode {
            1 => byte(length) as i8 as isize,
            // SAFETY: as above.
            2 => unsafe { at.add(length).cast::<i32>().read_unaligned() as isize },
            _ => 0,
        };
        length += [0, 1, 4][usize::from(mode)];
        Some((register(rm | extended(5)).wrapping_add_signed(displacement), index))
    };
    let third = usize::from(!byte(2) >> 3 & 15);
    Some(Instruction {
        opcode: byte(3),
        prefix: byte(2) & 3,
        reg: usize::from(modrm >> 3 & 7),
        rm,
        third,
        memory,
        length,
    })
}

impl State {
    /// False where the instruction is none of those known.
    ///
    /// # Safety
    /// The memory that the instruction names may be read or written as the CPU would.
    unsafe fn run(&mut self, instruction: &Instruction) -> bool {
        let Instruction { opcode, prefix, reg, rm, third, memory, .. } = *instruction;
        let at = |base: usize, row: usize, stride: usize| ptr::with_exposed_provenance_mut::<u8>(base + row * stride);
        match (opcode, prefix, memory) {
            (0x49, 0, Some((base, _))) => {
                // SAFETY: the configuration has 64 bytes.
                let bytes = unsafe { at(base, 0, 0).cast::<[u8; 64]>().read() };
                assert!(
                    bytes[0] == 1 && bytes[1..16].iter().all(|&b| b == 0),
                    "palette 1, nothing in what is reserved"
                );
                for i in 0..8 {
                    self.row_bytes[i] = usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]]));
                    self.rows[i] = usize::from(bytes[48 + i]);
                    assert!(self.row_bytes[i] <= 64 && self.rows[i] <= 16);
                }
                (self.tiles, self.configured) = ([[[0; 64]; 16]; 8], true);
            }
            (0x49, 0, None) => (self.tiles, self.configured) = ([[[0; 64]; 16]; 8], false),
            (0x4b, 3, Some((base, stride))) if self.configured => {
                self.tiles[reg] = [[0; 64]; 16];
                for row in 0..self.rows[reg] {
                    let to = self.tiles[reg][row].as_mut_ptr();
                    // SAFETY: reads what the CPU would.
                    unsafe { ptr::copy_nonoverlapping(at(base, row, stride).cast_const(), to, self.row_bytes[reg]) };
                }
            }
            (0x4b, 2, Some((base, stride))) if self.configured => {
                for row in 0..self.rows[reg] {
                    // SAFETY: writes what the CPU would.
                    unsafe {
                        ptr::copy_nonoverlapping(
                            self.tiles[reg][row].as_ptr(),
                            at(base, row, stride),
                            self.row_bytes[reg],
                        )
                    };
                }
            }
            (0x5e, 1, None) if self.configured => {
                let (a, b) = (self.tiles[rm], self.tiles[third]);
                for row in 0..self.rows[reg] {
                    for column in 0..self.row_bytes[reg] / 4 {
                        let out = &mut self.tiles[reg][row].as_chunks_mut::<4>().0[column];
                        let mut sum = i32::from_le_bytes(*out);
                        for four in 0..self.row_bytes[rm] / 4 {
                            for i in 4 * four..4 * four + 4 {
                                let product = i32::from(a[row][i]) * i32::from(b[four][4 * column + i % 4] as i8);
                                sum = sum.wrapping_add(product);
                            }
                        }
                        *out = sum.to_le_bytes();
                    }
                }
            }
            _ => return false,
        }
        true
    }
}

extern "C" fn handle(_signal: i32, _info: *const libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid context over, and the instruction pointer is at the instruction that it did not know.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = ptr::with_exposed_provenance::<u8>(registers[libc::REG_RIP as usize] as usize);
        let done = decode(at, registers).filter(|found| STATE.with(|state| (*state.get()).run(found)));
        match done {
            Some(done) => registers[libc::REG_RIP as usize] += done.length as i64,
            None => libc::abort(),
        }
    }
}
