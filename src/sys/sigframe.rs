//! A signal frame as `rt_sigreturn(2)` reads it: registers, signal mask and extended state, laid
//! out as the kernel lays them out for a handler (`struct rt_sigframe`, `struct sigcontext_64` and
//! `struct _fpx_sw_bytes` in the kernel's x86 headers, `arch/x86/kernel/fpu/signal.c`). Knows
//! nothing of where it is put, nor why.

use super::regs::Regs;
use crate::base::Addr;

/// Where in a frame the extended state lies; the processor wants it at a multiple of 64, and so
/// the frame.
const XSTATE: usize = 448;
/// Frames start at multiples of this.
pub const ALIGN: u64 = 64;
/// `ucontext.uc_flags`: extended state follows, `ss` is saved, and is to be restored as it is.
const UC_FLAGS: u64 = 7;
/// `stack_t.ss_flags` that the kernel refuses, and then leaves the alternate stack as it is: from
/// outside nobody knows what it is (`restore_altstack` in `kernel/signal.c`).
const NO_STACK: u64 = 0x7f;
/// `FP_XSTATE_MAGIC1` and `FP_XSTATE_MAGIC2`.
const MAGIC: [u32; 2] = [0x4650_5853, 0x4650_5845];
/// Where the legacy region keeps bytes for software, and where the header with the features in use
/// follows it.
const SOFTWARE: usize = 464;
const HEADER: usize = 512;
/// State that a thread has only after it asked for it: AMX tiles (`XFEATURE_MASK_USER_DYNAMIC`).
const ON_DEMAND: u64 = 1 << 18;
/// The legacy region and the header.
const SMALLEST: usize = 576;

/// Bytes that a frame with this much extended state takes.
pub fn size(xstate: usize) -> usize {
    XSTATE + xstate + 4
}

/// The frame for address `at`, which brings a thread to `regs` with the signals of `mask` blocked;
/// `back` is the code that makes the system call. `xstate` is as `PTRACE_GETREGSET` gives it
/// (`NT_X86_XSTATE`). `None` when that cannot be.
pub fn build(regs: &Regs, mask: u64, xstate: &[u8], at: Addr, back: Addr) -> Option<Vec<u8>> {
    if xstate.len() < SMALLEST || !at.0.is_multiple_of(ALIGN) {
        return None;
    }
    let r = &regs.0;
    let segments = (r.cs & 0xffff) | (r.ss & 0xffff) << 48;
    let mut words = vec![back.0, UC_FLAGS, 0, 0, NO_STACK, 0];
    words.extend([r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15]);
    words.extend([
        r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags, segments,
    ]);
    // Error code, trap number, old mask and fault address are not read.
    words.extend([0, 0, 0, 0, at.0 + XSTATE as u64]);
    words.extend([0; 8]);
    words.push(mask);
    let mut frame: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    frame.resize(XSTATE, 0);
    frame.extend(xstate);
    frame.extend([0; 4]);
    let word = |at: usize| {
        let bytes = xstate.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    let in_use = word(HEADER)?;
    // The kernel tells here which features there are (`struct user_xstateregs`); more than there
    // are do no harm.
    let there = match word(SOFTWARE)? {
        0 => u64::MAX,
        there => there,
    };
    // Without tiles in use the state of a thread ends before them, whatever the processor could
    // hold; the kernel looks for the second magic word where it ends.
    let end = if in_use & ON_DEMAND != 0 {
        xstate.len()
    } else {
        end_of(there & !ON_DEMAND).min(xstate.len())
    };
    let put = |frame: &mut [u8], at: usize, bytes: &[u8]| {
        if let Some(to) = frame.get_mut(XSTATE + at..XSTATE + at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    let len = u32::try_from(end).ok()?;
    put(&mut frame, SOFTWARE, &[0; 48]);
    put(&mut frame, SOFTWARE, &MAGIC[0].to_le_bytes());
    put(&mut frame, SOFTWARE + 4, &(len + 4).to_le_bytes());
    put(&mut frame, SOFTWARE + 8, &there.to_le_bytes());
    put(&mut frame, SOFTWARE + 16, &len.to_le_bytes());
    put(&mut frame, end, &MAGIC[1].to_le_bytes());
    Some(frame)
}

/// Where the state of these features ends in the uncompacted format (Intel SDM volume 1, "Managing
/// State Using the XSAVE Feature Set": `CPUID.0DH`).
fn end_of(features: u64) -> usize {
    let ends = (2..63).filter(|bit| features >> bit & 1 != 0).map(|bit| {
        #[allow(unused_unsafe, reason = "newer compilers call it safe")]
        // SAFETY: every 64-bit processor has CPUID; a leaf that it does not know gives zeros.
        let leaf = unsafe { std::arch::x86_64::__cpuid_count(0xd, bit) };
        (leaf.eax as usize).saturating_add(leaf.ebx as usize)
    });
    ends.max().unwrap_or(0).max(SMALLEST)
}
