//! Finding the separate debug file of an image. Knows no symbols.
//!
//! Invariants: only files that root owns are read, and only when they match: by build-id where
//! both have one, else by the checksum of the link. What a debug file says decides where code is
//! patched, so another user must not be able to supply one.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::bytes::{string_at, u32_at};
use super::elf::Image;

/// The debug file of `image`, as gdb would find it, but root-owned only. `root` is the process's
/// root directory (`/proc/PID/root`, or `/`); `beside` is the directory of the image as the
/// process sees it.
pub fn debug_file(image: &Image, root: &Path, beside: &Path) -> Option<Image> {
    debug_file_trusting(image, root, beside, &|meta| {
        meta.uid() == 0 && meta.mode() & 0o022 == 0
    })
}

/// [`debug_file`] with another rule on whose files to trust: it is asked for the file and for its
/// directory.
pub fn debug_file_trusting(
    image: &Image,
    root: &Path,
    beside: &Path,
    trusted: &dyn Fn(&Metadata) -> bool,
) -> Option<Image> {
    let debug_root = root.join("usr/lib/debug");
    let by_id = image.build_id().and_then(|id| {
        let (first, rest) = id.split_first()?;
        let name: String = rest.iter().map(|b| format!("{b:02x}")).collect();
        let path = debug_root.join(format!(".build-id/{first:02x}/{name}.debug"));
        open(image, &path, None, trusted)
    });
    by_id.or_else(|| by_link(image, root, &debug_root, beside, trusted))
}

/// `.gnu_debuglink`: a file name and the checksum of that file.
fn by_link(
    image: &Image,
    root: &Path,
    debug_root: &Path,
    beside: &Path,
    trusted: &dyn Fn(&Metadata) -> bool,
) -> Option<Image> {
    let bytes = image.section_bytes(image.section(".gnu_debuglink")?);
    let name = string_at(bytes, 0)?;
    let checksum = u32_at(bytes, name.len().checked_add(4)? & !3)?;
    let name = Path::new(std::str::from_utf8(name).ok()?);
    // A name only: no way to another directory.
    if name.components().count() != 1 || !matches!(name.components().next()?, Component::Normal(_))
    {
        return None;
    }
    let dir: PathBuf = beside
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect();
    // On a merged /usr both spellings of a directory are in use.
    let other = match dir.strip_prefix("usr") {
        Ok(short) => short.to_owned(),
        Err(_) => Path::new("usr").join(&dir),
    };
    [
        debug_root.join(&dir),
        debug_root.join(&other),
        root.join(&dir).join(".debug"),
        root.join(&dir),
    ]
    .iter()
    .find_map(|at| open(image, &at.join(name), Some(checksum), trusted))
}

fn open(
    image: &Image,
    path: &Path,
    checksum: Option<u32>,
    trusted: &dyn Fn(&Metadata) -> bool,
) -> Option<Image> {
    // Not canonicalised: `/proc/PID/root` leads into another mount namespace only as it stands.
    let ours = |path: &Path| fs::metadata(path).is_ok_and(|m| trusted(&m));
    if !ours(path) || !ours(path.parent()?) {
        return None;
    }
    let debug = Image::read_debug(path).ok()?;
    match (image.build_id(), debug.build_id()) {
        (Some(own), Some(theirs)) if own == theirs => Some(debug),
        (Some(_), Some(_)) => None,
        _ => (checksum? == crc32(debug.data())).then_some(debug),
    }
}

/// The CRC-32 of `.gnu_debuglink` (that of zlib).
fn crc32(data: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (index, slot) in table.iter_mut().enumerate() {
        *slot = (0..8).fold(index as u32, |c, _| match c & 1 {
            0 => c >> 1,
            _ => 0xedb8_8320 ^ (c >> 1),
        });
    }
    !data.iter().fold(u32::MAX, |crc, byte| {
        let slot = (crc ^ u32::from(*byte)) & 0xff;
        table.get(slot as usize).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    use super::super::testing::{Built, cc, exists};

    const SOURCE: &str = "static __attribute__((noinline)) int inner(int x) { return x + 1; } int main(int c, char **v) { return inner(c); }";

    /// A stripped program, the bytes of its debug file, and a root to put that into.
    fn split(flags: &[&str]) -> Option<(Built, Vec<u8>, tempfile::TempDir)> {
        let built = cc(SOURCE, flags)?;
        if !exists("objcopy") {
            eprintln!("ignored: no objcopy on this machine");
            return None;
        }
        let whole = built.path.with_extension("debug");
        std::fs::copy(&built.path, &whole).unwrap();
        let objcopy = |args: &[&str], file: &Path| {
            let mut command = std::process::Command::new("objcopy");
            assert!(command.args(args).arg(file).status().unwrap().success());
        };
        objcopy(&["--only-keep-debug"], &whole);
        objcopy(&["--strip-all"], &built.path);
        objcopy(
            &[&format!("--add-gnu-debuglink={}", whole.display())],
            &built.path,
        );
        let bytes = std::fs::read(&whole).unwrap();
        Some((built, bytes, tempfile::tempdir().unwrap()))
    }

    fn put(root: &Path, at: &str, bytes: &[u8]) {
        let path = root.join(at);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_debug_file_is_found_by_build_id_and_names_local_functions() {
        let flags = ["-g", "-O1", "-Wl,--build-id=0xabcdef0123456789"];
        let Some((built, bytes, root)) = split(&flags) else {
            return;
        };
        put(
            root.path(),
            "usr/lib/debug/.build-id/ab/cdef0123456789.debug",
            &bytes,
        );
        let image = built.image();
        let find = |rule: &dyn Fn(&Metadata) -> bool| {
            debug_file_trusting(&image, root.path(), Path::new("/opt"), rule)
        };
        assert!(find(&|_| false).is_none(), "an untrusted file is not read");
        let debug = find(&|_| true).unwrap();
        let symbols = super::super::Symbols::load(&image, Some(&debug)).unwrap();
        assert!(!symbols.stripped());
        assert_eq!(symbols.suggestions("iner"), ["inner"]);
        let inner = symbols
            .entries()
            .iter()
            .find(|e| symbols.name(e) == "inner")
            .unwrap();
        assert_eq!(
            super::super::params(&image, Some(&debug), inner.at).unwrap()[0].name,
            "x"
        );
    }

    #[test]
    fn a_linked_file_counts_only_with_its_checksum() {
        let Some((built, mut bytes, root)) = split(&["-g", "-Wl,--build-id=none"]) else {
            return;
        };
        let image = built.image();
        let find = || debug_file_trusting(&image, root.path(), Path::new("/opt/x"), &|_| true);
        assert!(find().is_none());
        put(root.path(), "usr/lib/debug/opt/x/out.debug", &bytes);
        assert!(find().is_some());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        put(root.path(), "usr/lib/debug/opt/x/out.debug", &bytes);
        assert!(find().is_none());
    }

    #[test]
    fn a_file_of_another_build_is_refused() {
        let Some((built, _, root)) = split(&["-g", "-Wl,--build-id=0xabcdef01"]) else {
            return;
        };
        let Some((_, other, _)) = split(&["-g", "-Wl,--build-id=0xabcdef02"]) else {
            return;
        };
        put(
            root.path(),
            "usr/lib/debug/.build-id/ab/cdef01.debug",
            &other,
        );
        put(root.path(), "usr/lib/debug/opt/out.debug", &other);
        let found = debug_file_trusting(&built.image(), root.path(), Path::new("opt"), &|_| true);
        assert!(found.is_none());
    }
}
