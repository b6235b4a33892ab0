//! Programs to trace, compiled from `tests/targets` or from text. What was built is kept under a
//! name made of all that went into it, so that a second run finds it; a file appears there whole
//! or not at all, since test binaries run side by side.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A program's source and how to build it.
pub struct Source {
    compiler: &'static str,
    extension: &'static str,
    name: String,
    text: String,
    flags: Vec<String>,
}

/// The program `tests/targets/NAME.c`.
pub fn c(name: &str) -> Source {
    let path = targets().join(format!("{name}.c"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Source::new("cc", "c", name, text)
}

/// Where the sources are.
pub fn targets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets")
}

/// Whether a tool can be started (`--version` is asked of it).
pub fn has(tool: &str) -> bool {
    let mut command = Command::new(tool);
    let quiet = command.arg("--version").stdin(Stdio::null());
    let quiet = quiet.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl Source {
    /// A program from text; `extension` tells the compiler what it is (`c`, `S`, `cc`, `rs`).
    pub fn new(
        compiler: &'static str,
        extension: &'static str,
        name: &str,
        text: impl Into<String>,
    ) -> Source {
        Source {
            compiler,
            extension,
            name: name.to_owned(),
            text: text.into(),
            flags: Vec::new(),
        }
    }

    /// More flags for the compiler; the default is `-O1 -g`, of Rust `-g`.
    pub fn flags(mut self, flags: &[&str]) -> Source {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Another name for the file.
    pub fn named(mut self, name: &str) -> Source {
        name.clone_into(&mut self.name);
        self
    }

    /// The built program. Its file has the source's name.
    pub fn build(&self) -> PathBuf {
        self.try_build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The built program, or what the compiler says.
    pub fn try_build(&self) -> Result<PathBuf, String> {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("targets");
        let directory = place.join(self.key());
        let program = directory.join(&self.name);
        if program.exists() {
            return Ok(program);
        }
        // Tests of one process share its number.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let fresh = place.join(format!("{}-{count}", std::process::id()));
        fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
        let source = fresh.join(format!("{}.{}", self.name, self.extension));
        fs::write(&source, &self.text).map_err(|e| format!("{}: {e}", source.display()))?;
        let mut built = Command::new(self.compiler);
        if self.extension == "rs" {
            built.args(["-g", "--edition=2021"]);
        } else {
            built.args(["-O1", "-g", "-I"]).arg(targets());
        }
        let built = built
            .current_dir(&fresh)
            .arg("-o")
            .arg(&self.name)
            .arg(format!("{}.{}", self.name, self.extension))
            .args(&self.flags)
            .output()
            .map_err(|e| format!("{}: {e}", self.compiler))?;
        if !built.status.success() {
            let _ = fs::remove_dir_all(&fresh);
            let said = String::from_utf8_lossy(&built.stderr);
            return Err(format!("{} {}: {said}", self.compiler, self.name));
        }
        if fs::rename(&fresh, &directory).is_err() {
            // Another test was faster, with the same.
            let _ = fs::remove_dir_all(&fresh);
        }
        Ok(program)
    }

    fn key(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (self.compiler, self.extension, &self.text, &self.flags).hash(&mut hasher);
        for header in ["target.h", "rounds.h", "early.h", "only_trap.h", "usdt.h"] {
            fs::read(targets().join(header))
                .unwrap_or_default()
                .hash(&mut hasher);
        }
        let version = Command::new(self.compiler).arg("--version").output();
        version
            .map(|v| v.stdout)
            .unwrap_or_default()
            .hash(&mut hasher);
        format!("{}-{:016x}", self.name, hasher.finish())
    }
}
