//! System calls made inside a stopped thread, with everything put back: registers, signal mask,
//! and the system call the thread was in. When we die meanwhile the thread puts itself back.

use std::io;
use std::sync::OnceLock;

use super::insure::WayBack;
use super::process::Process;
use super::thread::State;
use crate::base::{Addr, Pid, Tid};
use crate::sys::regs::{NO_SYSCALL, Regs};
use crate::sys::wait::{self, Status};
use crate::sys::{canary, errno, poll, procfs, ptrace};

/// `sigprocmask` bits of all signals; the kernel keeps SIGKILL and SIGSTOP out itself.
const ALL_SIGNALS: u64 = u64::MAX;

/// A thread that makes calls for us until [`Remote::finish`].
#[derive(Debug)]
pub struct Remote<'a> {
    process: &'a mut Process,
    tid: Tid,
    before: Regs,
    mask: u64,
    /// How the thread comes back when we die. Without one it would go on with our registers: where
    /// the target has no code or room for it there is no better way.
    way_back: Option<WayBack>,
    /// Code of ours to make calls by.
    by: Option<Addr>,
    /// Signals that cannot be blocked and came meanwhile: SIGSTOP.
    came: Vec<i32>,
}

impl<'a> Remote<'a> {
    /// Borrows a stopped thread. Refused with `PermissionDenied` when it runs under seccomp filters
    /// that are not ours too: these may end it for a call it would not make.
    pub fn begin(process: &'a mut Process, tid: Tid) -> io::Result<Remote<'a>> {
        let owner = process
            .threads
            .get(&tid)
            .map_or(process.pid, |thread| thread.process);
        if let Some(why) = seccomp(procfs::status(owner, tid)?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        restart_call(owner, tid)?;
        let before = ptrace::regs(tid)?;
        let mask = ptrace::sigmask(tid)?;
        let way_back = WayBack::prepare(process, tid, &before, mask);
        Ok(Remote {
            process,
            tid,
            before,
            mask,
            way_back,
            by: None,
            came: Vec::new(),
        })
    }

    /// Whether the calls may be made by which a descriptor is received: refused with
    /// `PermissionDenied` where filters that are ours too do not allow them.
    pub fn may_receive(&self) -> io::Result<()> {
        let filtered = procfs::status(self.owner(), self.tid)?.seccomp != 0;
        match filtered.then(|| canary(true)).flatten() {
            Some(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)),
            None => Ok(()),
        }
    }

    fn owner(&self) -> Pid {
        let thread = self.process.threads.get(&self.tid);
        thread.map_or(self.process.pid, |thread| thread.process)
    }

    /// The process the thread belongs to.
    pub fn process(&self) -> &Process {
        self.process
    }

    /// Whether the thread comes back by itself when we die.
    pub fn is_insured(&self) -> bool {
        self.way_back.is_some()
    }

    /// From here on makes calls by this code of ours: `syscall`, what the thread is to do when we
    /// die, `ret`. A thread that does not come back by itself is none the better for it.
    pub fn calls_by(&mut self, code: Option<Addr>) {
        self.by = code;
    }

    /// Makes a system call; a kernel's refusal is an error with its number.
    pub fn call(&mut self, number: u64, args: &[u64]) -> io::Result<u64> {
        self.enter(number, args)?;
        self.complete()
    }

    /// The first half of a call: the thread is stopped where the kernel is about to begin it.
    pub fn enter(&mut self, number: u64, args: &[u64]) -> io::Result<()> {
        let mut words = [0; 6];
        for (word, arg) in words.iter_mut().zip(args) {
            *word = *arg;
        }
        let mut regs = self.before;
        let at = match &self.way_back {
            Some(way) => {
                regs.set_sp(way.sp);
                self.by.unwrap_or(way.call)
            }
            None => self.process.syscall_at,
        };
        regs.prepare_syscall(at, number, words);
        ptrace::set_regs(self.tid, &regs)?;
        // Signals are blocked meanwhile, so that no handler runs with our registers. Not before
        // these are set: from here on the thread brings its mask back.
        ptrace::set_sigmask(self.tid, ALL_SIGNALS)?;
        self.run_to_syscall_stop()
    }

    /// The second half: the thread is stopped where the kernel has ended the call.
    pub fn complete(&mut self) -> io::Result<u64> {
        self.run_to_syscall_stop()?;
        let result = ptrace::regs(self.tid)?.result();
        if (-4095..0).contains(&result) {
            let number = i32::try_from(-result).unwrap_or(errno::EINVAL);
            return Err(io::Error::from_raw_os_error(number));
        }
        Ok(result.cast_unsigned())
    }

    /// Stops of other kinds on the way are not for us to keep: signals are blocked, an interruption
    /// is repeated at the end.
    fn run_to_syscall_stop(&mut self) -> io::Result<()> {
        loop {
            ptrace::cont_to_syscall(self.tid, 0)?;
            match self.wait()? {
                Status::Syscall => return Ok(()),
                Status::Signal(signal) => self.came.push(signal),
                _ => {}
            }
        }
    }

    /// Waits for the thread; its end is kept for those who keep the books.
    fn wait(&mut self) -> io::Result<Status> {
        let status = wait::stop(self.tid)?;
        if matches!(status, Status::Exited(_) | Status::Killed(_)) {
            self.process.ends.push_back((self.tid, status));
            return Err(io::Error::from_raw_os_error(errno::ESRCH));
        }
        Ok(status)
    }

    /// Puts everything back and leaves the thread stopped as if nothing had happened.
    ///
    /// A thread interrupted in a system call must pass through the kernel's signal path with the
    /// registers it had, or `-ERESTARTSYS` would reach the program. So it is interrupted again and
    /// let run into that stop, which is before user code, in a group stop as well.
    pub fn finish(mut self) -> io::Result<()> {
        // The mask first: until its registers are back the thread would bring it back itself.
        ptrace::set_sigmask(self.tid, self.mask)?;
        ptrace::set_regs(self.tid, &self.before)?;
        if let Some(way) = self.way_back.take() {
            way.remove(self.process)?;
        }
        let owner = self.owner();
        for signal in std::mem::take(&mut self.came) {
            poll::kill_thread(owner, self.tid, signal)?;
        }
        ptrace::interrupt(self.tid)?;
        ptrace::cont(self.tid, 0)?;
        let status = self.wait()?;
        if let Some(thread) = self.process.threads.get_mut(&self.tid) {
            thread.state = State::Stopped(status);
        }
        Ok(())
    }

    /// `mmap(2)`.
    pub fn map(&mut self, request: MapRequest) -> io::Result<Addr> {
        let MapRequest {
            at,
            len,
            protection,
            flags,
            fd,
            offset,
        } = request;
        self.call(
            9,
            &[at.0, len, protection, flags, fd.cast_unsigned(), offset],
        )
        .map(Addr)
    }

    /// `munmap(2)`.
    pub fn unmap(&mut self, at: Addr, len: u64) -> io::Result<()> {
        self.call(11, &[at.0, len]).map(drop)
    }

    /// `madvise(2)`.
    pub fn advise(&mut self, at: Addr, len: u64, advice: u64) -> io::Result<()> {
        self.call(28, &[at.0, len, advice]).map(drop)
    }

    /// `close(2)`.
    pub fn close(&mut self, fd: i64) -> io::Result<()> {
        self.call(3, &[fd.cast_unsigned()]).map(drop)
    }

    /// `memfd_create(2)`; `name` is the address of its name.
    pub fn memfd(&mut self, name: Addr, flags: u64) -> io::Result<i64> {
        self.call(319, &[name.0, flags]).map(u64::cast_signed)
    }

    /// `socket(2)`: for datagrams on this machine, closed at exec.
    pub fn socket(&mut self) -> io::Result<i64> {
        const AF_UNIX: u64 = 1;
        const SOCK_DGRAM: u64 = 2;
        const SOCK_CLOEXEC: u64 = 0o2_000_000;
        let kind = SOCK_DGRAM | SOCK_CLOEXEC;
        self.call(41, &[AF_UNIX, kind, 0]).map(u64::cast_signed)
    }

    /// `bind(2)` to the name of `len` bytes at `name`.
    pub fn bind(&mut self, socket: i64, name: Addr, len: u64) -> io::Result<()> {
        let socket = socket.cast_unsigned();
        self.call(49, &[socket, name.0, len]).map(drop)
    }

    /// `recvmsg(2)` into the `struct msghdr` at `message`: what is there, without waiting;
    /// descriptors are closed at exec.
    pub fn receive(&mut self, socket: i64, message: Addr) -> io::Result<()> {
        const MSG_DONTWAIT: u64 = 0x40;
        const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
        let flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
        let socket = socket.cast_unsigned();
        self.call(47, &[socket, message.0, flags]).map(drop)
    }

    /// `membarrier(2)`.
    pub fn membarrier(&mut self, command: u64) -> io::Result<u64> {
        self.call(324, &[command, 0, 0])
    }

    /// `rt_sigaction(2)` as the kernel knows it: 32 bytes written to `out`, or set from `new`.
    pub fn sigaction(&mut self, signal: i32, new: Addr, out: Addr) -> io::Result<()> {
        self.call(13, &[i64::from(signal).cast_unsigned(), new.0, out.0, 8])
            .map(drop)
    }

    /// The thread that makes the calls.
    pub fn tid(&self) -> Tid {
        self.tid
    }
}

/// A thread that we stopped in a system call which then failed with `EINTR` for no signal at all
/// makes the call again (`ptrace(2)`, "Interrupted system calls").
pub fn restart_call(process: Pid, tid: Tid) -> io::Result<()> {
    let mut regs = ptrace::regs(tid)?;
    let in_call = regs.syscall().cast_unsigned() != NO_SYSCALL && regs.syscall() >= 0;
    if in_call && regs.result() == -i64::from(errno::EINTR) {
        let status = procfs::status(process, tid)?;
        // A signal that waits is why the call failed, or might be.
        if (status.pending | status.shared_pending) & !status.blocked == 0 {
            regs.rewind_syscall();
            ptrace::set_regs(tid, &regs)?;
        }
    }
    Ok(())
}

/// Why no call may be made in a thread with this status, if so.
pub fn seccomp(status: procfs::Status) -> Option<String> {
    let alike = || {
        let own = procfs::own_status().unwrap_or_default();
        own.seccomp == 2 && own.seccomp_filters == status.seccomp_filters
    };
    match status.seccomp {
        0 => None,
        1 => Some("it runs under strict seccomp: no system call could be made in it".to_owned()),
        // Filters are only ever added, so as many as we have are those we have.
        2 if alike() => canary(false),
        _ => Some(
            "it runs under seccomp filters of its own, which may kill it for a call made in it"
                .to_owned(),
        ),
    }
}

/// Why the filters that are ours too do not let calls be made, if so: they are tried once, in a
/// child of ours. `receiving`: those by which a descriptor is received as well.
fn canary(receiving: bool) -> Option<String> {
    static TRIED: [OnceLock<Option<String>>; 2] = [OnceLock::new(), OnceLock::new()];
    let tried = &TRIED[usize::from(receiving)];
    let tried = tried.get_or_init(|| match canary::forbidden(receiving) {
        Ok(None) => None,
        Ok(Some(call)) => Some(format!(
            "the seccomp filters that it and kptrace run under do not allow {call}"
        )),
        Err(error) => Some(format!(
            "it runs under seccomp filters that could not be tried: {error}"
        )),
    });
    tried.clone()
}

/// Arguments of [`Remote::map`]; flags and protection as `mmap(2)` numbers them.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Where, or 0 for the kernel's choice.
    pub at: Addr,
    /// Bytes, whole pages.
    pub len: u64,
    /// `PROT_*`.
    pub protection: u64,
    /// `MAP_*`.
    pub flags: u64,
    /// Descriptor in the target, -1 for none.
    pub fd: i64,
    /// Offset in it.
    pub offset: u64,
}
