//! Strings and bytes near the ends of pages: whole where they can be, and read without touching a page
//! that they do not reach.

use std::sync::atomic::Ordering;

use kptrace::abi;
use kptrace::arch::x86_64::emit::Template;
use kptrace::base::ProbeId;
use kptrace::program::{Copy, Effect, Field, FieldKind, Inst, Program, Record, Value, Width};
use kptrace::sys::native::trial::Guarded;

use crate::native::{Arena, D, FAULTS, LAYOUT, ONE_AT_A_TIME, place};

/// Two pages, and where the second begins.
const PAGES: usize = 2 * 4096;
const EDGE: usize = 4096;
/// The words in which a program finds the pointer and the limit.
const POINTER: usize = 0;
const LIMIT: usize = 8;

/// What a hit left of a string or bytes.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    bytes: Vec<u8>,
    truncated: bool,
    fault: Option<u64>,
}

/// A program that copies from a pointer in all three ways, at most `max`.
fn program(memory: u64, max: u16) -> Program {
    let mut program = Program {
        scratch: 2 * (8 + u32::from(max)),
        ..Program::default()
    };
    let mut word = |at: usize| {
        let base = program.push(Inst::Const(memory + at as u64));
        program.push(Inst::Load {
            base,
            offset: 0,
            width: Width::W64,
            signed: false,
        })
    };
    let (pointer, limit) = (word(POINTER), word(LIMIT));
    let copy = |to: u32, limit: Option<Value>, string: bool| {
        Effect::Copy(Copy {
            to,
            pointer,
            max,
            limit,
            string,
        })
    };
    let second = 8 + u32::from(max);
    let field = |kind| Field {
        name: String::new(),
        kind,
    };
    program.effects = vec![
        copy(0, None, true),
        copy(second, Some(limit), false),
        Effect::Record(Record {
            action: 0,
            time: false,
            fields: vec![
                field(FieldKind::Str { pointer, max }),
                field(FieldKind::Scratch {
                    at: 0,
                    size: 2 * second,
                }),
            ],
        }),
    ];
    program
}

/// What lies there.
struct Bed {
    arena: Arena,
    memory: Guarded,
}

impl Bed {
    fn word(&self, at: u64) -> u64 {
        self.arena.blocks.load(D + at)
    }

    fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let words = length.div_ceil(8) as u64;
        let words = (0..words).flat_map(|word| self.word(at + 8 * word).to_le_bytes());
        words.collect()
    }

    /// A string as it is kept in scratch memory; what fills its last word must be zeros.
    fn kept(&self, at: u64, zeros: bool) -> Left {
        let header = self.word(at);
        let (length, flags) = (header as u32 as usize, (header >> 32) as u32);
        let mut bytes = self.bytes(at + 8, length);
        if zeros {
            assert!(bytes[length..].iter().all(|byte| *byte == 0), "{bytes:?}");
        }
        bytes.truncate(length);
        let fault = (flags & abi::STR_FAULT != 0).then(|| self.word(at + 8));
        Left {
            bytes,
            truncated: flags & abi::STR_TRUNCATED != 0,
            fault,
        }
    }
}

/// What must be left of a string or bytes at `at`, the memory ending behind both pages.
fn expected(memory: &[u8], address: u64, at: usize, most: usize, string: bool) -> Left {
    let there = &memory[at..memory.len().min(at + most)];
    let end = there.iter().position(|byte| string && *byte == 0);
    let length = end.unwrap_or(there.len());
    let unreadable = end.is_none() && there.len() < most;
    let fault = unreadable.then(|| address + memory.len() as u64);
    let bytes = if unreadable { &[] } else { &there[..length] };
    Left {
        bytes: bytes.to_vec(),
        truncated: string && end.is_none() && !unreadable,
        fault,
    }
}

/// Copies what begins `before` bytes in front of an edge and, as a string, is so long.
fn check(bed: &mut Bed, run: &dyn Fn(), max: u16, edge: usize, (before, length): (usize, usize)) {
    let address = bed.memory.address();
    let at = edge - before;
    let memory = bed.memory.bytes();
    for (index, byte) in memory.iter_mut().enumerate() {
        *byte = 1 + (index % 251) as u8;
    }
    if let Some(end) = memory.get_mut(at + length) {
        *end = 0;
    }
    let limit = length.min(usize::from(max));
    memory[POINTER..][..8].copy_from_slice(&(address + at as u64).to_le_bytes());
    memory[LIMIT..][..8].copy_from_slice(&(length as u64).to_le_bytes());
    let memory = memory.to_vec();
    bed.arena.blocks.store(D + u64::from(abi::HEAD), 0);
    let faults = FAULTS.load(Ordering::Relaxed);
    run();
    let faults = FAULTS.load(Ordering::Relaxed) - faults;
    let string = expected(&memory, address, at, max.into(), true);
    let bytes = expected(&memory, address, at, limit, false);
    let record = u64::from(LAYOUT.ring());
    let field = record + u64::from(abi::REC_FIELDS);
    let copied = field + 8 + u64::from(max);
    let second = copied + 8 + u64::from(max);
    let case = format!("max {max}, {before} before {edge:#x}, {length} long");
    assert_eq!(bed.kept(copied, true), string, "scratch, {case}");
    assert_eq!(bed.kept(second, true), bytes, "bytes, {case}");
    if let Some(fault) = string.fault {
        assert_eq!(bed.word(field), fault, "{case}");
        assert_ne!(bed.word(record + u64::from(abi::REC_PROBE)) >> 32, 0);
    } else {
        assert_eq!(bed.kept(field, false), string, "record, {case}");
    }
    let bad = 2 * u64::from(string.fault.is_some()) + u64::from(bytes.fault.is_some());
    assert_eq!(faults, bad, "reads where nothing is, {case}");
}

#[test]
fn what_ends_before_an_unmapped_page_is_whole_and_nothing_behind_it_is_read() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut bed = Bed {
        arena: Arena::new(),
        memory: Guarded::new(PAGES).expect("memory"),
    };
    let environment = bed.arena.environment(false, true);
    for max in [8, 16, 24, 64, 104, 256] {
        let program = program(bed.memory.address(), max);
        let template = Template::new(&[program], &environment, true, None).expect("code");
        let code = place(&template, &[ProbeId(0)]);
        bed.arena.blocks.store(0, 1);
        for before in 0..100 {
            for length in 0..=100 {
                let run = || code.run();
                check(&mut bed, &run, max, PAGES, (before, length));
                if length % 5 == before % 5 {
                    check(&mut bed, &run, max, EDGE, (before, length));
                }
            }
        }
    }
}
