//! One program, alone and probed, and what must not differ. Knows nothing of which program it is.
//! Invariant: both runs see the same directory, the same input and the same environment.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use libtest_mimic::Completion;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Verdict;
use super::bisect::smallest;
use super::sites::Sites;
use super::support;

/// How much of what a program writes is compared.
#[derive(Clone, Copy)]
pub enum Compared {
    /// Every byte.
    All,
    /// What this leaves of it: programs tell times and durations too.
    Part(fn(&str) -> String),
    Nothing,
}

/// A program that is run twice.
pub struct Case {
    pub name: &'static str,
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub directory: TempDir,
    /// A file for its standard input; nothing is there without.
    pub input: Option<PathBuf>,
    /// What it leaves in its directory; removed before each run, compared after.
    pub makes: Vec<&'static str>,
    pub stdout: Compared,
    pub stderr: Compared,
    /// How it must end without kptrace: a status, or 128 and a signal.
    pub status: i32,
    /// The longest a probed run may take.
    pub limit: Duration,
}

/// What a run shows.
#[derive(PartialEq)]
struct Shown {
    status: i32,
    stdout: String,
    stderr: String,
    made: Vec<Vec<u8>>,
}

/// Which probes a run has.
pub enum Probes<'a> {
    None,
    All,
    /// Where functions return, too.
    Calls,
    File(&'a Path),
}

impl Case {
    /// A program that must end well and whose every word is compared.
    pub fn new<S: AsRef<OsStr>>(name: &'static str, argv: &[S]) -> Case {
        Case {
            name,
            argv: argv.iter().map(|word| word.as_ref().to_owned()).collect(),
            directory: tempfile::tempdir().unwrap(),
            input: None,
            makes: Vec::new(),
            stdout: Compared::All,
            stderr: Compared::All,
            status: 0,
            limit: Duration::from_secs(300),
        }
    }

    /// Runs it alone and probed, and compares.
    pub fn compare(self) -> Verdict {
        let alone = self.run(&Probes::None)?;
        if alone.status != self.status {
            let Shown {
                status,
                stdout,
                stderr,
                ..
            } = alone;
            return Err(format!(
                "{} ends with {status} also without kptrace\n{stdout}\n{stderr}",
                self.name
            )
            .into());
        }
        let outcome = self
            .run(&Probes::All)
            .and_then(|probed| self.differs(&alone, &probed));
        let sites = Sites::read(&self.summary_path());
        let difference = match (outcome, &sites) {
            (Ok(()), Ok(sites)) => {
                // One call, since cases run side by side.
                print!("{}", sites.report(self.name));
                return match sites.check() {
                    Ok(()) => Ok(Completion::Completed),
                    Err(why) => Err(format!("{}: {why}", self.name).into()),
                };
            }
            (Ok(()), Err(why)) => return Err(format!("{}: {why}", self.name).into()),
            (Err(difference), _) => difference,
        };
        let found = match sites {
            Ok(sites) => smallest(&sites.armed(), |lines| self.fails_with(&alone, lines)),
            Err(why) => why,
        };
        Err(format!("{}: {difference}\nbisected: {found}", self.name).into())
    }

    fn fails_with(&self, alone: &Shown, lines: &[String]) -> bool {
        let file = self.directory.path().join("probes");
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        self.run(&Probes::File(&file))
            .and_then(|probed| self.differs(alone, &probed))
            .is_err()
    }

    fn summary_path(&self) -> PathBuf {
        self.directory.path().join("summary.json")
    }

    fn run(&self, probes: &Probes<'_>) -> Result<Shown, String> {
        let place = self.directory.path();
        for name in self.makes.iter().copied().chain(["summary.json"]) {
            let _ = fs::remove_file(place.join(name));
        }
        let (out, err) = (place.join("out"), place.join("err"));
        let mut command = command_with(probes, &self.summary_path(), &self.argv);
        command
            .current_dir(place)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap());
        if let Some(input) = &self.input {
            command.stdin(File::open(input).unwrap());
        }
        let status = finished(command.process_group(0).spawn().unwrap(), self.limit)?;
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let stderr = text(&err);
        Ok(Shown {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap()),
            stdout: shown(self.stdout, text(&out)),
            stderr: shown(self.stderr, without_notes(&stderr)),
            made: self
                .makes
                .iter()
                .map(|name| fs::read(place.join(name)).unwrap_or_default())
                .collect(),
        })
    }

    fn differs(&self, alone: &Shown, probed: &Shown) -> Result<(), String> {
        if alone.status != probed.status {
            return Err(format!(
                "ends with {}, alone with {}\n{}",
                probed.status,
                alone.status,
                tail(&probed.stderr)
            ));
        }
        for (what, alone, probed) in [
            ("stdout", &alone.stdout, &probed.stdout),
            ("stderr", &alone.stderr, &probed.stderr),
        ] {
            if alone != probed {
                return Err(format!(
                    "{what} differs\n{}",
                    first_difference(alone, probed)
                ));
            }
        }
        for ((name, alone), probed) in self.makes.iter().zip(&alone.made).zip(&probed.made) {
            if alone.is_empty() {
                return Err(format!("{name} is not made, also without kptrace"));
            }
            if alone != probed {
                return Err(format!("{name} differs"));
            }
        }
        Ok(())
    }
}

/// `argv` with these probes.
pub fn command_with(probes: &Probes<'_>, summary: &Path, argv: &[OsString]) -> Command {
    let mut command = match probes {
        Probes::None => support::command(&argv[0]),
        Probes::All | Probes::Calls | Probes::File(_) => {
            let mut command = support::command(env!("CARGO_BIN_EXE_kptrace"));
            command
                .args(["run", "-q", "-c", "--format", "json", "-o"])
                .arg(summary);
            command.arg("-p");
            match probes {
                Probes::File(path) => {
                    let mut argument = OsString::from("@");
                    argument.push(path);
                    command.arg(argument);
                }
                Probes::Calls => {
                    command.arg("*:*%call");
                }
                _ => {
                    command.arg("*:*");
                }
            }
            command.arg("--").arg(&argv[0]);
            command
        }
    };
    command.args(&argv[1..]);
    command
}

/// The end of a process that leads its group; past the limit the group is killed.
pub fn finished(mut child: Child, limit: Duration) -> Result<ExitStatus, String> {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (to, from) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        let _ = to.send(());
        status
    });
    let late = from.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
    if late {
        let _ = killpg(group, Signal::SIGKILL);
    }
    let status = waiter.join().unwrap().unwrap();
    if late {
        return Err(format!("not done after {} s", limit.as_secs()));
    }
    Ok(status)
}

fn shown(compared: Compared, text: String) -> String {
    match compared {
        Compared::All => text,
        Compared::Part(part) => part(&text),
        Compared::Nothing => String::new(),
    }
}

/// kptrace tells on standard error of breakpoints that it switched off: that is not the program's.
fn without_notes(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines
        .filter(|line| !(line.starts_with("note: ") && line.contains(" switched off: ")))
        .collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

fn first_difference(alone: &str, probed: &str) -> String {
    let pairs = alone.lines().map(Some).chain(std::iter::repeat(None));
    let both = pairs.zip(probed.lines().map(Some).chain([None]));
    for (number, (a, b)) in both.enumerate() {
        if a != b {
            let line = number + 1;
            return format!("line {line}, alone:  {a:?}\nline {line}, probed: {b:?}");
        }
    }
    "probed it ends earlier".to_owned()
}
