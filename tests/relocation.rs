//! The relocation differential: instruction sequences run natively, in their place and as relocated
//! copies, from the same random state; registers, flags, vector state, memory, faults and where
//! control goes must agree. `tests/targets/relocate_harness.c` runs them.
//!
//! `KPTRACE_CASES` sets the number of sequences, `KPTRACE_SEED` the seed, which is printed: a number,
//! or `random` to look where nobody looked yet.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "relocation/generate.rs"]
mod generate;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use generate::{Rng, Sequence, TEXT_SIZE, WORLDS, World};
use kptrace::arch::x86_64::relocate::{Copy, Unrelocatable, relocate};

/// CF, PF, AF, ZF, SF, DF, OF.
const FLAGS: u64 = 0xcd5;

struct Case {
    world: World,
    sequence: Sequence,
    dest: u64,
    copy: Copy,
    regs: [u64; 16],
    flags: u64,
    seed: u64,
}

impl Case {
    /// As the harness's `struct test`.
    fn encode(&self, out: &mut Vec<u8>) {
        let Case {
            world,
            sequence,
            copy,
            ..
        } = self;
        out.clear();
        let mut words = vec![sequence.at, self.dest];
        words.extend(self.regs);
        words.extend([self.flags, self.seed, world.data + 512]);
        words.extend([world.data, world.stack, generate::LOW_DATA]);
        words.extend([world.far, 4096]);
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let points = copy.map.len() as u8;
        let lengths = [sequence.bytes.len() as u8, copy.bytes.len() as u8, points];
        out.extend(lengths);
        out.push(u8::from(sequence.step));
        out.extend(copy.call_jump.unwrap_or(0xffff).to_le_bytes());
        let mut padded = |bytes: &[u8], size: usize| {
            out.extend(bytes);
            out.resize(out.len() + size - bytes.len(), 0);
        };
        padded(&sequence.bytes, 24);
        padded(&copy.bytes, 96);
        let (from, to): (Vec<u8>, Vec<[u8; 2]>) = copy
            .map
            .iter()
            .map(|(from, to)| (*from, to.to_le_bytes()))
            .unzip();
        padded(&from, 20);
        padded(&to.concat(), 40);
    }
}

/// `struct header`.
fn header() -> Vec<u8> {
    let mut code = Vec::new();
    let mut data = vec![(generate::LOW_DATA, 4096u64)];
    for world in WORLDS {
        code.extend([(world.text, TEXT_SIZE), (world.far, 4096)]);
        code.extend(world.copies.map(|start| (start, 4096)));
        data.extend([(world.data, 4096), (world.stack, 4096)]);
    }
    let mut out = Vec::new();
    out.extend((code.len() as u32).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    for (start, size) in code.iter().chain(&data) {
        out.extend(start.to_le_bytes());
        out.extend(size.to_le_bytes());
    }
    out.resize(8 + 32 * 16, 0);
    out
}

fn build(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets/relocate_harness.c");
    let program = directory.join("relocate_harness");
    let built = Command::new("cc")
        .args(["-O1", "-fno-stack-protector", "-o"])
        .args([&program, &source])
        .output()
        .expect("a C compiler, `cc`");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    program
}

/// Runs the cases and returns a letter for each: `L`eft at the end, `B`ranched, `F`ault.
fn run(cases: impl Iterator<Item = Case>) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let mut harness = Command::new(build(directory.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = BufWriter::with_capacity(1 << 16, harness.stdin.take().unwrap());
    let waiting = std::thread::spawn(move || harness.wait_with_output().unwrap());
    let mut count = 0;
    let mut bytes = Vec::new();
    input.write_all(&header()).unwrap();
    for case in cases {
        case.encode(&mut bytes);
        if input.write_all(&bytes).is_err() {
            break;
        }
        count += 1;
    }
    drop(input);
    let Output {
        status,
        stdout,
        stderr,
    } = waiting.join().unwrap();
    let complaints = String::from_utf8_lossy(&stderr);
    assert!(complaints.is_empty(), "{complaints}");
    assert!(
        status.success(),
        "the harness ended with {status} after {} cases",
        stdout.len()
    );
    assert_eq!(stdout.len(), count);
    stdout
}

/// The contents of `.text` of an ELF file.
fn text_of(path: &str) -> Option<Vec<u8>> {
    let file = std::fs::read(path).ok()?;
    let word = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(file.get(at..at + size)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (table, count, names) = (word(0x28, 8)?, word(0x3c, 2)?, word(0x3e, 2)?);
    let names = word(table + names * 64 + 24, 8)?;
    (0..count).find_map(|i| {
        let section = table + i * 64;
        let name = names + word(section, 4)?;
        let (start, size) = (word(section + 24, 8)?, word(section + 32, 8)?);
        let found = file.get(name..name + 6)? == b".text\0";
        found.then(|| file.get(start..start + size).map(<[u8]>::to_vec))?
    })
}

fn real_code() -> Vec<Vec<u8>> {
    let libc = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/libc.so.6",
        "/usr/lib/libc.so.6",
    ];
    ["/bin/ls", "/bin/sh"]
        .iter()
        .chain(&libc)
        .filter_map(|path| text_of(path))
        .collect()
}

fn place(rng: &mut Rng) -> (World, u64, u64) {
    let world = WORLDS[rng.below(3) as usize];
    let at = world.text + 1024 + rng.below(TEXT_SIZE - 2048);
    let dest = world.copies[rng.below(3) as usize] + rng.below(4096 - 96);
    (world, at, dest)
}

#[test]
fn copies_do_what_originals_do() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let total = number("KPTRACE_CASES").unwrap_or(20_000u64);
    let seed = match std::env::var("KPTRACE_SEED").as_deref() {
        Ok("random") => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        _ => number("KPTRACE_SEED").unwrap_or(0x6b70_7472_6163_6500),
    };
    println!("KPTRACE_SEED={seed}");
    let mut rng = Rng(seed);
    let table = generate::branches();
    let code = real_code();
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let mut kinds = Vec::new();
    let mut made = 0;
    let cases = std::iter::from_fn(|| {
        while made < total {
            let (world, at, dest) = place(&mut rng);
            let kind = [0, 0, 0, 3, 3, 5, 5, 6][rng.below(8) as usize];
            let sequence = match kind {
                0 => generate::random(&mut rng, at, &world),
                3 => generate::branching(&mut rng, at, &world, &table),
                6 if !code.is_empty() => {
                    let code = &code[rng.below(code.len() as u64) as usize];
                    match generate::real(&mut rng, at, code) {
                        Some(sequence) => sequence,
                        None => continue,
                    }
                }
                _ => generate::typical(&mut rng, at, &world),
            };
            match relocate(sequence.at, &sequence.bytes, dest) {
                Ok(copy) => {
                    made += 1;
                    kinds.push(kind);
                    let regs = generate::registers(&mut rng, &world);
                    let flags = rng.next() & FLAGS | 0x202;
                    let seed = rng.next();
                    return Some(Case {
                        world,
                        sequence,
                        dest,
                        copy,
                        regs,
                        flags,
                        seed,
                    });
                }
                Err(reason @ Unrelocatable::Mismatch { .. }) => {
                    panic!("{:x?} at {at:#x} to {dest:#x}: {reason}", sequence.bytes)
                }
                Err(reason) => {
                    let name = format!("{reason:?}");
                    let name = name.split(' ').next().unwrap_or_default().to_owned();
                    *refused.entry(name).or_default() += 1;
                }
            }
        }
        None
    });
    let outcomes = run(cases);
    for (name, which) in [("random", 0), ("branching", 3), ("typical", 5), ("real", 6)] {
        let mut counts = BTreeMap::new();
        for (kind, outcome) in kinds.iter().zip(&outcomes) {
            if *kind == which {
                *counts.entry(char::from(*outcome)).or_insert(0) += 1;
            }
        }
        println!("{name}: {counts:?}");
    }
    println!("refused: {refused:?}");
    // Sequences that all fault would prove little.
    let faults = outcomes.iter().filter(|outcome| **outcome == b'F').count();
    assert!(faults * 2 < outcomes.len(), "{faults} faults");
}

#[test]
fn every_branch_goes_both_ways_as_the_original_does() {
    let mut rng = Rng(1);
    let table = generate::branches();
    let mut cases = Vec::new();
    for (opcode, size) in &table {
        for (world, up) in WORLDS
            .iter()
            .flat_map(|world| [(world, false), (world, true)])
        {
            for flags in 0..64u64 {
                let bit = |from: u64, to: u32| ((flags >> from) & 1) << to;
                let flags = bit(0, 0) | bit(1, 2) | bit(2, 6) | bit(3, 7) | bit(4, 11) | 0x202;
                let at = world.text + 4096 + rng.below(4096);
                let mut bytes = opcode.clone();
                let end = at + (opcode.len() + *size) as u64;
                let target = if up { at - 50 } else { end + 70 };
                let distance = target.wrapping_sub(end);
                bytes.extend_from_slice(&distance.to_le_bytes()[..*size]);
                let dest = world.copies[rng.below(3) as usize] + rng.below(4000);
                let copy = relocate(at, &bytes, dest).unwrap();
                let mut regs = generate::registers(&mut rng, world);
                // What the counting branches look at: 0, 1 and the edge of 32 bits.
                regs[2] = [0, 1, 2, 1 << 32, (1 << 32) + 1, u64::MAX][rng.below(6) as usize];
                let sequence = Sequence {
                    at,
                    bytes,
                    step: false,
                };
                let seed = rng.next();
                cases.push(Case {
                    world: *world,
                    sequence,
                    dest,
                    copy,
                    regs,
                    flags,
                    seed,
                });
            }
        }
    }
    let each = cases.len() / table.len();
    let outcomes = run(cases.into_iter());
    for ((opcode, _), outcomes) in table.iter().zip(outcomes.chunks(each)) {
        let count = |letter: u8| {
            outcomes
                .iter()
                .filter(|outcome| **outcome == letter)
                .count()
        };
        let always = matches!(opcode.last(), Some(0xe8 | 0xe9 | 0xeb));
        assert_eq!(count(b'F'), 0, "{opcode:x?}");
        assert_eq!(count(b'L') == 0, always, "{opcode:x?}");
        assert!(count(b'B') > 0, "{opcode:x?}");
    }
}
