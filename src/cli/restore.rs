//! `restore`: takes out of a process what a kptrace that died left in it, and says what that was.
//! `attach` does so first where it must.

use super::args::Restore;
use super::complain;
use super::exit::Exit;
use super::trace::in_tracer;
use crate::base::Pid;
use crate::output::counted;
use crate::session::{Restored, restore};
use crate::sys::procfs;
use crate::target::{self, Process};

/// What was done, in a line, and what could not be, a line each.
fn lines(pid: Pid, restored: &Restored) -> Vec<String> {
    let mut done = vec![format!("{} restored", counted(restored.sites, "site"))];
    if restored.handler {
        done.push("a handler of SIGTRAP removed".to_owned());
    }
    if restored.freed > 0 {
        done.push("its memory unmapped".to_owned());
    }
    let mut lines = vec![format!(
        "process {pid} was left traced by a kptrace that died: {}",
        done.join(", ")
    )];
    if restored.foreign > 0 {
        lines.push(format!(
            "{} of its text {} by somebody else, and left alone",
            counted(restored.foreign, "byte"),
            if restored.foreign == 1 {
                "was changed"
            } else {
                "were changed"
            },
        ));
    }
    let left = restored.left.iter();
    lines.extend(left.map(|what| format!("left in process {pid}: {what}")));
    lines
}

/// Restores a process that is about to be traced, in one line when all goes well.
pub(super) fn first(process: &mut Process, quiet: bool) -> anyhow::Result<()> {
    let pid = process.pid;
    if process.leftovers(&process.maps()?).is_empty() {
        return Ok(());
    }
    if let Some(restored) = restore(process)? {
        let lines = lines(pid, &restored);
        let wrong = !restored.left.is_empty();
        for line in lines.iter().filter(|_| wrong || !quiet) {
            complain(format_args!("{line}"));
        }
    }
    Ok(())
}

/// Tells of what cannot be told from the process's own: an object is ours by what we write into it,
/// and a kptrace that was killed in the instant before has written nothing.
fn doubtful(pid: Pid) {
    let objects = procfs::objects(pid, "/memfd:").into_iter();
    for (descriptor, _, _) in objects.filter(|(_, _, head)| head.is_empty()) {
        complain(format_args!(
            "descriptor {descriptor} of process {pid} is an empty memory file without a name: it \
             may be kptrace's, and was left alone"
        ));
    }
}

/// `kptrace restore`.
pub(super) fn run(args: &Restore) -> Exit {
    let pid = args.pid;
    let restored = in_tracer(move || {
        let mut process = target::attach(pid)?;
        restore(&mut process).map_err(|error| error.context(format!("cannot restore {pid}")))
    });
    match restored {
        Ok(Some(restored)) => {
            let whole = restored.left.is_empty();
            for line in lines(pid, &restored)
                .iter()
                .filter(|_| !whole || !args.quiet)
            {
                complain(format_args!("{line}"));
            }
            doubtful(pid);
            if whole { Exit::Success } else { Exit::Failure }
        }
        Ok(None) => {
            doubtful(pid);
            if !args.quiet {
                complain(format_args!(
                    "nothing of kptrace's was left in process {pid}"
                ));
            }
            Exit::Success
        }
        Err(error) => {
            complain(format_args!("{error:#}"));
            Exit::Failure
        }
    }
}
