//! Keys come and go without end, in many threads and in signal handlers in the midst of them: while fewer
//! are there than the table has room for, none finds no room, none is lost, and none gets what was meant
//! for another that had its slot before.

use std::sync::Arc;

use kptrace::abi;
use kptrace::program::table::{FULL, HEADER, KEY, LIFE, life};
use kptrace::program::{
    BinaryOp, Cell, Effect, Home, Inst, Key, KeyPart, Local, MapOp, Program, Table, Value,
};

use crate::concurrent::{Site, THREADS, run};
use crate::native::{Arena, LAYOUT, ONE_AT_A_TIME, own_blocks};

const TICKET: Local = Local(0);
const EXISTED: Local = Local(1);
const READ: Local = Local(2);
/// Scratch memory for a key of a word and a string.
const PARTS: [KeyPart; 2] = [KeyPart::Word, KeyPart::Bytes(24)];
/// Distinct keys that all threads take away from each other, and what a key adds: no multiple of what
/// another does.
const FEW: u64 = 8;
const PRICE: u64 = 1000;
/// How many tickets later a key is taken away.
const LATER: u64 = 64;

/// The tables that what happened is counted in.
struct Counts {
    wrong: Arc<Table>,
    gone: Arc<Table>,
}

struct Churn {
    site: Site,
    ticket: Value,
    counts: Counts,
    tables: Vec<Arc<Table>>,
    /// Those of [`FEW`] keys.
    few: Vec<Arc<Table>>,
    /// By ticket, taken away by others.
    later: Arc<Table>,
    /// How many of those were found.
    found: Arc<Table>,
}

fn count(table: &Arc<Table>) -> Effect {
    Effect::Map(table.clone(), Key::None, MapOp::Aggregate(None))
}

impl Churn {
    fn binary(&mut self, op: BinaryOp, a: Value, b: u64) -> Value {
        let b = self.site.program.push(Inst::Const(b));
        self.site.program.push(Inst::Binary(op, a, b))
    }

    /// Counts it where a value is not what it should be.
    fn expect(&mut self, what: Local, wanted: Value) {
        let what = self.site.program.push(Inst::Local(what));
        let differ = Inst::Binary(BinaryOp::NotEqual, what, wanted);
        let differ = self.site.program.push(differ);
        let wrong = count(&self.counts.wrong);
        let effects = &mut self.site.program.effects;
        effects.push(Effect::If(differ, vec![wrong], Vec::new()));
    }

    /// The key of a table, made of a word.
    fn key(&mut self, table: &Table, word: Value) -> Key {
        if table.key.len() == 1 {
            return Key::Word(word);
        }
        let mut string = vec![11, 0, 0, 0, 0, 0, 0, 0];
        string.extend(b"hello world");
        let effects = &mut self.site.program.effects;
        effects.extend([Effect::Put(0, word), Effect::Literal(8, string)]);
        Key::Scratch(0)
    }

    /// A key that nobody else has comes, is changed, read and taken away.
    fn own(&mut self, key: &[KeyPart], cell: Cell) {
        let table = self.site.table(Home::Session, 64, key, cell);
        self.tables.push(table.clone());
        let ticket = self.ticket;
        let odd = self.binary(BinaryOp::Mul, ticket, 0x1_0001);
        let key = self.key(&table, odd);
        let more = self.binary(BinaryOp::Add, ticket, 7);
        let put = |value| match cell {
            Cell::Word => MapOp::Add(value, None),
            Cell::Count => MapOp::Aggregate(None),
            _ => MapOp::Aggregate(Some(value)),
        };
        self.site.map(&table, key, put(more));
        self.site.map(&table, key, put(more));
        self.site.map(&table, key, MapOp::Get(READ));
        let wanted = match cell {
            Cell::Count => self.site.program.push(Inst::Const(2)),
            Cell::Word | Cell::Sum => self.binary(BinaryOp::Mul, more, 2),
            _ => more,
        };
        self.expect(READ, wanted);
        self.site.map(&table, key, MapOp::Delete(Some(EXISTED)));
        let one = self.site.program.push(Inst::Const(1));
        self.expect(EXISTED, one);
        self.site.map(&table, key, MapOp::Has(READ));
        let none = self.site.program.push(Inst::Const(0));
        self.expect(READ, none);
        self.site.map(&table, key, MapOp::Delete(Some(EXISTED)));
        self.expect(EXISTED, none);
    }

    /// A few keys that everybody adds to and takes away: what stands there is a multiple of what one adds.
    fn few(&mut self, key: &[KeyPart], cell: Cell) {
        let table = self.site.table(Home::Session, 16, key, cell);
        self.tables.push(table.clone());
        self.few.push(table.clone());
        let ticket = self.ticket;
        let high = self.binary(BinaryOp::Mul, ticket, 0x9e37_79b1);
        let high = self.binary(BinaryOp::Shr, high, 13);
        let which = self.binary(BinaryOp::And, high, FEW - 1);
        let price = self.binary(BinaryOp::Add, which, PRICE);
        let key = self.key(&table, which);
        self.site.map(
            &table,
            key,
            match cell {
                Cell::Word => MapOp::Add(price, None),
                _ => MapOp::Aggregate(Some(price)),
            },
        );
        self.site.map(&table, key, MapOp::Get(READ));
        let read = self.site.program.push(Inst::Local(READ));
        let rest = Inst::Binary(BinaryOp::Rem, read, price);
        let rest = self.site.program.push(rest);
        let wrong = count(&self.counts.wrong);
        let effects = &mut self.site.program.effects;
        effects.push(Effect::If(rest, vec![wrong], Vec::new()));
        let third = self.binary(BinaryOp::Rem, ticket, 3);
        let delete = Effect::Map(table.clone(), key, MapOp::Delete(None));
        let effects = &mut self.site.program.effects;
        effects.push(Effect::If(third, Vec::new(), vec![delete]));
    }

    fn taken_by_others(&mut self) {
        let table = self.later.clone();
        let ticket = self.ticket;
        let value = self.binary(BinaryOp::Add, ticket, 1);
        self.site.map(&table, Key::Word(ticket), MapOp::Set(value));
        let earlier = self.binary(BinaryOp::Sub, ticket, LATER);
        let key = Key::Word(earlier);
        self.site.map(&table, key, MapOp::Delete(Some(EXISTED)));
        let existed = self.site.program.push(Inst::Local(EXISTED));
        let found = count(&self.found);
        let effects = &mut self.site.program.effects;
        effects.push(Effect::If(existed, vec![found], Vec::new()));
    }
}

fn churn() -> Churn {
    let mut site = Site {
        tables: Vec::new(),
        program: Program {
            locals: 3,
            scratch: 64,
            ..Program::default()
        },
        ends: [0, 0],
    };
    let tickets = site.table(Home::Session, 1, &[], Cell::Word);
    let [wrong, gone, found] =
        std::array::from_fn(|_| site.table(Home::Session, 1, &[], Cell::Count));
    let later = site.table(Home::Session, 4096, &[KeyPart::Word], Cell::Word);
    let one = site.program.push(Inst::Const(1));
    site.map(&tickets, Key::None, MapOp::Add(one, Some(TICKET)));
    let ticket = site.program.push(Inst::Local(TICKET));
    let mut churn = Churn {
        site,
        ticket,
        counts: Counts { wrong, gone },
        tables: Vec::new(),
        few: Vec::new(),
        later,
        found,
    };
    let greatest = Cell::Greatest { signed: false };
    for cell in [Cell::Word, Cell::Count, Cell::Sum, Cell::Average, greatest] {
        churn.own(&PARTS[..1], cell);
        churn.own(&PARTS, cell);
    }
    for cell in [Cell::Word, Cell::Sum] {
        churn.few(&PARTS[..1], cell);
        churn.few(&PARTS, cell);
    }
    churn.taken_by_others();
    let gone = count(&churn.counts.gone);
    churn.site.program.effects.push(gone);
    churn
}

/// The key and the words of each slot that has one; nobody is at work on any.
fn alive(arena: &Arena, table: &Table) -> Vec<(u64, Vec<u64>)> {
    let word = |at: u64| arena.word(table, LAYOUT.block(0), at);
    assert_eq!(word(u64::from(FULL)), 0, "all find room: {table:?}");
    let mut all = Vec::new();
    for index in 0..table.slots {
        let slot = u64::from(HEADER + index * table.slot_size());
        let life = word(slot + u64::from(LIFE));
        assert_eq!(life as u32, 0, "nobody is at work on {index} of {table:?}");
        match (life >> 32) as u32 & life::STATE {
            0 => {}
            life::ALIVE => {
                let cell = slot + u64::from(table.cell_at());
                let words = 0..u64::from(table.cell.words());
                let words = words.map(|n| word(cell + 8 * n)).collect();
                all.push((word(slot + u64::from(KEY)), words));
            }
            state => panic!("slot {index} of {table:?} is in state {state}"),
        }
    }
    let mut keys: Vec<u64> = all.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all.len(), "no key has two slots: {table:?}");
    all
}

fn check(own: bool) {
    let _alone = ONE_AT_A_TIME.lock();
    let (arena, churn) = (Arena::of(THREADS + 1), churn());
    let runs = run(&arena, &churn.site, own);
    let counted = |table: &Table| arena.word(table, LAYOUT.block(0), u64::from(HEADER));
    assert_eq!(counted(&churn.counts.gone), runs, "all came to their end");
    assert_eq!(counted(&churn.counts.wrong), 0);
    let mut used = 0;
    for table in &churn.tables {
        let all = alive(&arena, table);
        if !churn.few.iter().any(|few| few.map == table.map) {
            assert!(all.is_empty(), "all were taken away: {table:?}");
        }
        for (key, words) in all {
            assert_eq!(words[1] % (PRICE + key), 0, "{key} of {table:?}");
        }
        let slots = 0..table.slots;
        let life = |slot: u32| {
            let at = HEADER + slot * table.slot_size() + LIFE;
            arena.word(table, LAYOUT.block(0), u64::from(at)) >> 34
        };
        used += slots.map(life).sum::<u64>();
    }
    println!("{runs} runs took {used} slots");
    assert!(used > 10 * runs, "keys came and went");
    let left = alive(&arena, &churn.later);
    assert_eq!(counted(&churn.found) + left.len() as u64, runs);
    for (key, words) in left {
        assert_eq!(words, [1, key + 1]);
    }
    for block in 0..=THREADS {
        let at = u64::from(abi::DROPPED);
        let dropped = arena
            .blocks
            .load(crate::native::D + LAYOUT.block(block) + at);
        assert_eq!(dropped, 0);
    }
}

#[test]
fn keys_that_come_and_go_find_room_and_keep_what_is_theirs() {
    check(false);
}

#[test]
fn keys_that_come_and_go_find_room_in_blocks_of_their_own_too() {
    if own_blocks() {
        check(true);
    }
}
