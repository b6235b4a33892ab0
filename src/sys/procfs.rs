//! `/proc/PID`: files whose form changes between kernels. Nothing here panics; what cannot be
//! parsed is left out (`proc(5)`).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::base::{Addr, Pid, Span, Tid};

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where it lies.
    pub span: Span,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
    /// Shared with the file or with others.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file, `major << 32 | minor`.
    pub device: u64,
    /// Inode of the file; 0 when there is none.
    pub inode: u64,
    /// Path as the target's mount namespace had it, without ` (deleted)`; or `[heap]` and the like.
    pub path: String,
    /// The file has no name any more.
    pub deleted: bool,
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_start_matches(' ');
        let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        (!word.is_empty()).then_some(word)
    };
    let (start, end) = word()?.split_once('-')?;
    let access = word()?.as_bytes();
    let offset = word()?;
    let (major, minor) = word()?.split_once(':')?;
    let inode = word()?;
    let path = rest.trim_start_matches(' ');
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let plain = path.strip_suffix(" (deleted)");
    Some(Mapping {
        span: Span {
            start: Addr(hex(start)?),
            end: Addr(hex(end)?),
        },
        read: access.first() == Some(&b'r'),
        write: access.get(1) == Some(&b'w'),
        exec: access.get(2) == Some(&b'x'),
        shared: access.get(3) == Some(&b's'),
        offset: hex(offset)?,
        device: hex(major)? << 32 | hex(minor)?,
        inode: inode.parse().ok()?,
        path: plain.unwrap_or(path).to_owned(),
        deleted: plain.is_some(),
    })
}

/// The mappings of a process, seen through a living thread of it.
pub fn maps(pid: Pid, tid: Tid) -> io::Result<Vec<Mapping>> {
    // Names may hold any byte.
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/maps"))?;
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(parse_mapping)
        .collect())
}

/// All processes that are visible.
pub fn processes() -> Vec<Pid> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(number).map(Pid).collect()
}

/// The executable of a process, as its link has it; `None` where we may not know. Untrusted.
pub fn executable(pid: Pid) -> Option<OsString> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Some(OsString::from_vec(bytes.to_vec()))
}

/// The threads of a process.
pub fn tasks(pid: Pid) -> io::Result<Vec<Tid>> {
    let mut tids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Some(tid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            tids.push(Tid(tid));
        }
    }
    Ok(tids)
}

/// The children that a thread made; none where the kernel does not tell (`CONFIG_PROC_CHILDREN`).
pub fn children(pid: Pid, tid: Tid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/children"));
    let text = text.unwrap_or_default();
    let children = text.split_whitespace().filter_map(|word| word.parse().ok());
    children.map(Pid).collect()
}

/// What `/proc/PID/task/TID/status` says of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Process the thread belongs to.
    pub process: i32,
    /// State letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`.
    pub state: u8,
    /// The process it is a child of.
    pub parent: i32,
    /// Who traces it; 0 for nobody.
    pub tracer: i32,
    /// Real and effective user.
    pub uid: [u32; 2],
    /// Real and effective group.
    pub gid: [u32; 2],
    /// Signals sent to it alone that wait for it.
    pub pending: u64,
    /// Signals sent to its process that wait for any thread.
    pub shared_pending: u64,
    /// Signals it blocks.
    pub blocked: u64,
    /// Signals the process ignores.
    pub ignored: u64,
    /// Signals the process has handlers for.
    pub caught: u64,
    /// Seccomp mode: 0 none, 1 strict, 2 filters.
    pub seccomp: u32,
    /// Number of seccomp filters, where the kernel tells.
    pub seccomp_filters: Option<u32>,
    /// It is a thread of the kernel, where the kernel tells (since 6.8).
    pub kernel: bool,
    /// It has a shadow stack: returns must match calls (`x86_Thread_features`).
    pub shadow_stack: bool,
    /// Times it was switched off a core, of its own will and not.
    pub switches: u64,
}

fn parse_status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let hex = || u64::from_str_radix(value, 16).unwrap_or(0);
        match key {
            "Tgid" => status.process = value.parse().unwrap_or(0),
            "State" => status.state = value.bytes().next().unwrap_or(0),
            "PPid" => status.parent = value.parse().unwrap_or(0),
            "TracerPid" => status.tracer = value.parse().unwrap_or(0),
            "Uid" | "Gid" => {
                let mut ids = value.split_whitespace().map(|id| id.parse().unwrap_or(0));
                let ids = [ids.next().unwrap_or(0), ids.next().unwrap_or(0)];
                *(if key == "Uid" {
                    &mut status.uid
                } else {
                    &mut status.gid
                }) = ids;
            }
            "SigPnd" => status.pending = hex(),
            "ShdPnd" => status.shared_pending = hex(),
            "SigBlk" => status.blocked = hex(),
            "SigIgn" => status.ignored = hex(),
            "SigCgt" => status.caught = hex(),
            "Seccomp" => status.seccomp = value.parse().unwrap_or(0),
            "Seccomp_filters" => status.seccomp_filters = value.parse().ok(),
            "Kthread" => status.kernel = value == "1",
            "x86_Thread_features" => {
                status.shadow_stack = value.split_whitespace().any(|word| word == "shstk");
            }
            "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => {
                status.switches = status.switches.wrapping_add(value.parse().unwrap_or(0));
            }
            _ => {}
        }
    }
    status
}

/// The status of a thread.
pub fn status(pid: Pid, tid: Tid) -> io::Result<Status> {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).map(|text| parse_status(&text))
}

/// Whether two tasks share their memory (`kcmp(2)`); `None` where the kernel does not tell.
pub fn same_memory(a: Tid, b: Tid) -> Option<bool> {
    const KCMP_VM: i32 = 1;
    // SAFETY: five integers; no memory is touched.
    match unsafe { nix::libc::syscall(nix::libc::SYS_kcmp, a.0, b.0, KCMP_VM, 0, 0) } {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

/// The status of this process.
pub fn own_status() -> io::Result<Status> {
    fs::read_to_string("/proc/self/status").map(|text| parse_status(&text))
}

/// Where a thread is, as `/proc/PID/task/TID/syscall` tells without stopping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On a core, or waiting for one.
    Running,
    /// Blocked in the kernel; `number` is negative outside system calls.
    Blocked {
        /// System call number.
        number: i64,
        /// Stack pointer.
        sp: Addr,
        /// Program counter, after the `syscall` instruction.
        pc: Addr,
    },
}

fn parse_where(text: &str) -> Option<Where> {
    if text.starts_with("running") {
        return Some(Where::Running);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let hex = |word: &&str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let [.., sp, pc] = words.as_slice() else {
        return None;
    };
    let number = words.first()?.parse().ok()?;
    Some(Where::Blocked {
        number,
        sp: Addr(hex(sp)?),
        pc: Addr(hex(pc)?),
    })
}

/// Where a thread is now; [`Where::Running`] when the kernel does not tell.
pub fn whereabouts(pid: Pid, tid: Tid) -> io::Result<Where> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"))?;
    Ok(parse_where(&text).unwrap_or(Where::Running))
}

/// A field of a `stat` file, numbered from 1 as in `proc_pid_stat(5)`; not the first two.
fn stat(path: &str, field: usize) -> Option<u64> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    // The command name may hold anything, closing parentheses included: field 3 follows the last.
    let (_, fields) = text.rsplit_once(')')?;
    fields
        .split_whitespace()
        .nth(field.checked_sub(3)?)?
        .parse()
        .ok()
}

/// Where a process's program break started; `None` when the kernel does not tell.
pub fn start_brk(pid: Pid) -> Option<Addr> {
    let start = stat(&format!("/proc/{pid}/stat"), 47)?;
    (start != 0).then_some(Addr(start))
}

/// When a thread started, in clock ticks since boot: with its number, a name that is not used twice.
pub fn start_time(pid: Pid, tid: Tid) -> Option<u64> {
    stat(&format!("/proc/{pid}/task/{tid}/stat"), 22)
}

/// Where this process's arguments lie.
pub(super) fn own_arguments() -> Option<(u64, u64)> {
    Some((stat("/proc/self/stat", 48)?, stat("/proc/self/stat", 49)?))
}

/// Whether there is such a process.
pub fn is_there(pid: Pid) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// A variable of the environment that a process began with, where it may be read; untrusted.
pub fn variable(pid: Pid, name: &str) -> Option<OsString> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|variable| {
        let rest = variable.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    value.map(|value| OsString::from_vec(value.to_vec()))
}

/// The command name of a process or thread, without the final newline; untrusted.
pub fn comm(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .trim_end_matches('\n')
        .to_owned()
}

/// The name of a thread as the kernel keeps it, with zeros behind; untrusted.
pub fn thread_name(pid: Pid, tid: Tid) -> io::Result<[u8; 16]> {
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/comm"))?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut name = [0; 16];
    for (to, &from) in name[..15].iter_mut().zip(bytes) {
        *to = from;
    }
    Ok(name)
}

/// Values of the auxiliary vector (`getauxval(3)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auxv {
    /// Entry point of the program.
    pub entry: u64,
    /// Base of the program interpreter, 0 without one.
    pub base: u64,
    /// Program headers of the program.
    pub phdr: u64,
    /// How many there are.
    pub phnum: u64,
    /// The vdso's ELF header.
    pub vdso: u64,
    /// Second word of hardware capabilities.
    pub hwcap2: u64,
    /// Set-user-id and the like.
    pub secure: bool,
}

/// Bit of [`Auxv::hwcap2`]: user code may read and write the fs and gs bases.
pub const HWCAP2_FSGSBASE: u64 = 1 << 1;

/// The auxiliary vector of a thread's process. `/proc/TID` is there for every thread, and a leader
/// that has ended has nothing to show.
pub fn auxv(tid: Tid) -> io::Result<Auxv> {
    let bytes = fs::read(format!("/proc/{tid}/auxv"))?;
    let mut auxv = Auxv::default();
    for pair in bytes.chunks_exact(16) {
        let (key, value) = pair.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let value = word(value);
        match word(key) {
            3 => auxv.phdr = value,
            5 => auxv.phnum = value,
            7 => auxv.base = value,
            9 => auxv.entry = value,
            23 => auxv.secure = value != 0,
            26 => auxv.hwcap2 = value,
            33 => auxv.vdso = value,
            _ => {}
        }
    }
    Ok(auxv)
}

/// Paths under which a mapped file may be read, best first: exactly the mapped file where the
/// kernel lets us, else by name in the target's own root, or in ours: the kernel tells the name that a
/// file has for us where it has one, and a target with another root knows it by another (`d_path` in
/// `fs/d_path.c`). Any thread that lives will do.
pub fn file_paths(tid: Tid, mapping: &Mapping) -> Vec<PathBuf> {
    let Span { start, end } = mapping.span;
    let mut paths = vec![PathBuf::from(format!(
        "/proc/{tid}/map_files/{:x}-{:x}",
        start.0, end.0
    ))];
    if mapping.path.starts_with('/') && !mapping.deleted {
        let theirs = PathBuf::from(format!("/proc/{tid}/root{}", mapping.path));
        let ours = PathBuf::from(&mapping.path);
        let same = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.ino() == mapping.inode);
        if !same(&theirs) && same(&ours) {
            paths.push(ours);
        }
        paths.push(theirs);
    }
    paths
}

/// Open memory files of a process that are called `name`: descriptor, inode, first bytes.
pub fn objects(pid: Pid, name: &str) -> Vec<(i64, u64, Vec<u8>)> {
    use std::os::unix::fs::FileExt;
    let called = format!("{name} (deleted)");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let look = |entry: fs::DirEntry| {
        let descriptor = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        if fs::read_link(&path).ok()?.to_str()? != called {
            return None;
        }
        let file = fs::File::open(&path).ok()?;
        let mut head = vec![0; 4096];
        let got = file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(got);
        Some((descriptor, file.metadata().ok()?.ino(), head))
    };
    entries.flatten().filter_map(look).collect()
}

/// Yama's `ptrace_scope`, where that module is active.
pub fn yama_scope() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_spaces_is_one_path() {
        let line = "7f00-7f10 r-xp 00001000 08:01 42                 /a b/c (deleted)";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!(
            (mapping.path.as_str(), mapping.deleted, mapping.inode),
            ("/a b/c", true, 42)
        );
        assert!(mapping.exec && !mapping.write && !mapping.shared);
    }

    #[test]
    fn broken_lines_are_left_out() {
        for line in [
            "",
            "x",
            "1-",
            "1-2",
            "1-2 r-xp",
            "1-2 r-xp zz 0:0 1",
            "1-2 r-xp 0 0 1",
        ] {
            assert_eq!(parse_mapping(line), None, "{line}");
        }
    }

    #[test]
    fn a_blocked_thread_tells_where_it_is() {
        let text = "232 0x5 0x7ffc 0x1 0xffff 0x0 0x0 0x7ffe10 0x7f12\n";
        let expected = Where::Blocked {
            number: 232,
            sp: Addr(0x7ffe10),
            pc: Addr(0x7f12),
        };
        assert_eq!(parse_where(text), Some(expected));
        assert_eq!(parse_where("running\n"), Some(Where::Running));
        assert_eq!(parse_where(""), None);
    }

    #[test]
    fn own_files_parse() {
        let pid = Pid(std::process::id().cast_signed());
        assert!(auxv(Tid(pid.0)).unwrap().entry != 0);
        assert!(maps(pid, Tid(pid.0)).unwrap().iter().any(|m| m.exec));
        assert_eq!(own_status().unwrap().process, pid.0);
        assert!(start_brk(pid).is_some());
    }
}
