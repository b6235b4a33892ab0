//! Bytes as a stored analysis, behind the head of a sound one.
#![no_main]

#[path = "../../hostile/stored.rs"]
mod stored;

use std::path::Path;
use std::sync::LazyLock;

use kptrace::session::Module;

static STORED: LazyLock<(tempfile::TempDir, stored::Stored)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let module = Module::of_file(Path::new("/bin/true")).expect("/bin/true");
    let stored = stored::Stored::new(directory.path(), module.file(None));
    (directory, stored)
});

libfuzzer_sys::fuzz_target!(|edits: Vec<(u16, u8)>| {
    let stored = &STORED.1;
    let mut bytes = stored.sound.clone();
    for (at, byte) in edits {
        let at = usize::from(at) % bytes.len();
        bytes[at] = byte;
    }
    stored.load(&bytes);
});
