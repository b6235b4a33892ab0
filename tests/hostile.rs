//! Hostile input, bounded and repeatable: what `tests/fuzz` does for hours, for seconds. Checks
//! what `src` cannot check of itself: that parts which do not know each other agree on the same
//! bytes.
//!
//! `KPTRACE_SEED` sets the seed, which is printed; `KPTRACE_CASES` multiplies the cases.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed step of a test is a failed test"
)]

#[path = "hostile/code.rs"]
mod code;
#[path = "hostile/elf.rs"]
mod elf;
#[path = "hostile/language.rs"]
mod language;
#[path = "hostile/mutate.rs"]
mod mutate;
#[path = "hostile/programs.rs"]
mod programs;
#[path = "hostile/shared.rs"]
mod shared;
#[path = "hostile/spec.rs"]
mod spec;
#[path = "hostile/stored.rs"]
mod stored;
mod support;

use std::path::Path;

use kptrace::session::Module;
use support::Rng;

/// A stream of its own for each test, from one seed.
fn rng(test: &str) -> Rng {
    let given = std::env::var("KPTRACE_SEED").ok();
    let seed = given.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |text| text.parse().expect("KPTRACE_SEED is a number"),
    );
    println!("{test}: KPTRACE_SEED={seed}");
    Rng(seed)
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.next() as u8).collect()
}

fn cases(count: usize) -> usize {
    let times = std::env::var("KPTRACE_CASES").ok();
    count * times.map_or(1, |n| n.parse().expect("KPTRACE_CASES is a number"))
}

/// Bytes that often start short functions, branches and padding.
const COMMON: [u8; 24] = [
    0x55, 0x53, 0xc3, 0x90, 0xcc, 0x00, 0x74, 0x75, 0xeb, 0xe9, 0xe8, 0x0f, 0x84, 0x66, 0xf3, 0x48,
    0x89, 0x31, 0xc0, 0xff, 0x01, 0x02, 0xfd, 0xfb,
];

#[test]
fn what_the_scan_accepts_a_simpler_look_accepts() {
    let mut rng = rng("scan");
    let (mut windows, mut starts_made) = (0, 0);
    for _ in 0..cases(4000) {
        let len = 1 + rng.below(160);
        let common = rng.below(4);
        let bytes: Vec<u8> = (0..len)
            .map(|_| match rng.below(4) < common {
                true => COMMON[rng.below(COMMON.len())],
                false => rng.next() as u8,
            })
            .collect();
        let starts: Vec<u16> = (0..rng.below(12)).map(|_| rng.below(len) as u16).collect();
        let pie = rng.below(2) == 0;
        windows += code::scan(&bytes, &starts, pie);
        starts_made += starts.len();
    }
    assert!(windows * 20 > starts_made, "{windows} windows");
}

#[test]
fn real_functions_with_bytes_changed_keep_the_scan_right() {
    let mut rng = rng("functions");
    let module = Module::of_file(Path::new("/bin/sh")).unwrap();
    let section = module.image().section(".text").unwrap();
    let text = module.image().section_bytes(section).to_vec();
    let mut windows = 0;
    for _ in 0..cases(600) {
        let from = rng.below(text.len() - 1);
        let len = (1 + rng.below(2000)).min(text.len() - from);
        let mut bytes = text[from..from + len].to_vec();
        for _ in 0..rng.below(6) {
            let at = rng.below(len);
            bytes[at] = rng.next() as u8;
        }
        let starts: Vec<u16> = (0..rng.below(20)).map(|_| rng.below(len) as u16).collect();
        windows += code::scan(&bytes, &starts, true);
    }
    assert!(windows > 0);
}

#[test]
fn no_bytes_are_copied_wrongly() {
    let mut rng = rng("copies");
    for _ in 0..cases(200_000) {
        let len = 1 + rng.below(20);
        let mut bytes = bytes(&mut rng, len);
        if rng.below(2) == 0 {
            bytes[0] = COMMON[rng.below(COMMON.len())];
        }
        code::copy(0x1000 + (rng.next() >> 33), &bytes);
    }
}

#[test]
fn a_mutated_program_is_analysed_without_harm() {
    let mut rng = rng("programs");
    let program = support::c("branches").flags(&["-g", "-O2"]).build();
    let whole = std::fs::read(program).unwrap();
    let sound = elf::read(&whole, "branches.c");
    assert!(sound > 10, "{sound} windows");
    let mut still = 0;
    for _ in 0..cases(150) {
        let mut bytes = whole.clone();
        // Most of a file's harm is in its first and last kilobytes: headers and tables.
        let (from, size) = match rng.below(3) {
            0 => (0, 2048),
            1 => (bytes.len() - 4096, 4096),
            _ => (0, bytes.len()),
        };
        for _ in 0..1 + rng.below(30) {
            bytes[from + rng.below(size)] = match rng.below(3) {
                0 => 0xff,
                1 => 0,
                _ => rng.next() as u8,
            };
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.below(whole.len()));
        }
        still += usize::from(elf::read(&bytes, "branches.c") > 0);
    }
    assert!(still > 0, "some damage is survived");
}

#[test]
fn no_shared_memory_upsets_the_drain() {
    let mut rng = rng("shared");
    let places = shared::places();
    let sound = shared::drain(&shared::records(1, u64::MAX - 7, 50));
    assert_eq!(sound, 50);
    let mut hits = 0;
    for _ in 0..cases(200) {
        let base = match rng.below(3) {
            0 => 0,
            1 => rng.next(),
            _ => rng.next() & !7,
        };
        let block = rng.below(4) as u32;
        let mut words = shared::records(block, base & !7, rng.below(90) as u64);
        for _ in 0..rng.below(60) {
            let place = match rng.below(3) {
                0 => rng.next() as u32,
                _ => places[rng.below(places.len())],
            };
            let value = match rng.below(6) {
                0 => rng.next(),
                1 => u64::MAX,
                2 => rng.next() % 4,
                3 => base.wrapping_add(rng.next() % 4096),
                _ => base.wrapping_add(rng.next() % 64 * 8),
            };
            words.push((place, value));
        }
        hits += shared::drain(&words);
    }
    assert!(hits > 0, "some of it is taken for records");
}

#[test]
fn probes_made_of_pieces_print_as_they_parse() {
    const PIECES: [&str; 40] = [
        "malloc",
        "libc",
        ".so.6",
        ":",
        "::",
        "!",
        "@",
        "@@",
        "GLIBC_2.2.5",
        "+",
        "0x10",
        "4",
        "%stop",
        "%return",
        "%",
        "*",
        "?",
        "/",
        "a.c",
        ":42",
        "\"",
        "'",
        "\\",
        " ",
        "x=",
        "%di",
        "+8(",
        ")",
        "-",
        "$arg1",
        "$args",
        "$stack2",
        ":u32",
        ":string",
        ":b3@1/8",
        ":x64",
        "é",
        "\u{1b}",
        "~",
        "operator<",
    ];
    let mut rng = rng("probes");
    let mut parsed = 0;
    for _ in 0..cases(60_000) {
        let text: String = (0..1 + rng.below(9))
            .map(|_| PIECES[rng.below(PIECES.len())])
            .collect();
        parsed += usize::from(spec::probe(&text));
    }
    assert!(parsed > 500, "{parsed} were probes");
}

#[test]
fn a_damaged_analysis_is_refused_or_sound() {
    let mut rng = rng("stored");
    let directory = tempfile::tempdir().unwrap();
    let module = Module::of_file(Path::new("/bin/true")).unwrap();
    let stored = stored::Stored::new(directory.path(), module.file(None));
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..cases(1500) {
        let mut bytes = stored.sound.clone();
        for _ in 0..rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.next() as u8;
        }
        if rng.below(8) == 0 {
            bytes.truncate(rng.below(stored.sound.len()));
        }
        if stored.load(&bytes) {
            taken += 1;
        } else {
            refused += 1;
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}
