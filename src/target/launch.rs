//! Starting a program: seized before it becomes that program, run to its entry point, where the
//! loader is done and nothing of the program has run.

use std::ffi::OsString;
use std::io;

use anyhow::Context as _;

use super::process::Process;
use super::thread::{State, Thread};
use crate::base::{Addr, Pid, Tid};
use crate::sys::poll::SignalMask;
use crate::sys::wait::{self, Status};
use crate::sys::{ptrace, spawn};

/// Why a program did not start.
#[derive(Debug)]
pub enum LaunchError {
    /// `execve` refused it.
    Exec(io::Error),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for LaunchError {
    fn from(error: anyhow::Error) -> Self {
        LaunchError::Other(error)
    }
}

/// A program on its way from `execve` to its entry point.
#[derive(Debug)]
pub struct Starting {
    /// Where the program begins.
    pub entry: Addr,
    /// The byte that a breakpoint replaced there.
    pub original: u8,
}

/// Starts `command`; it is stopped at its `execve`, with a breakpoint at its entry point.
pub fn launch(command: &[OsString], mask: SignalMask) -> Result<(Process, Starting), LaunchError> {
    let mut child = spawn::fork(command, mask).context("cannot start a process")?;
    let pid = child.pid;
    let tid = Tid(pid.0);
    ptrace::seize_or_kill(tid).context("cannot trace the process just started")?;
    child.go().context("cannot let the process go")?;
    loop {
        match wait::thread(tid).context("cannot wait for the process")? {
            Status::Exec => break,
            Status::Exited(_) | Status::Killed(_) => {
                return Err(LaunchError::Exec(child.failure()));
            }
            Status::Signal(signal) => ptrace::cont(tid, signal).context("cannot start it")?,
            _ => ptrace::cont(tid, 0).context("cannot start it")?,
        }
    }
    match begin(pid, tid) {
        Ok(started) => Ok(started),
        Err(error) => {
            // It has not run an instruction; the user asked for a traced run, so there is none.
            let _ = crate::sys::poll::kill(pid, crate::sys::errno::sig::KILL);
            let _ = wait::thread(tid);
            Err(LaunchError::Other(error))
        }
    }
}

fn begin(pid: Pid, tid: Tid) -> anyhow::Result<(Process, Starting)> {
    anyhow::ensure!(
        ptrace::regs(tid)?.is_64_bit(),
        "it is a 32-bit program; kptrace traces 64-bit x86 programs"
    );
    let mut process = Process::new(pid, tid).context("cannot look into it")?;
    let mut thread = Thread::new(pid);
    // The stop at exec is dealt with: what follows is a program that is about to run.
    thread.state = State::Stopped(Status::Interrupted);
    process.threads.insert(tid, thread);
    let entry = Addr(process.auxv.entry);
    let mut original = [0];
    process
        .memory
        .read(entry, &mut original)
        .context("cannot read its entry point")?;
    process
        .memory
        .write(entry, &[0xcc])
        .context("cannot set a breakpoint at its entry point")?;
    Ok((
        process,
        Starting {
            entry,
            original: original[0],
        },
    ))
}
