//! Code of the back end's under observation: given registers before, all of them after, faults that
//! are put right in the process itself, signals in the middle of it. For tests of generated code;
//! nothing in kptrace runs it.

use std::io;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use nix::libc;

use super::Native;

/// Words of the stack that code under observation runs on.
const STACK: usize = 2048;
/// Which of them is the first above the return address.
const TOP: usize = 1792;
/// The status flags: carry, parity, adjust, zero, sign, overflow.
pub const STATUS_FLAGS: u64 = 0x8d5;

/// What a thread's registers hold, and the memory around its stack pointer.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Machine {
    /// The general registers, by their DWARF numbers; the stack pointer's is not looked at.
    pub general: [u64; 16],
    /// `xmm0` to `xmm15`.
    pub vectors: [[u64; 2]; 16],
    /// The status flags.
    pub flags: u64,
    /// The stack pointer to come back to.
    back: u64,
    /// The code.
    code: u64,
    /// The stack.
    stack: [u64; STACK],
}

impl Machine {
    /// All zeros.
    pub fn new() -> Box<Machine> {
        Box::new(Machine {
            general: [0; 16],
            vectors: [[0; 2]; 16],
            flags: 0,
            back: 0,
            code: 0,
            stack: [0; STACK],
        })
    }

    /// The words above the return address: arguments on the stack.
    pub fn above(&mut self) -> &mut [u64] {
        &mut self.stack[TOP..]
    }

    /// The words of the red zone: the 128 bytes below the return address.
    pub fn red_zone(&mut self) -> &mut [u64] {
        &mut self.stack[TOP - 17..TOP - 1]
    }

    /// The stack pointer at the first instruction.
    pub fn stack_pointer(&self) -> u64 {
        &raw const self.stack[TOP - 1] as u64
    }
}

/// Offset of a field from the first word above the return address.
macro_rules! at {
    ($field:ident) => {
        offset_of!(Machine, $field) as i32 - (offset_of!(Machine, stack) + 8 * TOP) as i32
    };
}

impl Native {
    /// Runs it like [`Native::run`], with the machine's registers, and leaves there what they hold
    /// afterwards. The stack is the machine's.
    pub fn observe(&self, machine: &mut Machine) {
        machine.flags &= STATUS_FLAGS;
        machine.code = self.start.as_ptr() as u64;
        let top = &raw mut machine.stack[TOP];
        // SAFETY: as in `run`, on a stack of 14 KiB below the return address. `rbx`, `rbp` and the
        // stack pointer are brought back, every other register is a clobber, and `machine` is ours
        // alone. The code is jumped to through memory: no register is left to hold its address.
        unsafe {
            std::arch::asm!(
                "push rbx",
                "push rbp",
                "mov [rdi + {back}], rsp",
                "lea rax, [rip + 2f]",
                "mov [rdi - 8], rax",
                "push qword ptr [rdi + {flags}]",
                "popfq",
                "lea rsp, [rdi - 8]",
                "movups xmm0, [rdi + {vectors}]",
                "movups xmm1, [rdi + {vectors} + 16]",
                "movups xmm2, [rdi + {vectors} + 32]",
                "movups xmm3, [rdi + {vectors} + 48]",
                "movups xmm4, [rdi + {vectors} + 64]",
                "movups xmm5, [rdi + {vectors} + 80]",
                "movups xmm6, [rdi + {vectors} + 96]",
                "movups xmm7, [rdi + {vectors} + 112]",
                "movups xmm8, [rdi + {vectors} + 128]",
                "movups xmm9, [rdi + {vectors} + 144]",
                "movups xmm10, [rdi + {vectors} + 160]",
                "movups xmm11, [rdi + {vectors} + 176]",
                "movups xmm12, [rdi + {vectors} + 192]",
                "movups xmm13, [rdi + {vectors} + 208]",
                "movups xmm14, [rdi + {vectors} + 224]",
                "movups xmm15, [rdi + {vectors} + 240]",
                "mov rax, [rdi + {general}]",
                "mov rdx, [rdi + {general} + 8]",
                "mov rcx, [rdi + {general} + 16]",
                "mov rbx, [rdi + {general} + 24]",
                "mov rsi, [rdi + {general} + 32]",
                "mov rbp, [rdi + {general} + 48]",
                "mov r8, [rdi + {general} + 64]",
                "mov r9, [rdi + {general} + 72]",
                "mov r10, [rdi + {general} + 80]",
                "mov r11, [rdi + {general} + 88]",
                "mov r12, [rdi + {general} + 96]",
                "mov r13, [rdi + {general} + 104]",
                "mov r14, [rdi + {general} + 112]",
                "mov r15, [rdi + {general} + 120]",
                "mov rdi, [rdi + {general} + 40]",
                "jmp qword ptr [rsp + 8 + {code}]",
                "2:",
                "mov [rsp + {general}], rax",
                "mov [rsp + {general} + 8], rdx",
                "mov [rsp + {general} + 16], rcx",
                "mov [rsp + {general} + 24], rbx",
                "mov [rsp + {general} + 32], rsi",
                "mov [rsp + {general} + 40], rdi",
                "mov [rsp + {general} + 48], rbp",
                "mov [rsp + {general} + 64], r8",
                "mov [rsp + {general} + 72], r9",
                "mov [rsp + {general} + 80], r10",
                "mov [rsp + {general} + 88], r11",
                "mov [rsp + {general} + 96], r12",
                "mov [rsp + {general} + 104], r13",
                "mov [rsp + {general} + 112], r14",
                "mov [rsp + {general} + 120], r15",
                "movups [rsp + {vectors}], xmm0",
                "movups [rsp + {vectors} + 16], xmm1",
                "movups [rsp + {vectors} + 32], xmm2",
                "movups [rsp + {vectors} + 48], xmm3",
                "movups [rsp + {vectors} + 64], xmm4",
                "movups [rsp + {vectors} + 80], xmm5",
                "movups [rsp + {vectors} + 96], xmm6",
                "movups [rsp + {vectors} + 112], xmm7",
                "movups [rsp + {vectors} + 128], xmm8",
                "movups [rsp + {vectors} + 144], xmm9",
                "movups [rsp + {vectors} + 160], xmm10",
                "movups [rsp + {vectors} + 176], xmm11",
                "movups [rsp + {vectors} + 192], xmm12",
                "movups [rsp + {vectors} + 208], xmm13",
                "movups [rsp + {vectors} + 224], xmm14",
                "movups [rsp + {vectors} + 240], xmm15",
                "pushfq",
                "pop qword ptr [rsp + {flags}]",
                "mov rsp, [rsp + {back}]",
                "pop rbp",
                "pop rbx",
                back = const at!(back),
                code = const at!(code),
                flags = const at!(flags),
                general = const at!(general),
                vectors = const at!(vectors),
                inout("rdi") top => _,
                out("r12") _,
                out("r13") _,
                out("r14") _,
                out("r15") _,
                clobber_abi("C"),
            );
        }
        machine.flags &= STATUS_FLAGS;
    }
}

/// Where to go on after a fault.
static RESUME: OnceLock<fn(u64) -> Option<u64>> = OnceLock::new();
/// What [`on_signal`] runs.
static CODE: AtomicPtr<Native> = AtomicPtr::new(std::ptr::null_mut());
/// How often it did.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// From now on a fault at an address for which `resume` knows another goes on there. Every other
/// fault ends the process. `resume` runs in a signal handler.
pub fn on_fault(resume: fn(u64) -> Option<u64>) -> io::Result<()> {
    RESUME.get_or_init(|| resume);
    install(libc::SIGSEGV, faulted)
}

extern "C" fn faulted(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the context of the interrupted thread, ours until we return.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let pc = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    let resume = RESUME.get().and_then(|resume| resume(pc.cast_unsigned()));
    match resume {
        Some(at) => *pc = at.cast_signed(),
        // SAFETY: back to the default; the instruction faults again, and ends the process.
        None => unsafe {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        },
    }
}

/// From now on a signal runs code, in the thread that it interrupts.
pub fn on_signal(signal: i32, code: &'static Native) -> io::Result<()> {
    CODE.store(std::ptr::from_ref(code).cast_mut(), Ordering::Release);
    install(signal, interrupted)
}

/// How often a signal has run code.
pub fn runs() -> u64 {
    RUNS.load(Ordering::Acquire)
}

/// The thread that calls.
pub fn thread() -> i32 {
    // SAFETY: it has no effect.
    unsafe { libc::gettid() }
}

/// Sends a thread of ours a signal.
pub fn interrupt(thread: i32, signal: i32) -> io::Result<()> {
    // SAFETY: integers; the signal has a handler, or does what it does.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    if sent != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn interrupted(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let code = CODE.load(Ordering::Acquire);
    // SAFETY: what `on_signal` stored: it lives for ever.
    if let Some(code) = unsafe { code.as_ref() } {
        code.run();
        RUNS.fetch_add(1, Ordering::AcqRel);
    }
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn install(signal: i32, handler: Handler) -> io::Result<()> {
    // SAFETY: all zeros is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handlers above allocate nothing and wait for nothing.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Memory between two pages that cannot be touched: the code's target.
#[derive(Debug)]
pub struct Guarded {
    start: NonNull<u8>,
    len: usize,
}

impl Guarded {
    /// So many bytes, whole pages.
    pub fn new(len: usize) -> io::Result<Guarded> {
        let len = len.next_multiple_of(4096);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let all = len + 2 * 4096;
        // SAFETY: a fresh private mapping at an address the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: within the mapping just made.
        let inner = unsafe { start.cast::<u8>().add(4096) };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: as above.
        if unsafe { libc::mprotect(inner.cast(), len, access) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(inner).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Guarded { start, len })
    }

    /// Its first byte's address.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, zeroed at first, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, from a page before its start to one behind its end.
        unsafe {
            libc::munmap(self.start.as_ptr().sub(4096).cast(), self.len + 2 * 4096);
        }
    }
}

const ARCH_SET_GS: libc::c_int = 0x1001;
const ARCH_GET_FS: libc::c_int = 0x1003;

/// The base of `fs`: what a block's owner is known by.
pub fn fs_base() -> u64 {
    let mut base = 0_u64;
    // SAFETY: the kernel writes one word to `base`.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_FS, &raw mut base) };
    base
}

/// Calls `f` with a base of `gs`, which nothing else in our process uses; it is 0 behind.
pub fn with_gs_base<R>(base: u64, f: impl FnOnce() -> R) -> R {
    // SAFETY: neither Rust nor the C library addresses anything by gs on this machine.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    let result = f();
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, 0) };
    result
}
