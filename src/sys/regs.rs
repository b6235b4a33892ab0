//! The registers of a stopped thread as the kernel gives them (`user_regs_struct`). With `arch`,
//! one of the two places that know which machine this is.

use nix::libc;

use crate::base::Addr;

/// General registers, flags, segment bases and the pending system call.
#[derive(Clone, Copy, Debug)]
pub struct Regs(pub(super) libc::user_regs_struct);

/// `orig_rax` of a thread that is not in a system call.
pub const NO_SYSCALL: u64 = u64::MAX;

impl Regs {
    /// Program counter.
    pub fn pc(&self) -> Addr {
        Addr(self.0.rip)
    }
    /// Sets the program counter.
    pub fn set_pc(&mut self, pc: Addr) {
        self.0.rip = pc.0;
    }
    /// Stack pointer.
    pub fn sp(&self) -> Addr {
        Addr(self.0.rsp)
    }
    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: Addr) {
        self.0.rsp = sp.0;
    }
    /// Takes back `bytes` that an emulated call pushed.
    pub fn drop_pushed(&mut self, bytes: u64) {
        self.0.rsp = self.0.rsp.wrapping_add(bytes);
    }
    /// Base of `fs`: the thread pointer.
    pub fn fs_base(&self) -> u64 {
        self.0.fs_base
    }
    /// Base of `gs`: unused by 64-bit user code.
    pub fn gs_base(&self) -> u64 {
        self.0.gs_base
    }
    /// Sets the base of `gs`.
    pub fn set_gs_base(&mut self, base: u64) {
        self.0.gs_base = base;
    }
    /// Value returned by a system call.
    pub fn result(&self) -> i64 {
        self.0.rax.cast_signed()
    }
    /// An argument of the system call the thread is in or just left, from 0.
    pub fn argument(&self, number: usize) -> u64 {
        let r = &self.0;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
            .get(number)
            .map_or(0, |&word| word)
    }
    /// Number of the system call the thread is in or just left; negative when in none.
    pub fn syscall(&self) -> i64 {
        self.0.orig_rax.cast_signed()
    }
    /// Makes the registers those of a system call about to be made at `at`, which holds a
    /// `syscall` instruction.
    pub fn prepare_syscall(&mut self, at: Addr, number: u64, args: [u64; 6]) {
        self.0.rip = at.0;
        self.0.rax = number;
        self.0.orig_rax = NO_SYSCALL;
        [
            self.0.rdi, self.0.rsi, self.0.rdx, self.0.r10, self.0.r8, self.0.r9,
        ] = args;
    }
    /// Puts the thread back before the `syscall` instruction it just left, so that the call is
    /// made again with its number.
    pub fn rewind_syscall(&mut self) {
        self.0.rip = self.0.rip.wrapping_sub(2);
        self.0.rax = self.0.orig_rax;
        self.0.orig_rax = NO_SYSCALL;
    }
    /// The call that the thread is in and that the kernel would make again if no signal were
    /// delivered (`arch_do_signal_or_restart` in `arch/x86/kernel/signal.c`).
    pub fn restarts(&self) -> Option<i64> {
        // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK.
        let restarts = matches!(self.result(), -512 | -513 | -514 | -516);
        (self.syscall() >= 0 && restarts).then_some(self.syscall())
    }
    /// The registers of a thread about to make again the call it is in, by this number.
    pub fn again(&self, number: i64) -> Regs {
        let mut regs = *self;
        regs.rewind_syscall();
        regs.0.rax = number.cast_unsigned();
        regs
    }
    /// Whether the thread runs 64-bit code (`cs` = 0x33, `arch/x86/include/asm/segment.h`).
    pub fn is_64_bit(&self) -> bool {
        self.0.cs == 0x33
    }
    /// Every general register: what a conservative scan looks at.
    pub fn words(&self) -> [u64; 16] {
        let r = &self.0;
        [
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12,
            r.r13, r.r14, r.r15, r.rip,
        ]
    }
}

/// Offset of the program counter in the user area, for `PTRACE_POKEUSER`.
pub(super) const PC_OFFSET: usize = std::mem::offset_of!(libc::user_regs_struct, rip);
