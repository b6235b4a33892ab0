//! What is known at a hit without being in a register: process and thread, time, processor.

use iced_x86::code_asm::registers::gpr32::{eax, ecx};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmRegister64, dword_ptr, ptr, qword_ptr};

use super::assembler::Patch;
use super::body::{Body, Space};
use super::registers::TEMPORARIES;
use super::template::Unsupported;
use crate::abi;
use crate::program::{Known, table};

/// `gettid(2)`.
const GETTID: u32 = 186;
/// Bits of `IA32_TSC_AUX` that number the processor (`vdso_read_cpunode` in the kernel's
/// arch/x86/include/asm/segment.h); above them stands the node.
const CPU_BITS: i32 = 0xfff;

impl Body<'_> {
    /// Computes what is known into a register that the caller reads at once: `rax`. `rcx` and `rdx`
    /// may be lost, and the first temporary when the depth is 0.
    pub(super) fn known(
        &mut self,
        known: Known,
        depth: usize,
    ) -> Result<AsmRegister64, Unsupported> {
        let block = u64::from(self.environment.shared_block);
        let shared = |offset: u32| qword_ptr(block + u64::from(offset));
        let half = |offset: u32| dword_ptr(block + u64::from(offset));
        match known {
            Known::Pid => self.frame.out.asm.mov(rax, shared(abi::PID))?,
            Known::Uid => self.frame.out.asm.mov(eax, half(abi::UID))?,
            Known::Gid => self.frame.out.asm.mov(eax, half(abi::UID + 4))?,
            Known::Child => self.frame.out.asm.mov(rax, shared(abi::CHILD))?,
            Known::Tid => self.thread(depth > 0)?,
            Known::Comm(part) => {
                let name = self.word(abi::COMM + 8 * u32::from(part.min(2)));
                self.frame.out.asm.mov(rax, name)?;
            }
            Known::Nanos | Known::Elapsed => {
                self.nanos()?;
                if known == Known::Elapsed {
                    self.frame.out.asm.sub(rax, shared(abi::CLOCK_START))?;
                }
            }
            Known::Cpu => {
                self.frame.out.asm.rdtscp()?;
                self.frame.out.asm.mov(eax, ecx)?;
                self.frame.out.asm.and(eax, CPU_BITS)?;
            }
            Known::Random => {
                let asm = &mut self.frame.out.asm;
                asm.rdtsc()?;
                asm.mov(rcx, table::MULTIPLIER)?;
                // Ticks come in steps on some machines: twice, so that each bit of them tells.
                asm.imul_2(rax, rcx)?;
                asm.mov(rdx, rax)?;
                asm.shr(rdx, 29)?;
                asm.xor(rax, rdx)?;
                asm.imul_2(rax, rcx)?;
                asm.shr(rax, 32)?;
            }
            Known::Site => {
                self.frame.out.patch_next(Patch::Site);
                // Some address in the code: the site's is put in for each site.
                let here = self.frame.out.to(self.end);
                self.frame.out.asm.lea(rax, ptr(here))?;
            }
            Known::Probe => {
                self.frame.out.patch_next(Patch::Name(self.index));
                self.frame.out.asm.mov(eax, 0)?;
            }
            Known::Func => {
                self.frame.out.patch_next(Patch::Function(self.index));
                self.frame.out.asm.mov(eax, 0)?;
            }
        }
        Ok(rax)
    }

    /// A thread without a block of its own has to ask. The call never waits and has no effect; it
    /// loses `rcx` and `r11`, which `keep` keeps in `rdx`.
    fn thread(&mut self, keep: bool) -> Result<(), Unsupported> {
        if self.space == Space::Own {
            let tid = self.word(abi::TID);
            return Ok(self.frame.out.asm.mov(rax, tid)?);
        }
        debug_assert_eq!(TEMPORARIES[0], r11);
        let asm = &mut self.frame.out.asm;
        if keep {
            asm.mov(rdx, r11)?;
        }
        asm.mov(eax, GETTID)?;
        asm.syscall()?;
        if keep {
            asm.mov(r11, rdx)?;
        }
        Ok(())
    }

    fn nanos(&mut self) -> Result<(), Unsupported> {
        let block = u64::from(self.environment.shared_block);
        let at = |offset: u32| ptr(block + u64::from(offset));
        let asm = &mut self.frame.out.asm;
        asm.rdtsc()?;
        asm.shl(rdx, 32)?;
        asm.or(rax, rdx)?;
        asm.sub(rax, at(abi::CLOCK_TICKS))?;
        asm.mul(qword_ptr(at(abi::CLOCK_SLOPE)))?;
        asm.shrd(rax, rdx, 32)?;
        Ok(asm.add(rax, at(abi::CLOCK_NANOS))?)
    }
}
