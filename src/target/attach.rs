//! Becoming the tracer of a running process: every thread seized, none stopped. Whatever stands in
//! the way is told in one line, and nothing is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};

use anyhow::{Context as _, bail};

use super::process::Process;
use super::remote::seccomp;
use super::thread::Thread;
use crate::base::{Pid, Tid};
use crate::sys::{errno, file, procfs, ptrace};

/// Seizes every thread of a process.
pub fn attach(pid: Pid) -> anyhow::Result<Process> {
    let what = format!("cannot attach to {pid}");
    examine(pid).with_context(|| what.clone())?;
    let mut seized = BTreeSet::new();
    // Threads are born while we look: until two passes in a row find nobody new.
    let mut quiet = 0;
    while quiet < 2 {
        quiet += 1;
        let tasks = procfs::tasks(pid).with_context(|| format!("{what}: it has ended"))?;
        for tid in tasks {
            if seized.contains(&tid) {
                continue;
            }
            match ptrace::seize(tid) {
                Ok(()) => {
                    seized.insert(tid);
                    quiet = 0;
                }
                // It ended, or is a leader that has; or it was born a tracee of ours.
                Err(error) if errno::is_gone(&error) => {}
                Err(error) if errno::number(&error) == errno::EPERM => {
                    // Ended since, and gone.
                    let Ok(status) = procfs::status(pid, tid) else {
                        continue;
                    };
                    if process_of(status.tracer) == std::process::id().cast_signed() {
                        seized.insert(tid);
                        quiet = 0;
                    } else if status.state != b'Z' && status.state != b'X' {
                        bail!("{what}: {}", why_not(pid, tid));
                    }
                }
                Err(error) => return Err(error).with_context(|| what.clone()),
            }
        }
    }
    // The leader stays longest, unless it has ended already.
    let leader = seized.get(&Tid(pid.0)).or_else(|| seized.first());
    let Some(&tid) = leader else {
        bail!("{what}: it has ended")
    };
    let mut process = Process::new(pid, tid).with_context(|| what)?;
    process.threads = seized
        .into_iter()
        .map(|tid| (tid, Thread::new(pid)))
        .collect();
    borrowers(&mut process);
    Ok(process)
}

/// Seizes children that share the memory (vfork, `CLONE_VM`): they would run into what is written.
/// What cannot be seized is on its way to an exec or its end.
fn borrowers(process: &mut Process) {
    let mut parents: Vec<(Pid, Tid)> = process
        .threads
        .iter()
        .map(|(&tid, thread)| (thread.process, tid))
        .collect();
    while let Some((pid, tid)) = parents.pop() {
        for child in procfs::children(pid, tid) {
            if procfs::same_memory(tid, Tid(child.0)) != Some(true) {
                continue;
            }
            for task in procfs::tasks(child).unwrap_or_default() {
                if ptrace::seize(task).is_ok() {
                    process.threads.insert(task, Thread::new(child));
                    parents.push((child, task));
                }
            }
        }
    }
}

/// Looks before anything is touched.
fn examine(pid: Pid) -> anyhow::Result<()> {
    let tid = Tid(pid.0);
    let status = match procfs::status(pid, tid) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("no such process"),
        Err(error) => return Err(error.into()),
    };
    if status.process != pid.0 {
        bail!(
            "it is a thread of process {0}; to trace that: kptrace attach {0}",
            status.process
        );
    }
    if pid.0.cast_unsigned() == std::process::id() {
        bail!("that is kptrace itself");
    }
    if status.tracer != 0 {
        bail!("{}", traced_by(status.tracer));
    }
    let tasks = procfs::tasks(pid).unwrap_or_default();
    if matches!(status.state, b'Z' | b'X') && tasks.len() <= 1 {
        bail!("it is a zombie: it has ended, and its parent has not asked how");
    }
    // A thread without filters serves for all.
    let served = |&tid: &Tid| procfs::status(pid, tid).is_ok_and(|s| seccomp(s).is_none());
    if let Some(why) = seccomp(status)
        && !tasks.iter().any(served)
    {
        bail!("{why}");
    }
    match fs::File::open(format!("/proc/{pid}/exe")) {
        Ok(mut exe) => {
            let mut header = [0; 20];
            exe.read_exact(&mut header).context("reading its program")?;
            class(&header)?;
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("{}", why_not(pid, tid));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !matches!(status.state, b'Z') => {
            bail!("it is a kernel thread");
        }
        Err(_) => {}
    }
    Ok(())
}

/// Refuses what is not x86-64 by its ELF header (gABI: `EI_CLASS`, `e_machine`).
fn class(header: &[u8; 20]) -> anyhow::Result<()> {
    match (header[4], u16::from_le_bytes([header[18], header[19]])) {
        (2, 62) => Ok(()),
        (1, _) => bail!("it is a 32-bit program; kptrace traces 64-bit x86 programs"),
        (_, machine) => bail!("it is a program for another machine (ELF machine {machine})"),
    }
}

/// The process of a tracer: `TracerPid` names the thread that traces.
fn process_of(task: i32) -> i32 {
    procfs::status(Pid(task), Tid(task)).map_or(task, |status| status.process)
}

fn traced_by(tracer: i32) -> String {
    let tracer = process_of(tracer);
    let name = procfs::comm(Pid(tracer));
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    format!("already traced by pid {tracer} ({name})")
}

/// Why the kernel said no (`ptrace(2)`, "Ptrace access mode checking").
fn why_not(pid: Pid, tid: Tid) -> String {
    let Ok(status) = procfs::status(pid, tid) else {
        return "it has ended".to_owned();
    };
    if status.tracer != 0 {
        return traced_by(status.tracer);
    }
    let user = file::user();
    if status.uid[0] != user && user != 0 {
        return format!(
            "it belongs to user {}; run kptrace as that user",
            status.uid[0]
        );
    }
    if status.uid[0] != status.uid[1] {
        return "it runs set-user-id; the kernel lets only root trace it".to_owned();
    }
    match procfs::yama_scope() {
        Some(1) => "kernel.yama.ptrace_scope is 1: start it with kptrace run, or let it call \
                    prctl(PR_SET_PTRACER), or ask an administrator to set the scope to 0"
            .to_owned(),
        Some(2) => "kernel.yama.ptrace_scope is 2: only an administrator may attach".to_owned(),
        Some(3) => "kernel.yama.ptrace_scope is 3: nobody may attach".to_owned(),
        _ => "not permitted: it made itself undumpable, or has rights that we have not".to_owned(),
    }
}
