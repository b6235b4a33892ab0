//! Which processes `attach` is about: numbers, and names as they are called now; and becoming their
//! tracer. Whether one may be traced is found out by tracing it: where numbers were given, one that
//! cannot be is an error and nobody is touched; where names were, it is left out and named.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use anyhow::Context as _;

use super::complain;
use super::restore;
use crate::base::{Pid, Tid};
use crate::spec::{NameText, Pattern};
use crate::sys::procfs;
use crate::target::{self, Process};

/// Characters of a command name that the kernel keeps (`TASK_COMM_LEN` less the zero).
const COMM: usize = 15;

/// A name of processes: the command name or that of the executable; a glob, a `/regex/`, or the whole
/// path of the executable.
#[derive(Debug)]
pub(super) struct Name {
    text: String,
    pattern: Pattern,
}

impl Name {
    /// Reads a name.
    pub(super) fn new(text: &str) -> Result<Name, String> {
        let regex = text.strip_prefix('/').and_then(|t| t.strip_suffix('/'));
        let name = match regex {
            Some(regex) => NameText::Regex(regex.to_owned()),
            None if text.contains(['*', '?']) => NameText::Glob(text.to_owned()),
            None => NameText::Exact(text.to_owned()),
        };
        let pattern = Pattern::new(&name).map_err(|why| format!("--name {text}: {why}"))?;
        Ok(Name {
            text: text.to_owned(),
            pattern,
        })
    }

    fn matches(&self, comm: &str, path: &str) -> bool {
        let file = path.rsplit('/').next().unwrap_or(path);
        // What is longer the kernel cuts, which shows where the executable is an interpreter.
        let cut = self.text.len() > COMM && self.text.get(..COMM) == Some(comm);
        let is = |name: &str| !name.is_empty() && self.pattern.matches(name);
        is(comm) || is(file) || is(path) || cut
    }
}

/// Processes that are to be traced.
#[derive(Debug)]
pub(super) struct Targets {
    given: BTreeSet<Pid>,
    names: Vec<Name>,
    called: BTreeSet<Pid>,
}

/// Why there is nobody to trace.
#[derive(Debug)]
pub(super) enum Unfound {
    /// A name cannot be read.
    Wrong(String),
    /// Nobody is called so.
    Nobody(String),
}

impl Targets {
    /// One process.
    pub(super) fn one(pid: Pid) -> Targets {
        Targets {
            given: BTreeSet::from([pid]),
            names: Vec::new(),
            called: BTreeSet::new(),
        }
    }

    /// Those of these numbers, and those that are called by these names now.
    pub(super) fn find(pids: &[Pid], names: &[String]) -> Result<Targets, Unfound> {
        let names: Result<Vec<Name>, String> = names.iter().map(|name| Name::new(name)).collect();
        let names = names.map_err(Unfound::Wrong)?;
        let called = running(&names);
        let nobody = |name: &&Name| running(std::slice::from_ref(*name)).is_empty();
        if let Some(name) = names.iter().find(nobody) {
            return Err(Unfound::Nobody(format!(
                "no process is called {}",
                name.text
            )));
        }
        let given = pids.iter().copied().collect();
        Ok(Targets {
            given,
            names,
            called,
        })
    }

    /// Whether some were named, and so may be left out.
    pub(super) fn by_name(&self) -> bool {
        !self.names.is_empty()
    }

    /// Their numbers.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.given.union(&self.called).copied().collect()
    }

    /// Becomes their tracer; what a kptrace that died left in them is taken out first.
    pub(super) fn seize(self, quiet: bool) -> anyhow::Result<Vec<Process>> {
        let mut seized = Vec::new();
        let mut wrong = Vec::new();
        for &pid in &self.given {
            match seize(pid, quiet) {
                Ok(process) => seized.push(process),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        if !wrong.is_empty() {
            anyhow::bail!(wrong.join("\n"));
        }
        let mut known = self.given;
        let mut called = self.called;
        // Some are born while we look.
        while !called.is_empty() {
            for pid in called.difference(&known) {
                match seize(*pid, quiet) {
                    Ok(process) => seized.push(process),
                    Err(error) => wrong.push(format!("{error:#}")),
                }
            }
            known.append(&mut called);
            called = running(&self.names);
            called.retain(|pid| !known.contains(pid) && !is_ours(*pid));
        }
        if seized.is_empty() {
            anyhow::bail!(wrong.join("\n"));
        }
        for line in wrong.iter().filter(|_| !quiet) {
            complain(format_args!("{line}; it is left out"));
        }
        Ok(seized)
    }
}

fn seize(pid: Pid, quiet: bool) -> anyhow::Result<Process> {
    let mut process = target::attach(pid)?;
    restore::first(&mut process, quiet).with_context(|| format!("cannot restore {pid}"))?;
    Ok(process)
}

/// Whether a process is traced by us: the child of one that is.
fn is_ours(pid: Pid) -> bool {
    let of = |pid: Pid| procfs::status(pid, Tid(pid.0));
    let tracer = of(pid).map(|status| Pid(status.tracer));
    let process = tracer.and_then(of).map(|status| status.process);
    process.is_ok_and(|process| process == std::process::id().cast_signed())
}

/// Processes that run and are called by one of these names; not this one, and no threads of the kernel.
fn running(names: &[Name]) -> BTreeSet<Pid> {
    if names.is_empty() {
        return BTreeSet::new();
    }
    let own = Pid(std::process::id().cast_signed());
    let is_called = |pid: &Pid| {
        let comm = procfs::comm(*pid);
        let path = procfs::executable(*pid);
        let path = path.as_deref().unwrap_or(OsStr::new("")).to_string_lossy();
        names.iter().any(|name| name.matches(&comm, &path))
    };
    let goes_on = |pid: &Pid| {
        let status = procfs::status(*pid, Tid(pid.0));
        status.is_ok_and(|status| !matches!(status.state, b'Z' | b'X') && !status.kernel)
    };
    let all = procfs::processes().into_iter();
    all.filter(|pid| *pid != own && is_called(pid) && goes_on(pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(text: &str, comm: &str, path: &str) -> bool {
        Name::new(text).unwrap().matches(comm, path)
    }

    #[test]
    fn a_name_is_the_command_name_or_that_of_the_executable() {
        assert!(means("redis-server", "redis-server", ""));
        assert!(means(
            "redis-check-rdb",
            "other",
            "/usr/bin/redis-check-rdb"
        ));
        assert!(means("/usr/bin/dash", "sh", "/usr/bin/dash"));
        assert!(!means("redis", "redis-server", "/usr/bin/redis-server"));
        assert!(!means("", "sh", ""));
    }

    #[test]
    fn globs_and_regular_expressions_are_names() {
        assert!(means("redis-*", "redis-server", ""));
        assert!(means("/^redis-(server|sentinel)$/", "redis-sentinel", ""));
        assert!(!means("/^redis$/", "redis-server", ""));
        assert!(Name::new("/(/").unwrap_err().contains("--name /(/"));
    }

    #[test]
    fn a_name_that_the_kernel_cuts_is_known_by_its_beginning() {
        assert!(means(
            "a-long-script-name.py",
            "a-long-script-n",
            "/usr/bin/python3.11"
        ));
        assert!(!means("a-long-script-name.py", "a-long-script", ""));
    }
}
