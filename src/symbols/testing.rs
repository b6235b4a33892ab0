//! What the tests share: tiny programs, compiled in a directory of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::elf::Image;

/// A directory with what was compiled in it.
pub(super) struct Built {
    /// Removed when dropped.
    _dir: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Built {
    pub(super) fn image(&self) -> Image {
        Image::read(&self.path).unwrap()
    }

    /// What a tool prints about the file.
    pub(super) fn run(&self, tool: &str, args: &[&str]) -> bool {
        quiet(Command::new(tool).args(args).arg(&self.path))
    }
}

/// Compiles `source` with `compiler`; `None`, said on stderr, when there is no such compiler.
pub(super) fn compile(compiler: &str, name: &str, source: &str, flags: &[&str]) -> Option<Built> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    std::fs::write(&file, source).unwrap();
    let path = dir.path().join("out");
    let mut command = Command::new(compiler);
    command.args(flags).arg("-o").arg(&path).arg(&file);
    if !exists(compiler) {
        eprintln!("ignored: no {compiler} on this machine");
        return None;
    }
    assert!(command.status().unwrap().success(), "{compiler} {name}");
    Some(Built { _dir: dir, path })
}

pub(super) fn cc(source: &str, flags: &[&str]) -> Option<Built> {
    compile("cc", "t.c", source, flags)
}

pub(super) fn exists(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|p| p.join(tool).is_file()))
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Lines of a tool's output; `None` when it is missing or fails.
pub(super) fn output(tool: &str, args: &[&str], file: &Path) -> Option<Vec<String>> {
    let out = Command::new(tool).args(args).arg(file).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    out.status
        .success()
        .then(|| text.lines().map(str::to_owned).collect())
}
