//! What random programs seldom or never come to: the limits, what is known at a hit, a value that
//! somebody else is writing, and what is refused.

use std::sync::Arc;

use kptrace::abi;
use kptrace::arch::x86_64::emit::Template;
use kptrace::base::ProbeId;
use kptrace::program::table::{HEADER, UNWRITTEN, life};
use kptrace::program::{
    BinaryOp, Cell, Each, Effect, Field, FieldKind, Home, Inst, IntFormat, Key, KeyPart, Known,
    Local, MapOp, Program, Record, Table, Value, Width,
};
use kptrace::sys::native::trial;

use crate::native::{Arena, Case, D, GAP, LAYOUT, Mode, ONE_AT_A_TIME, Outcome, own_blocks, place};

fn case(tables: &[Arc<Table>], program: Program) -> Case {
    Case {
        seed: 3,
        tables: tables.to_vec(),
        programs: vec![program],
        mode: if own_blocks() {
            Mode::Own
        } else {
            Mode::Shared
        },
        loads: true,
        flags_live: true,
        free: None,
        hits: 2,
    }
}

fn compare(case: &Case) {
    let _alone = ONE_AT_A_TIME.lock();
    assert_eq!(Arena::new().run(case), Ok(Outcome::Same));
}

fn int(value: Value) -> Field {
    Field {
        name: String::new(),
        kind: FieldKind::Int {
            value,
            format: IntFormat::Unsigned(Width::W64),
        },
    }
}

fn record(fields: Vec<Field>) -> Effect {
    Effect::Record(Record {
        action: 0,
        time: true,
        fields,
    })
}

fn table(slots: u32, cell: Cell) -> Arc<Table> {
    Arc::new(Table {
        map: 0,
        home: Home::Session,
        offset: GAP,
        slots,
        key: vec![KeyPart::Word],
        cell,
    })
}

#[test]
fn a_loop_without_an_end_ends() {
    let program = Program {
        effects: vec![Effect::Loop(Local(0), Vec::new()), Effect::Count],
        locals: 1,
        ..Program::default()
    };
    compare(&case(&[], program));
}

/// A program that takes this many keys into a table.
fn keys(table: &Arc<Table>, many: u64) -> Program {
    let mut program = Program {
        locals: 1,
        ..Program::default()
    };
    let most = program.push(Inst::Const(many));
    let turn = program.push(Inst::Local(Local(0)));
    let over = program.push(Inst::Binary(BinaryOp::Less, most, turn));
    let arg = program.push(Inst::Arg(1));
    let key = program.push(Inst::Binary(BinaryOp::Add, turn, arg));
    program.effects = vec![Effect::Loop(
        Local(0),
        vec![
            Effect::If(over, vec![Effect::Break], Vec::new()),
            Effect::Map(table.clone(), Key::Word(key), MapOp::Aggregate(None)),
        ],
    )];
    program
}

#[test]
fn keys_are_found_in_a_table_that_is_nearly_full_and_lost_in_one_that_is() {
    for (slots, many) in [(512, 480), (256, 600), (1024, 500)] {
        let table = table(slots, Cell::Count);
        let mut case = case(std::slice::from_ref(&table), keys(&table, many));
        case.hits = 3;
        compare(&case);
    }
}

/// The words of the records that a program leaves at one hit.
fn fields(program: &Program, prepare: impl FnOnce(&Arena)) -> Vec<(u64, Vec<u64>)> {
    let _alone = ONE_AT_A_TIME.lock();
    let arena = Arena::new();
    prepare(&arena);
    fields_in(&arena, program)
}

fn fields_in(arena: &Arena, program: &Program) -> Vec<(u64, Vec<u64>)> {
    let environment = arena.environment(false, true);
    let template = Template::new(std::slice::from_ref(program), &environment, true, None);
    let code = place(&template.unwrap(), &[ProbeId(0)]);
    arena.blocks.store(0, 1);
    code.run();
    let mut at = D + u64::from(LAYOUT.ring());
    let mut records = Vec::new();
    for record in program.records() {
        let word = |offset: u32| arena.blocks.load(at + u64::from(offset));
        let (offsets, size) = record.layout();
        let words = offsets.into_iter().map(word).collect();
        records.push((word(abi::REC_TIME), words));
        at += u64::from(size);
    }
    records
}

#[test]
fn time_processor_and_chance_are_what_they_are() {
    let mut program = Program {
        locals: 6,
        ..Program::default()
    };
    let known = [
        Known::Nanos,
        Known::Elapsed,
        Known::Cpu,
        Known::Random,
        Known::Random,
        Known::Tid,
    ];
    program.effects.push(record(Vec::new()));
    let mut shown = Vec::new();
    for (local, known) in (0..).map(Local).zip(known) {
        let value = program.push(Inst::Known(known));
        program.effects.push(Effect::Set(local, value));
        shown.push(int(program.push(Inst::Local(local))));
    }
    program.effects.push(record(shown));
    let (ticks, slope, nanos, start) = (1000, 3_u64 << 30, 5_000_000, 400);
    let records = fields(&program, |arena| {
        for (at, value) in [
            (abi::CLOCK_TICKS, ticks),
            (abi::CLOCK_SLOPE, slope),
            (abi::CLOCK_NANOS, nanos),
            (abi::CLOCK_START, start),
        ] {
            arena.blocks.store(D + u64::from(at), value);
        }
    });
    let at = |time: u64| {
        let scaled = (u128::from(time - ticks) * u128::from(slope)) >> 32;
        scaled as u64 + nanos
    };
    let (before, after, words) = (records[0].0, records[1].0, &records[1].1);
    assert!(at(before) <= words[0] && words[0] <= at(after), "{words:?}");
    assert!(words[0] - start <= words[1] && words[1] <= at(after) - start);
    assert!(words[2] < 4096);
    assert!(words[3] <= u32::MAX.into() && words[4] <= u32::MAX.into());
    assert_ne!(words[3], words[4]);
    assert_eq!(words[5], trial::thread() as u64);
}

/// A key whose writer has ended is put in elsewhere; what other slots hold is not touched.
#[test]
fn a_value_that_somebody_never_ends_writing_is_written_elsewhere() {
    let wide = table(4, Cell::Wide(16));
    let mut program = Program {
        locals: 2,
        scratch: 128,
        ..Program::default()
    };
    let one = program.push(Inst::Const(1));
    let seen = program.push(Inst::Local(Local(1)));
    let read = [
        program.push(Inst::Scratch(0)),
        program.push(Inst::Scratch(8)),
    ];
    let map = |op| Effect::Map(wide.clone(), Key::Word(one), op);
    program.effects = vec![
        Effect::Put(0, one),
        Effect::Put(8, one),
        map(MapOp::SetScratch(0)),
        map(MapOp::GetScratch(0)),
        Effect::Each(Each {
            table: wide.clone(),
            key: 64,
            cell: 80,
            cursor: Local(0),
            body: vec![Effect::Set(Local(1), one)],
        }),
        record(vec![int(read[0]), int(read[1]), int(seen)]),
    ];
    let tag = wide.tag(&1_u64.to_le_bytes());
    let slot = tag % 4 * u64::from(wide.slot_size()) + u64::from(GAP + HEADER);
    let cell = slot + u64::from(wide.cell_at());
    let mut left = 0;
    let writing = |version: u64, at_work: u64| {
        fields(&program, |arena| {
            arena.maps.store(slot, tag);
            arena
                .maps
                .store(slot + 8, u64::from(4 + life::ALIVE) << 32 | at_work);
            arena.maps.store(slot + 16, 1);
            arena.maps.store(cell, version);
            arena.maps.store(cell + 8, 7);
            arena.maps.store(cell + 16, 8);
        })
    };
    for (version, expected) in [
        // There was one, and it is being written again; there was none.
        (7, vec![1, 1, 1]),
        (5, vec![1, 1, 1]),
        (6, vec![1, 1, 1]),
        (4, vec![1, 1, 1]),
    ] {
        let at_work = version & 1;
        assert_eq!(writing(version, at_work)[0].1, expected, "{version}");
        left += 1;
    }
    assert_eq!(left, 4);
}

#[test]
fn a_value_without_a_key_that_somebody_never_ends_writing_is_counted() {
    let wide = Arc::new(Table {
        key: Vec::new(),
        ..(*table(1, Cell::Wide(16))).clone()
    });
    let mut program = Program {
        scratch: 64,
        ..Program::default()
    };
    let one = program.push(Inst::Const(1));
    let map = |op| Effect::Map(wide.clone(), Key::None, op);
    let read = program.push(Inst::Scratch(0));
    program.effects = vec![
        Effect::Put(0, one),
        Effect::Put(8, one),
        map(MapOp::SetScratch(0)),
        map(MapOp::GetScratch(0)),
        record(vec![int(read)]),
    ];
    for (version, value, unwritten) in [(5, 0, 1), (4, 1, 0)] {
        let _alone = ONE_AT_A_TIME.lock();
        let arena = Arena::new();
        arena.maps.store(u64::from(GAP + HEADER), version);
        let records = fields_in(&arena, &program);
        assert_eq!(records[0].1, [value], "{version}");
        let counted = arena.maps.load(u64::from(GAP + UNWRITTEN));
        assert_eq!(counted, unwritten, "{version}");
    }
}

#[test]
fn a_field_that_would_write_over_the_record_is_refused() {
    let arena = Arena::new();
    let environment = arena.environment(true, true);
    let mut program = Program::default();
    let a = program.push(Inst::Arg(0));
    let b = program.push(Inst::Arg(1));
    for op in [BinaryOp::Div, BinaryOp::Shl, BinaryOp::Equal] {
        let value = program.push(Inst::Binary(op, a, b));
        program.effects = vec![record(vec![int(value)])];
        let refused = Template::new(std::slice::from_ref(&program), &environment, true, None);
        assert!(refused.is_err(), "{op:?}");
    }
}

#[test]
fn a_string_is_found_wherever_it_stands_in_another() {
    let mut program = Program {
        locals: 1,
        scratch: 128,
        ..Program::default()
    };
    let found = program.push(Inst::Local(Local(0)));
    let string = |at: u32, text: &str| {
        let mut literal = (text.len() as u64).to_le_bytes().to_vec();
        literal.extend(text.as_bytes());
        Effect::Literal(at, literal)
    };
    let texts = [
        "",
        "a",
        "b",
        "aab",
        "ab",
        "aabaab",
        "aabaabaac",
        "aabaac",
        "baac",
        "caab",
    ];
    let mut results = Vec::new();
    for a in texts {
        for b in texts {
            program.effects.extend([
                string(0, a),
                string(64, b),
                Effect::Find(Local(0), 0, 64),
                record(vec![int(found)]),
            ]);
            results.push(u64::from(a.contains(b)));
        }
    }
    let seen = fields(&program, |_| {});
    let seen: Vec<u64> = seen.into_iter().map(|(_, words)| words[0]).collect();
    assert_eq!(seen, results);
}

#[test]
fn strings_are_compared_as_far_as_counts_and_no_further() {
    let mut program = Program {
        locals: 1,
        scratch: 128,
        ..Program::default()
    };
    let differ = program.push(Inst::Local(Local(0)));
    let string = |at: u32, bytes: &[u8]| {
        let mut literal = (bytes.len() as u64).to_le_bytes().to_vec();
        literal.extend(bytes);
        Effect::Literal(at, literal)
    };
    let mut results = Vec::new();
    for length in 0..19_usize {
        let a: Vec<u8> = (0..length as u8).map(|byte| byte ^ 0x80).collect();
        for (changed, most) in [(length, 40), (0, 0), (0, 1), (length / 2, length as u32)] {
            let mut b = a.clone();
            if let Some(byte) = b.get_mut(changed) {
                *byte ^= 0x80;
            }
            for most in [most, changed as u32, changed as u32 + 1] {
                program.effects.extend([
                    string(0, &a),
                    string(64, &b),
                    Effect::Compare(Local(0), 0, 64, most),
                    record(vec![int(differ)]),
                ]);
                let cut = |bytes: &[u8]| bytes[..bytes.len().min(most as usize)].to_vec();
                results.push(u64::from(cut(&a) != cut(&b)));
            }
        }
    }
    assert!(results.contains(&0) && results.contains(&1));
    let found = fields(&program, |_| {});
    let found: Vec<u64> = found.into_iter().map(|(_, words)| words[0]).collect();
    assert_eq!(found, results);
}
