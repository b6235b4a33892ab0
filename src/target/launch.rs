//! Starting a program: seized before it becomes that program, stopped before its first instruction.

use std::ffi::OsString;
use std::io;

use anyhow::Context as _;

use super::process::Process;
use super::thread::{State, Thread};
use crate::base::{Pid, Tid};
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

/// Starts `command`; it is stopped at its `execve`.
pub fn launch(command: &[OsString], mask: SignalMask) -> Result<Process, LaunchError> {
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

fn begin(pid: Pid, tid: Tid) -> anyhow::Result<Process> {
    anyhow::ensure!(
        ptrace::regs(tid)?.is_64_bit(),
        "it is a 32-bit program; kptrace traces 64-bit x86 programs"
    );
    let mut process = Process::new(pid, tid).context("cannot look into it")?;
    let mut thread = Thread::new(pid);
    thread.state = State::Stopped(Status::Exec);
    process.threads.insert(tid, thread);
    Ok(process)
}
