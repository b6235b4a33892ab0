//! Starting kptrace and targets, with pipes, and seeing them end.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{LIMIT, Lines};

/// The kptrace under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_kptrace")
}

/// A cache directory of this build's own: warm, and never from an analysis that was different.
fn cache() -> &'static PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let binary = fs::metadata(binary()).expect("kptrace is built");
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let name = format!("{}-{}", binary.mtime(), binary.mtime_nsec());
        for old in fs::read_dir(&place).into_iter().flatten().flatten() {
            if old.file_name() != *name {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let path = place.join(name);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&path).expect("the cache can be created");
        path
    })
}

/// A command with the tests' environment: no colours asked for, a cache of its own.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("XDG_CACHE_HOME", cache())
        .env("LC_ALL", "C")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

/// How something ended, and all it wrote.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its exit status; a signal is no status.
    pub fn code(&self) -> i32 {
        let status = self.status;
        let code = status.code();
        code.unwrap_or_else(|| panic!("{status}\n{}\n{}", self.out, self.err))
    }

    /// Itself, having ended with `code`.
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.out,
            self.err
        );
        self
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Runs kptrace to its end.
pub fn kptrace<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let mut command = command(binary());
    command.args(args);
    start(command).end()
}

/// The same where every directory of the path can be searched.
pub fn plain_path<S: AsRef<OsStr>>(args: &[S]) -> Ended {
    let mut command = command(binary());
    command.env("PATH", "/usr/bin:/bin").args(args);
    start(command).end()
}

/// Something that runs, in a process group of its own.
pub struct Running {
    child: Child,
    ended: bool,
    /// Its standard input, if the command left it to us by `Stdio::piped`.
    pub stdin: Option<ChildStdin>,
    pub out: Lines,
    pub err: Lines,
}

/// Starts a command with pipes for what it writes.
pub fn start(mut command: Command) -> Running {
    command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().to_string_lossy()));
    let out = Lines::of(child.stdout.take().expect("a pipe"));
    let err = Lines::of(child.stderr.take().expect("a pipe"));
    Running {
        stdin: child.stdin.take(),
        child,
        ended: false,
        out,
        err,
    }
}

impl Running {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it alone, not to its group.
    pub fn signal(&self, signal: Signal) {
        kill(self.raw(), signal).expect("it runs");
    }

    /// Sends a signal to its whole group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.raw(), signal).expect("it runs");
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("a pipe to write to");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// Its end, within the limit; its standard input is closed.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let status = self.wait();
        let take = |lines: &mut Lines| {
            let lines = std::mem::replace(lines, Lines::of(std::io::empty()));
            String::from_utf8_lossy(&lines.into_rest()).into_owned()
        };
        Ended {
            status,
            out: take(&mut self.out),
            err: take(&mut self.err),
        }
    }

    /// Whether it ends within a time.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        self.wait_within(time).is_some()
    }

    fn wait(&mut self) -> ExitStatus {
        self.wait_within(LIMIT).unwrap_or_else(|| {
            let (out, err) = (self.out.so_far(), self.err.so_far());
            panic!("does not end; stdout:\n{out}\nstderr:\n{err}")
        })
    }

    fn wait_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + time;
        // An exit is not an event that a pipe tells: what it started may hold the pipes open.
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                self.ended = true;
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn raw(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process number"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = killpg(self.raw(), Signal::SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
