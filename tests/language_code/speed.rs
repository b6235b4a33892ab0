//! What a hit costs when nothing else is done: copies of the code one behind the other, over and over.
//! Nothing is asserted:
//! `cargo test --release --test language_code -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Instant;

use kptrace::abi;
use kptrace::arch::x86_64::emit::{Called, Template, listing};
use kptrace::base::ProbeId;
use kptrace::program::{
    BinaryOp, Cell, Effect, Field, FieldKind, Home, Inst, IntFormat, Key, KeyPart, Local, MapOp,
    Program, Record, Table, Width,
};
use kptrace::sys::native::{Native, trial};

use crate::native::{Arena, D, LAYOUT, ONE_AT_A_TIME};

fn table(key: &[KeyPart], cell: Cell) -> Arc<Table> {
    Arc::new(Table {
        map: 0,
        home: Home::Thread,
        offset: 0,
        slots: 1024,
        key: key.to_vec(),
        cell,
    })
}

fn programs() -> Vec<(&'static str, Program)> {
    let mut programs = vec![("count", Program::count())];
    let base = || {
        let mut program = Program::default();
        let arg = program.push(Inst::Arg(0));
        (program, arg)
    };

    let (mut program, arg) = base();
    let hist = table(&[], Cell::Powers { bits: 0 });
    program.effects = vec![Effect::Map(hist, Key::None, MapOp::Aggregate(Some(arg)))];
    programs.push(("hist(arg0)", program));

    let (mut program, arg) = base();
    let one = program.push(Inst::Const(0x1234_5678));
    let equal = program.push(Inst::Binary(BinaryOp::Equal, arg, one));
    let counts = table(&[KeyPart::Word], Cell::Count);
    let count = Effect::Map(counts.clone(), Key::Word(arg), MapOp::Aggregate(None));
    program.effects = vec![Effect::If(equal, vec![count.clone()], Vec::new())];
    programs.push(("/arg0 == 0x12345678/ that is false", program));

    let (mut program, _) = base();
    program.effects = vec![count];
    programs.push(("count by arg0", program));

    // What the session shares: written, read, and put in and taken away again.
    let word = Arc::new(Table {
        home: Home::Session,
        ..(*table(&[KeyPart::Word], Cell::Word)).clone()
    });
    let ops = [
        ("@[arg0] = arg0", vec![MapOp::Set(arg)]),
        ("$x = @[arg0]", vec![MapOp::Get(Local(0))]),
        (
            "@[arg0] = arg0; delete(@[arg0])",
            vec![MapOp::Set(arg), MapOp::Delete(None)],
        ),
    ];
    for (name, ops) in ops {
        let (mut program, arg) = base();
        program.locals = 1;
        let effect = |op| Effect::Map(word.clone(), Key::Word(arg), op);
        program.effects = ops.into_iter().map(effect).collect();
        programs.push((name, program));
    }

    let (mut program, arg) = base();
    let other = program.push(Inst::Arg(1));
    let fields = [arg, other].map(|value| Field {
        name: String::new(),
        kind: FieldKind::Int {
            value,
            format: IntFormat::Unsigned(Width::W64),
        },
    });
    program.effects = vec![Effect::Record(Record {
        action: 0,
        time: true,
        fields: fields.to_vec(),
    })];
    programs.push(("a record of two arguments with time", program));
    programs
}

/// Copies in a row.
const COPIES: usize = 64;

/// A site's code many times over.
fn copies(template: &Template) -> Native {
    let (hot, cold) = (template.hot_len() as u64, template.cold_len() as u64);
    let colds = COPIES as u64 * hot + 1;
    let len = colds + COPIES as u64 * cold;
    let native = Native::new(len as usize, |address| {
        let (mut code, mut behind) = (Vec::new(), vec![0xc3]);
        for copy in 0..COPIES as u64 {
            let at = (address + copy * hot, address + colds + copy * cold);
            let (hot, cold) =
                template.place(&[(ProbeId(0), Called::default())], at.0, at.0, at.1)?;
            code.extend(hot);
            behind.extend(cold);
        }
        code.extend(behind);
        Some(code)
    });
    native.unwrap()
}

fn nanos(arena: &Arena, code: &Native) -> f64 {
    const RUNS: usize = 8;
    let at = D + LAYOUT.block(1);
    let mut times = Vec::new();
    for _ in 0..20_000 {
        // The ring is read meanwhile.
        let head = arena.blocks.load(at + u64::from(abi::HEAD));
        arena.blocks.store(at + u64::from(abi::TAIL), head);
        let start = Instant::now();
        for _ in 0..RUNS {
            code.run();
        }
        times.push(start.elapsed().as_nanos() as f64 / (RUNS * COPIES) as f64);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let _alone = ONE_AT_A_TIME.lock();
    let arena = Arena::new();
    let at = D + LAYOUT.block(1);
    arena.blocks.store(0, 1);
    arena.blocks.store(at, trial::fs_base());
    trial::with_gs_base(LAYOUT.block(1), || {
        for (name, program) in programs() {
            let environment = arena.environment(true, true);
            for flags_live in [false, true] {
                let template = Template::new(
                    std::slice::from_ref(&program),
                    &environment,
                    flags_live,
                    None,
                );
                let template = template.unwrap();
                let code = copies(&template);
                let flags = if flags_live { ", flags live" } else { "" };
                let each = nanos(&arena, &code);
                println!("{each:6.2} ns  {name}{flags}");
            }
            let template = Template::new(&[program], &environment, false, None).unwrap();
            let (hot, _) = template
                .place(&[(ProbeId(0), Called::default())], 0x1000, 0x1000, 0x2000)
                .unwrap();
            for (_, line) in listing(&hot, 0x1000) {
                println!("            {line}");
            }
        }
    });
}
