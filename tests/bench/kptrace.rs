//! The tracer under test: a target below it, and a pipe on which its results arrive.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::target::Target;

/// How long nothing must arrive before we believe that nothing more will.
const QUIET: Duration = Duration::from_millis(300);

/// The binary of this build, with a directory of its own for stored analyses.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kptrace"));
    command
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .stderr(Stdio::null());
    command
}

/// What came out of the tracer so far: lines, and the last of them that is not empty.
struct Results {
    lines: Arc<AtomicU64>,
    reader: JoinHandle<String>,
}

impl Results {
    fn read_from(path: PathBuf) -> Results {
        let lines = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            let (mut last, mut line) = (Vec::new(), Vec::new());
            let Ok(mut file) = File::open(path) else {
                return String::new();
            };
            let mut buffer = vec![0; 1 << 16];
            while let Ok(got @ 1..) = file.read(&mut buffer) {
                let got = &buffer[..got];
                let ends = got.iter().filter(|&&byte| byte == b'\n').count();
                count.fetch_add(ends as u64, Ordering::Relaxed);
                let Some(end) = got.iter().rposition(|&byte| byte == b'\n') else {
                    line.extend_from_slice(got);
                    continue;
                };
                let mut ended = got[..end].rsplit(|&byte| byte == b'\n');
                let full = ended.find(|line| !line.is_empty());
                if full.is_none() || ended.next().is_none() {
                    // The first one goes on where the read before stopped.
                    line.extend_from_slice(full.unwrap_or_default());
                    if !line.is_empty() {
                        std::mem::swap(&mut last, &mut line);
                    }
                } else {
                    last.clear();
                    last.extend_from_slice(full.unwrap_or_default());
                }
                line.clear();
                line.extend_from_slice(&got[end + 1..]);
            }
            String::from_utf8_lossy(&last).into_owned()
        });
        Results { lines, reader }
    }
}

/// A target under the tracer.
pub struct Traced {
    /// The target.
    pub target: Target,
    results: Results,
}

/// How it ended.
pub struct Ended {
    /// Lines that were written.
    pub lines: u64,
    /// The last of them that is not empty.
    pub last: String,
}

impl Traced {
    /// Starts `target` under `kptrace run` with these options.
    pub fn run(dir: &Path, options: &[&str], target: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let pipe = dir.join("results");
        let _ = std::fs::remove_file(&pipe);
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).context("making a pipe")?;
        let results = Results::read_from(pipe.clone());
        let mut command = command(dir);
        command.arg("run").args(options).arg("-o").arg(&pipe);
        command.arg("--").arg(target).args(args);
        Ok(Traced {
            target: Target::start(&mut command)?,
            results,
        })
    }

    /// Stops the tracer while `what` is done, so that it takes no part; the target runs on as long
    /// as it needs no stop.
    pub fn without_tracer<T>(
        &mut self,
        what: impl FnOnce(&mut Target) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let tracer = Pid::from_raw(self.target.started());
        kill(tracer, Signal::SIGSTOP)?;
        let result = what(&mut self.target);
        kill(tracer, Signal::SIGCONT)?;
        result
    }

    /// Waits until so many lines have arrived, or until no more come.
    pub fn wait_for_lines(&self, lines: u64) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let now = self.results.lines.load(Ordering::Relaxed);
            if now >= lines {
                return;
            }
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            if since.elapsed() > QUIET {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the target end, and takes what is left.
    pub fn end(self) -> anyhow::Result<Ended> {
        self.target.end()?;
        let last = self.results.reader.join().unwrap_or_default();
        Ok(Ended {
            lines: self.results.lines.load(Ordering::Relaxed),
            last,
        })
    }
}

/// Hits in the summary object of `--format json`.
pub fn hits(summary: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(summary).ok()?;
    value.get("hits")?.as_u64()
}

/// Most memory that a process has had, in MB, as far as it still tells.
pub fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
