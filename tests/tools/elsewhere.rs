//! Targets that see other files than we do: in namespaces of their own, in a chroot with a library of
//! the same name that is built differently. Names and addresses come from their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::need;
use super::support::*;

const NAMESPACES: [&str; 2] = ["-Urmpf", "--mount-proc"];

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Whether the kernel lets this user have namespaces of these sorts; what it says if not.
fn may(options: &[&str]) -> Result<(), String> {
    let tried = Command::new("unshare").args(options).arg("true").output();
    let tried = tried.expect("it starts");
    if tried.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    Err(format!("the kernel refuses namespaces: {why}"))
}

/// The only child of a process, once it is there.
fn child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("the kernel tells of children");
    let mut children = children.split_whitespace();
    let child = children.next().expect("a child");
    assert_eq!(children.next(), None, "one child");
    child.parse().expect("a number")
}

/// A directory in which we see one library and the target another of the same name.
struct Place {
    directory: TempDir,
    /// What the target runs, and the library that it is to see.
    program: PathBuf,
    library: PathBuf,
}

impl Place {
    fn new() -> Place {
        let library = |flags: &[&str]| {
            let shared = [
                "-DLIBRARY",
                "-shared",
                "-fPIC",
                "-Wl,-soname,libelsewhere.so",
            ];
            let library = c("elsewhere").flags(&shared).flags(flags);
            library.named("libelsewhere.so").build()
        };
        let (outside, library) = (library(&[]), library(&["-DOTHER"]));
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        fs::copy(&outside, directory.path().join("libelsewhere.so")).expect("copied");
        Place {
            directory,
            program: c("elsewhere").flags(&[text(&outside)]).build(),
            library,
        }
    }

    fn path(&self) -> &str {
        text(self.directory.path())
    }

    /// The words of a command that runs the program under a file system which hides the directory.
    fn hidden(&self) -> Vec<String> {
        let (place, program) = (self.path(), text(&self.program));
        let script = format!(
            "mount -t tmpfs none '{place}' && cp '{program}' '{}' '{place}/' && \
             LD_LIBRARY_PATH='{place}' exec '{place}/elsewhere'",
            text(&self.library)
        );
        let words = [&["unshare"], &NAMESPACES[..], &["sh", "-c", &script]].concat();
        words.into_iter().map(str::to_owned).collect()
    }

    /// The same in a root directory of its own, where that directory is another. `before` are the words
    /// that make us who may do that.
    fn rooted(&self, before: &[&str]) -> Vec<String> {
        let root = self.directory.path().join("root");
        let put = |file: &Path, at: &Path| {
            let at = root.join(at.strip_prefix("/").expect("a whole path"));
            fs::create_dir_all(at.parent().expect("a directory")).expect("made");
            fs::copy(file, at).expect("copied");
        };
        put(&self.program, &self.directory.path().join("elsewhere"));
        put(
            &self.library,
            &self.directory.path().join("libelsewhere.so"),
        );
        // What it needs else is where it is for us.
        let needed = Command::new("ldd")
            .arg(&self.program)
            .output()
            .expect("ldd");
        let needed = String::from_utf8(needed.stdout).expect("UTF-8");
        let files = needed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for file in files
            .map(Path::new)
            .filter(|file| !file.ends_with("libelsewhere.so"))
        {
            put(file, file);
        }
        let library = format!("LD_LIBRARY_PATH={}", self.path());
        let program = format!("{}/elsewhere", self.path());
        // `chroot` itself may find the other library: it does not need it.
        let chroot = need::find("chroot").expect("it is here");
        let words = [
            &["env", &library],
            before,
            &[text(&chroot), text(&root), &program],
        ]
        .concat();
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Has the target call its function so many times more.
fn ask(target: &mut Running, times: usize) {
    for _ in 0..times {
        target.write("\n");
        target.out.wait_for("asked");
    }
}

const OF_ITS_OWN: [&str; 6] = [
    "-p",
    "libelsewhere.so:asked",
    "-p",
    "libelsewhere.so:only_here",
    "-p",
    "libc:fflush",
];

fn calls(told: &serde_json::Value, calls: u64) {
    for name in ["asked", "only_here", "fflush"] {
        assert_eq!(json::count(told, name), calls, "{name}: {told}");
    }
}

fn started(words: &[String]) -> Running {
    let mut line = command(&words[0]);
    line.args(&words[1..]).stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

/// Attaches by the number that it has for us, with jumps and with breakpoints.
fn attached_to(target: &mut Running, pid: u32) {
    for way in [&[][..], &["--no-opt"]] {
        let mut line = command(launch::binary());
        line.args(["attach", "-c", "--format", "json"]);
        line.args(OF_ITS_OWN).args(way).arg(pid.to_string());
        let mut kptrace = start(line);
        kptrace.out.wait_for("attached_probes");
        ask(target, 50);
        kptrace.signal(nix::sys::signal::Signal::SIGINT);
        calls(&summary(&kptrace.end().expect(0).out), 50);
        ask(target, 3);
    }
}

/// Runs it from its start.
fn run_from_start(words: &[String]) {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let options = ["run", "-c", "--format", "json", "-o"].map(str::to_owned);
    let mut line = vec![launch::binary().to_owned()];
    line.extend(options);
    line.push(text(report.path()).to_owned());
    line.extend(OF_ITS_OWN.map(str::to_owned));
    line.push("--".to_owned());
    line.extend(words.iter().cloned());
    let mut target = started(&line);
    ask(&mut target, 50);
    assert!(target.end().expect(0).out.ends_with("right\n"));
    let report = fs::read_to_string(report.path()).expect("a report");
    let told = summary(&report);
    assert_eq!(json::count(&told, "asked"), 50, "{told}");
    assert_eq!(json::count(&told, "only_here"), 50, "{told}");
}

/// Where its own number is another than ours.
pub fn namespaces_attached() -> Result<(), String> {
    may(&NAMESPACES)?;
    let place = Place::new();
    let mut target = started(&place.hidden());
    let pid = child(target.pid());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
    assert!(
        numbers.is_some_and(|line| line.ends_with("\t1")),
        "{status}"
    );
    attached_to(&mut target, pid);
    target.end().expect(0);
    Ok(())
}

pub fn namespaces_run() -> Result<(), String> {
    may(&NAMESPACES)?;
    run_from_start(&Place::new().hidden());
    let line = [
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "libc:malloc",
        "--",
        "unshare",
    ];
    let script = "seq 1 1000 | sort -rn | head -1; exec cat /proc/self/stat";
    let line = [&line, &NAMESPACES[..], &["sh", "-c", script]].concat();
    let ended = kptrace(&line).expect(0);
    assert!(ended.out.starts_with("1000\n1 (cat) "), "{}", ended.out);
    let told = summary(&ended.err);
    let processes = told["processes"].as_array().expect("processes");
    for comm in ["unshare", "sh", "seq", "sort", "head", "cat"] {
        let counts = |p: &&serde_json::Value| p["comm"] == comm && p["hits"].as_u64() > Some(0);
        assert!(processes.iter().any(|p| counts(&p)), "{comm}: {told}");
    }
    let sum: u64 = processes.iter().filter_map(|p| p["hits"].as_u64()).sum();
    assert_eq!(json::count(&told, "malloc"), sum);
    Ok(())
}

pub fn root_directory() -> Result<(), String> {
    let root = nix::unistd::geteuid().is_root();
    let user = may(&["-r"]);
    if !root {
        user.clone()?;
    }
    let unshare: &[&str] = &["unshare", "-r"];
    let ways = [(root, &[][..]), (user.is_ok(), unshare)];
    for (_, before) in ways.into_iter().filter(|(may, _)| *may) {
        let place = Place::new();
        let words = place.rooted(before);
        let mut target = started(&words);
        let pid = target.pid();
        attached_to(&mut target, pid);
        target.end().expect(0);
        run_from_start(&words);
    }
    Ok(())
}
