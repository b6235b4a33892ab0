//! Many threads run the same code at once, and a signal runs it again in the middle of itself: totals
//! are exact, no key has two slots, and nobody sees half of a value.
//!
//! Each run draws a ticket from a map, so what comes of all of them together is known whatever order
//! they run in.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kptrace::abi;
use kptrace::arch::x86_64::emit::Template;
use kptrace::base::{ProbeId, histogram};
use kptrace::program::table::{BORN, FULL, HEADER, KEY, LIFE, TAG, life, step_bucket};
use kptrace::program::{
    BinaryOp, Cell, Effect, Home, Inst, Key, KeyPart, Local, MapOp, Program, Table, Value,
};
use kptrace::sys::native::trial;

use crate::native::{Arena, D, LAYOUT, ONE_AT_A_TIME, own_blocks, place};

pub const THREADS: u32 = 8;
const TURNS: u64 = 100_000;
const SIGNAL: i32 = 12;
const STEPS: (i64, i64, i64) = (0, 100_000, 777);
/// Words of the large value.
const WIDE: u32 = 20;

pub struct Site {
    pub tables: Vec<Arc<Table>>,
    pub program: Program,
    pub ends: [u32; 2],
}

impl Site {
    pub fn table(&mut self, home: Home, slots: u32, key: &[KeyPart], cell: Cell) -> Arc<Table> {
        let end = &mut self.ends[usize::from(home == Home::Session)];
        let table = Table {
            map: self.tables.len() as u32,
            home,
            offset: *end,
            slots,
            key: key.to_vec(),
            cell,
        };
        *end += u32::try_from(table.size()).unwrap();
        self.tables.push(Arc::new(table));
        self.tables.last().unwrap().clone()
    }

    pub fn masked(&mut self, value: Value, mask: u64) -> Value {
        let mask = self.program.push(Inst::Const(mask));
        let and = Inst::Binary(BinaryOp::And, value, mask);
        self.program.push(and)
    }

    pub fn map(&mut self, table: &Arc<Table>, key: Key, op: MapOp) {
        let effect = Effect::Map(table.clone(), key, op);
        self.program.effects.push(effect);
    }
}

/// What the totals are compared by.
const UNKEYED: [Cell; 7] = [
    Cell::Count,
    Cell::Sum,
    Cell::Average,
    Cell::Least { signed: true },
    Cell::Greatest { signed: false },
    Cell::Powers { bits: 2 },
    Cell::Steps {
        min: STEPS.0,
        max: STEPS.1,
        step: STEPS.2,
    },
];

fn site() -> Site {
    let mut site = Site {
        tables: Vec::new(),
        program: Program {
            locals: 3,
            scratch: 8 * (WIDE + 8),
            ..Program::default()
        },
        ends: [0, 0],
    };
    site.program.effects.push(Effect::Count);
    let tickets = site.table(Home::Session, 1, &[], Cell::Word);
    let one = site.program.push(Inst::Const(1));
    site.map(&tickets, Key::None, MapOp::Add(one, Some(Local(0))));
    let ticket = site.program.push(Inst::Local(Local(0)));
    for home in [Home::Session, Home::Thread] {
        for cell in UNKEYED {
            let table = site.table(home, 1, &[], cell);
            let value = (cell != Cell::Count).then_some(ticket);
            site.map(&table, Key::None, MapOp::Aggregate(value));
        }
        // By a word, with room; by words and a string; and with too little room.
        let by_word = site.table(home, 128, &[KeyPart::Word], Cell::Count);
        let key = site.masked(ticket, 63);
        site.map(&by_word, Key::Word(key), MapOp::Aggregate(None));
        let parts = [KeyPart::Word, KeyPart::Bytes(24)];
        let by_parts = site.table(home, 64, &parts, Cell::Sum);
        let key = site.masked(ticket, 31);
        let key_at = 8 * WIDE;
        site.program.effects.push(Effect::Put(key_at, key));
        let string = vec![3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c'];
        let literal = Effect::Literal(key_at + 8, string);
        site.program.effects.push(literal);
        site.map(&by_parts, Key::Scratch(key_at), MapOp::Aggregate(Some(one)));
        let narrow = site.table(home, 16, &[KeyPart::Word], Cell::Sum);
        let key = site.masked(ticket, 63);
        site.map(&narrow, Key::Word(key), MapOp::Aggregate(Some(one)));
    }
    let words = site.table(Home::Session, 16, &[KeyPart::Word], Cell::Word);
    let key = site.masked(ticket, 7);
    site.map(&words, Key::Word(key), MapOp::Add(one, None));
    large_value(&mut site, ticket);
    site
}

/// A value of many words, all the same, is written, read and taken away: who reads it counts whether
/// they were.
fn large_value(site: &mut Site, ticket: Value) {
    let wide = site.table(Home::Session, 8, &[KeyPart::Word], Cell::Wide(8 * WIDE));
    let seen = site.table(Home::Session, 1, &[], Cell::Count);
    let torn = site.table(Home::Session, 1, &[], Cell::Count);
    let key = site.masked(ticket, 1);
    // The ticket plus one: 0 is what is read where there is none.
    let one = site.program.push(Inst::Const(1));
    let value = site.program.push(Inst::Binary(BinaryOp::Add, ticket, one));
    for word in 0..WIDE {
        site.program.effects.push(Effect::Put(8 * word, value));
    }
    site.map(&wide, Key::Word(key), MapOp::SetScratch(0));
    let taken = site.masked(ticket, 6);
    let delete = Effect::Map(wide.clone(), Key::Word(key), MapOp::Delete(None));
    site.program
        .effects
        .push(Effect::If(taken, Vec::new(), vec![delete]));
    site.map(&wide, Key::Word(key), MapOp::GetScratch(0));
    let first = site.program.push(Inst::Scratch(0));
    let count = |table: &Arc<Table>| Effect::Map(table.clone(), Key::None, MapOp::Aggregate(None));
    site.program
        .effects
        .push(Effect::If(first, vec![count(&seen)], Vec::new()));
    for word in 1..WIDE {
        let other = site.program.push(Inst::Scratch(8 * word));
        let differ = Inst::Binary(BinaryOp::NotEqual, first, other);
        let differ = site.program.push(differ);
        site.program
            .effects
            .push(Effect::If(differ, vec![count(&torn)], Vec::new()));
    }
}

/// Runs it in all threads, and says how often.
pub fn run(arena: &Arena, site: &Site, own: bool) -> u64 {
    let template = Template::new(
        std::slice::from_ref(&site.program),
        &arena.environment(own, true),
        true,
        None,
    );
    // It lives for ever: a late signal may still run it.
    let code = Box::leak(Box::new(place(&template.unwrap(), &[ProbeId(0)])));
    arena.blocks.store(0, 1);
    let before = trial::runs();
    trial::on_signal(SIGNAL, code).unwrap();
    let threads = Mutex::new(Vec::new());
    let (running, done) = (AtomicU32::new(THREADS), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for index in 1..=THREADS {
            let (threads, running, done, code) = (&threads, &running, &done, &*code);
            let blocks = &arena.blocks;
            scope.spawn(move || {
                let block = LAYOUT.block(index);
                let owner = if own { trial::fs_base() } else { abi::NO_OWNER };
                blocks.store(D + block + u64::from(abi::OWNER), owner);
                threads.lock().unwrap().push(trial::thread());
                trial::with_gs_base(if own { block } else { 0 }, || {
                    for _ in 0..TURNS {
                        code.run();
                    }
                });
                // Nobody ends while it may still be sent a signal.
                running.fetch_sub(1, Ordering::AcqRel);
                while !done.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            });
        }
        while running.load(Ordering::Acquire) > 0 {
            for &thread in threads.lock().unwrap().iter() {
                trial::interrupt(thread, SIGNAL).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::Release);
    });
    let interrupted = trial::runs() - before;
    assert!(interrupted > 0, "signals came in between");
    println!("{interrupted} runs in signal handlers");
    u64::from(THREADS) * TURNS + interrupted
}

/// The words of a table, summed over the blocks that have one; for those that are no sums, all of them.
fn tables(arena: &Arena, table: &Table, blocks: u32) -> Vec<Vec<u64>> {
    let size = table.size();
    let read = |block: u32| {
        let word = |at: u64| arena.word(table, LAYOUT.block(block), at);
        (0..size).step_by(8).map(word).collect()
    };
    match table.home {
        Home::Thread => (0..blocks).map(read).collect(),
        Home::Session => vec![read(0)],
    }
}

fn totals(arena: &Arena, site: &Site, runs: u64) {
    let blocks = THREADS + 1;
    let mut hits = 0;
    for block in 0..blocks {
        let at = D + LAYOUT.block(block);
        let word = |offset: u32| arena.blocks.load(at + u64::from(offset));
        hits += word(LAYOUT.hits(ProbeId(0)));
        for quiet in [abi::FAULTS, abi::DROPPED, abi::IN_USE] {
            assert_eq!(word(quiet), 0, "block {block}, {quiet:#x}");
        }
    }
    assert_eq!(hits, runs);
    for table in &site.tables {
        let all = tables(arena, table, blocks);
        if table.is_keyed() {
            keyed(table, &all, runs);
            continue;
        }
        let at = HEADER as usize / 8;
        let sum = |word: usize| all.iter().map(|words| words[at + word]).sum::<u64>();
        let most = |word: usize| all.iter().map(|words| words[at + word]).max();
        let total = runs * (runs - 1) / 2;
        let what = format!("{:?}", table.cell);
        match table.cell {
            Cell::Count if table.map as usize >= site.tables.len() - 2 => {
                let torn = table.map as usize == site.tables.len() - 1;
                assert_eq!(sum(0) == 0, torn, "{} of {what}", sum(0));
            }
            Cell::Count => assert_eq!(sum(0), runs, "{what}"),
            Cell::Sum | Cell::Average => assert_eq!([sum(0), sum(1)], [runs, total], "{what}"),
            Cell::Least { .. } => assert_eq!(most(0), Some(table.cell.stored(0)), "{what}"),
            Cell::Greatest { .. } => assert_eq!(most(0), Some(runs - 1), "{what}"),
            Cell::Powers { bits } => buckets(&what, &sum, runs, table.cell, |ticket| {
                histogram::bucket(ticket, bits)
            }),
            Cell::Steps { .. } => buckets(&what, &sum, runs, table.cell, |ticket| {
                step_bucket(ticket, STEPS) as usize
            }),
            Cell::Word => assert_eq!([sum(0), sum(1)], [1, runs], "{what}"),
            Cell::Wide(_) => unreachable!("there is none"),
        }
    }
}

fn buckets(
    what: &str,
    found: &dyn Fn(usize) -> u64,
    runs: u64,
    cell: Cell,
    bucket: impl Fn(i64) -> usize,
) {
    let mut expected = vec![0; cell.words() as usize];
    for ticket in 0..runs.cast_signed() {
        expected[bucket(ticket)] += 1;
    }
    let found: Vec<u64> = (0..expected.len()).map(found).collect();
    assert_eq!(found, expected, "{what}");
}

/// Tickets with these low bits.
fn tickets(runs: u64, mask: u64, low: u64) -> u64 {
    runs / (mask + 1) + u64::from(low < runs % (mask + 1))
}

fn keyed(table: &Table, all: &[Vec<u64>], runs: u64) {
    let what = format!("{:?} by {:?}", table.cell, table.key);
    let mut counts = std::collections::BTreeMap::new();
    let mut full = 0;
    for words in all {
        full += words[FULL as usize / 8];
        let mut keys = Vec::new();
        for slot in 0..table.slots {
            let at = (HEADER + slot * table.slot_size()) as usize / 8;
            let word = |offset: u32| words[at + offset as usize / 8];
            if word(TAG) == 0 {
                continue;
            }
            if table.is_reused() {
                assert_eq!(word(LIFE) as u32, 0, "{what}: nobody is at work");
                match (word(LIFE) >> 32) as u32 & life::STATE {
                    0 => continue,
                    state => assert_eq!(state, life::ALIVE, "{what}"),
                }
            } else {
                assert_eq!(word(BORN), 1, "{what}");
            }
            assert!(!keys.contains(&word(KEY)), "{what}: {} twice", word(KEY));
            keys.push(word(KEY));
            if let Cell::Wide(_) = table.cell {
                assert_eq!(word(table.cell_at()) & 1, 0, "nobody is writing any more");
                continue;
            }
            let index = u32::from(table.cell == Cell::Word);
            *counts.entry(word(KEY)).or_insert(0) += word(table.cell_at() + 8 * index);
        }
    }
    let mask = match (table.slots, table.cell) {
        (_, Cell::Wide(_)) => return,
        (128, _) => 63,
        (64, _) => 31,
        (16, Cell::Word) => 7,
        // What found no slot is counted, and nothing is lost otherwise.
        _ => {
            assert!(full > 0, "{what}");
            assert_eq!(counts.values().sum::<u64>() + full, runs, "{what}");
            return;
        }
    };
    assert_eq!(full, 0, "{what}");
    assert_eq!(counts.len() as u64, mask + 1, "{what}");
    for (key, count) in counts {
        assert_eq!(count, tickets(runs, mask, key), "{what}: {key}");
    }
}

#[test]
fn totals_are_exact_in_the_block_that_all_threads_share() {
    let _alone = ONE_AT_A_TIME.lock();
    let (arena, site) = (Arena::of(THREADS + 1), site());
    let runs = run(&arena, &site, false);
    totals(&arena, &site, runs);
}

#[test]
fn totals_are_exact_in_blocks_of_their_own() {
    if !own_blocks() {
        return;
    }
    let _alone = ONE_AT_A_TIME.lock();
    let (arena, site) = (Arena::of(THREADS + 1), site());
    let runs = run(&arena, &site, true);
    totals(&arena, &site, runs);
}
