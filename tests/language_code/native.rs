//! Runs a site's code in this process as a hit would, and says where what it leaves behind is not what
//! the evaluator says. Knows the layout of blocks, tables and records by `abi.rs` and `table.rs` alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use kptrace::abi::{self, Layout};
use kptrace::arch::x86_64::emit::{Called, Environment, Place, Section, Template};
use kptrace::base::{ProbeId, Tid};
use kptrace::program::{Home, Program, Table};
use kptrace::sys::native::Native;
use kptrace::sys::native::trial::{self, Guarded, Machine, STATUS_FLAGS};
use kptrace::sys::procfs;
use kptrace::sys::shm::Shared;

use crate::evaluator::{Facts, Leaf, Seen, State, World};
use crate::random::{self, LARGEST, SCRATCH, Target, number};
use crate::support::Rng;

#[path = "native/compare.rs"]
mod compare;

use compare::same;

/// One layout for all cases.
pub const LAYOUT: Layout = Layout {
    probes: 8,
    ring_size: 1 << 16,
    largest: LARGEST,
    blocks: 2,
    tables: 1 << 20,
    scratch: SCRATCH + 64,
    returns: false,
};
/// All places of scratch memory taken.
const NONE_FREE: u64 = 0xffff_ffff;
/// Between tables.
pub const GAP: u32 = 64;
/// What stands there, and wherever else nothing may be written.
const UNTOUCHED: u64 = 0xc0de_face_0bad_f00d;
/// Bytes of the target, and how many of them are pointers.
const MEMORY: u64 = 4096;
const POINTERS: u64 = 256;

/// Which block a thread writes, and how it comes to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Threads have no blocks.
    Shared,
    /// The thread's own.
    Own,
    /// Threads may have blocks, this one has none.
    Foreign,
    /// The base of gs is of something that is gone.
    Stale,
}

/// Programs at one site, and how they are run.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub tables: Vec<Arc<Table>>,
    pub programs: Vec<Program>,
    pub mode: Mode,
    pub loads: bool,
    pub flags_live: bool,
    pub free: Option<u8>,
    pub hits: usize,
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Same,
    /// The evaluator refuses it.
    Refused(&'static str),
}

/// The memory that code needs, for one case after the other.
pub struct Arena {
    pub blocks: Shared,
    pub maps: Shared,
    memory: Guarded,
    machine: Box<Machine>,
    tid: u64,
    /// What the cases that were compared consisted of.
    pub seen: Seen,
}

/// There is one handler of faults, and one thread has a base of gs: who runs code holds this.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Offset in the object of the first block, behind the alive word's page.
pub const D: u64 = abi::ALIVE_SIZE;

/// Code in place, for the handler of faults.
static PLACED: RwLock<Option<(Template, u64, u64)>> = RwLock::new(None);

/// How many faults were put right.
pub static FAULTS: AtomicU64 = AtomicU64::new(0);

fn resume(pc: u64) -> Option<u64> {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    let placed = PLACED.try_read().ok()?;
    let (template, hot, cold) = placed.as_ref()?;
    let (section, at) = if pc >= *cold {
        (Section::Cold, *cold)
    } else {
        (Section::Hot, *hot)
    };
    let offset = usize::try_from(pc.checked_sub(at)?).ok()?;
    let to = template.fixup(Place { section, offset })?;
    let at = match to.section {
        Section::Hot => hot,
        Section::Cold => cold,
    };
    Some(at + to.offset as u64)
}

/// Code that returns, ready to be run.
pub fn place(template: &Template, probes: &[ProbeId]) -> Native {
    let cold_from = template.hot_len() as u64 + 1;
    let len = template.hot_len() + 1 + template.cold_len();
    let mut at = 0;
    let native = Native::new(len, |address| {
        at = address;
        let called = |id: &ProbeId| Called {
            probe: id.0,
            function: id.0 / 2,
        };
        let named: Vec<(ProbeId, Called)> = probes.iter().map(|id| (*id, called(id))).collect();
        let (mut code, cold) = template.place(&named, address, address, address + cold_from)?;
        code.push(0xc3);
        code.extend(cold);
        Some(code)
    });
    let native = native.expect("memory for code");
    let placed = Some((template.clone(), at, at + cold_from));
    *PLACED.write().expect("no test failed with it") = placed;
    native
}

/// One hit, as both see it.
struct Input {
    general: [u64; 16],
    vectors: [[u64; 2]; 16],
    flags: u64,
    above: Vec<u64>,
    epoch: u64,
    alive: bool,
    drain: bool,
    expected: Vec<Leaf>,
    head: u64,
}

impl Arena {
    pub fn new() -> Arena {
        Arena::of(LAYOUT.blocks)
    }

    /// With so many blocks.
    pub fn of(blocks: u32) -> Arena {
        trial::on_fault(resume).expect("a handler");
        let (blocks, _) = Shared::create_low(D + LAYOUT.block(blocks)).expect("low memory");
        let (maps, _) = Shared::create_low(u64::from(LAYOUT.tables)).expect("low memory");
        let memory = Guarded::new(MEMORY as usize).expect("memory");
        let tid = trial::thread().cast_unsigned();
        Arena {
            blocks,
            maps,
            memory,
            machine: Machine::new(),
            tid: u64::from(tid),
            seen: Seen::default(),
        }
    }

    pub fn target(&self) -> Target {
        Target {
            at: self.memory.address(),
            len: MEMORY,
            pointers: POINTERS,
            own_blocks: own_blocks(),
        }
    }

    pub fn environment(&self, own_blocks: bool, loads: bool) -> Environment {
        let low = |address: u64| u32::try_from(address).expect("low memory");
        Environment {
            shared_block: low(self.blocks.address() + D),
            alive: low(self.blocks.address()),
            layout: LAYOUT,
            own_blocks,
            loads,
            maps: low(self.maps.address()),
            activations: None,
        }
    }

    /// The target's memory: pointers, then strings of all lengths between other bytes.
    fn fill_memory(&mut self, rng: &mut Rng) {
        let at = self.memory.address();
        let few = rng.below(3);
        let bytes = self.memory.bytes();
        for chunk in bytes.chunks_mut(8) {
            let word = match few {
                0 => rng.next() & rng.next() & rng.next() & rng.next(),
                1 => rng.next() & 0x0101_0101_0101_0101,
                _ => rng.next() | 0x0101_0101_0101_0101,
            };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        for chunk in bytes[..POINTERS as usize].chunks_mut(8) {
            let word = match rng.below(6) {
                0 => 0,
                1 => rng.next() | 1 << 63,
                _ => at + rng.below(MEMORY as usize) as u64,
            };
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn general(&self, rng: &mut Rng) -> [u64; 16] {
        let mut general = std::array::from_fn(|_| number(rng));
        general[7] = self.machine.stack_pointer();
        general[5] = self.memory.address()
            + match rng.below(4) {
                0 => MEMORY - rng.below(100) as u64,
                _ => rng.below(MEMORY as usize) as u64,
            };
        general
    }

    /// Runs a case in both ways; what differs, in words.
    pub fn run(&mut self, case: &Case) -> Result<Outcome, String> {
        let mut rng = Rng(case.seed ^ 0x5eed);
        let rng = &mut rng;
        let own_blocks = case.mode != Mode::Shared;
        let environment = self.environment(own_blocks, case.loads);
        let template = Template::new(&case.programs, &environment, case.flags_live, case.free);
        let template = template.map_err(|why| format!("not emitted: {why}"))?;
        self.fill_memory(rng);
        let memory = self.memory.bytes().to_vec();
        let block = u32::from(case.mode == Mode::Own);
        let at = D + LAYOUT.block(block);

        // What the tracer would have written.
        self.clear(case);
        let facts = self.facts(rng, case.mode);
        let head = match rng.below(4) {
            0 => 0_u64.wrapping_sub(64 * rng.below(20) as u64),
            1 => (1_u64 << 32).wrapping_sub(64 * rng.below(20) as u64),
            _ => rng.next() & !63,
        };
        let tail = match rng.below(6) {
            0 => {
                let little = u64::from(LAYOUT.slack()) + 8 * rng.below(300) as u64;
                head.wrapping_sub(u64::from(LAYOUT.ring_size) - little)
            }
            _ => head,
        };
        let taken = match rng.below(6) {
            0 => 1,
            1 => 0b1011,
            2 => 0x7fff_ffff,
            3 if rng.below(4) == 0 => NONE_FREE,
            _ => 0,
        };
        let store = |offset: u32, value: u64| self.blocks.store(at + u64::from(offset), value);
        store(abi::HEAD, head);
        store(abi::TAIL, tail);
        store(abi::IN_USE, taken);
        let place_at = u64::from(LAYOUT.scratch() + LAYOUT.scratch * taken.trailing_ones());
        // Behind the last place there is the ring.
        let place_end = match taken.trailing_ones() {
            0..31 => LAYOUT.scratch + 64,
            31 => LAYOUT.scratch,
            _ => 0,
        };
        for word in (0..u64::from(place_end)).step_by(8) {
            self.blocks.store(at + place_at + word, UNTOUCHED);
        }

        // First in the evaluator, hit by hit.
        let mut state = State::new(&case.tables, LAYOUT.probes, head);
        state.tail = tail;
        let mut inputs = Vec::new();
        for _ in 0..case.hits {
            let input = self.input(rng);
            let world = World {
                general: input.general,
                floats: std::array::from_fn(|n| input.vectors[n][0]),
                above: &input.above,
                memory: (self.memory.address(), &memory),
                loads: case.loads,
                known: facts,
                epoch: input.epoch,
                no_scratch: taken == NONE_FREE,
            };
            if input.alive {
                for (index, program) in case.programs.iter().enumerate() {
                    let probe = probe(case, index).0;
                    if let Err(refused) = state.hit(program, probe, &world, &LAYOUT) {
                        return Ok(Outcome::Refused(refused.0));
                    }
                }
            }
            if input.drain {
                state.tail = state.head;
            }
            let expected = std::mem::take(&mut state.records);
            inputs.push(Input {
                expected,
                head: state.head,
                ..input
            });
        }

        // Then in code.
        let probes: Vec<ProbeId> = (0..case.programs.len()).map(|n| probe(case, n)).collect();
        let native = place(&template, &probes);
        let mut position = head;
        for (number, input) in inputs.iter().enumerate() {
            let hit = |what: String| format!("hit {number}: {what}");
            self.one(case, &native, input).map_err(hit)?;
            self.records(case, at, position, input).map_err(hit)?;
            position = input.head;
            if input.drain {
                self.blocks.store(at + u64::from(abi::TAIL), position);
            }
        }
        self.counters(at, &state, taken)?;
        for map in &state.maps {
            self.map(map, at)
                .map_err(|what| format!("map {}: {what}", map.table.map))?;
        }
        self.gaps(case, at)?;
        let scratch = case.programs.iter().map(|program| program.scratch).max();
        for word in (scratch.unwrap_or(0)..place_end).step_by(8) {
            let found = self.blocks.load(at + place_at + u64::from(word));
            same("scratch memory behind its end", found, UNTOUCHED)?;
        }
        let other = D + LAYOUT.block(1 - block);
        for offset in (0..abi::COUNTERS + 16 * LAYOUT.probes).step_by(8) {
            let quiet = [abi::HEAD, abi::LOST, abi::FAULTS, abi::DROPPED, abi::IN_USE];
            if offset >= abi::COUNTERS || quiet.contains(&offset) {
                let found = self.blocks.load(other + u64::from(offset));
                same("the other block", found, 0)?;
            }
        }
        self.seen.take(&state.seen);
        Ok(Outcome::Same)
    }

    fn input(&self, rng: &mut Rng) -> Input {
        Input {
            general: self.general(rng),
            vectors: std::array::from_fn(|_| [number(rng), rng.next()]),
            flags: rng.next() & STATUS_FLAGS,
            above: (0..8).map(|_| number(rng)).collect(),
            epoch: rng.next(),
            alive: rng.below(30) != 0,
            drain: rng.below(3) != 0,
            expected: Vec::new(),
            head: 0,
        }
    }

    fn clear(&self, case: &Case) {
        let zeros = vec![0; LAYOUT.tables as usize];
        let end = |home| {
            let of = case.tables.iter().filter(|table| table.home == home);
            let ends = of.map(|table| u64::from(table.offset) + table.size());
            ends.max().unwrap_or(0) + u64::from(GAP)
        };
        let header = (abi::COUNTERS + 16 * LAYOUT.probes) as usize;
        for block in 0..2 {
            let at = D + LAYOUT.block(block);
            assert!(self.blocks.copy_in(at, &zeros[..header]));
            let own = &zeros[..end(Home::Thread) as usize];
            assert!(self.blocks.copy_in(at + u64::from(LAYOUT.tables()), own));
        }
        let session = &zeros[..end(Home::Session) as usize];
        assert!(self.maps.copy_in(0, session));
        for block in 0..2 {
            let at = D + LAYOUT.block(block);
            each_gap(case, |home, offset| {
                self.table_store(home, at, offset, UNTOUCHED)
            });
        }
    }

    fn table_store(&self, home: Home, block: u64, offset: u64, value: u64) {
        match home {
            Home::Thread => self
                .blocks
                .store(block + u64::from(LAYOUT.tables()) + offset, value),
            Home::Session => self.maps.store(offset, value),
        }
    }

    /// A word of a table, in a block or in the session's maps.
    pub fn word(&self, table: &Table, block: u64, offset: u64) -> u64 {
        self.table_load(table.home, D + block, u64::from(table.offset) + offset)
    }

    fn table_load(&self, home: Home, block: u64, offset: u64) -> u64 {
        match home {
            Home::Thread => self
                .blocks
                .load(block + u64::from(LAYOUT.tables()) + offset),
            Home::Session => self.maps.load(offset),
        }
    }

    fn gaps(&self, case: &Case, block: u64) -> Result<(), String> {
        let mut result = Ok(());
        each_gap(case, |home, offset| {
            let found = self.table_load(home, block, offset);
            let gap = same("between tables", found, UNTOUCHED);
            if result.is_ok() {
                result = gap;
            }
        });
        result
    }

    fn facts(&self, rng: &mut Rng, mode: Mode) -> Facts {
        let mut facts = Facts {
            pid: rng.next() >> 32,
            tid: self.tid,
            uid: rng.next() >> 32,
            gid: rng.next() >> 32,
            child: rng.next() >> 32,
            comm: [rng.next(), rng.next()],
        };
        let shared = |offset: u32, value: u64| self.blocks.store(D + u64::from(offset), value);
        shared(abi::PID, facts.pid);
        shared(abi::UID, facts.uid | facts.gid << 32);
        shared(abi::CHILD, facts.child);
        shared(abi::CLOCK_SLOPE, 1 << 32);
        shared(abi::CLOCK_START, 1);
        shared(abi::COMM, facts.comm[0]);
        shared(abi::COMM + 8, facts.comm[1]);
        let at = D + LAYOUT.block(1);
        let own = |offset: u32, value: u64| self.blocks.store(at + u64::from(offset), value);
        own(abi::OWNER, abi::NO_OWNER);
        if mode == Mode::Own {
            facts.tid = rng.next() >> 33;
            facts.comm = [rng.next(), rng.next()];
            own(abi::OWNER, trial::fs_base());
            own(abi::TID, facts.tid);
            own(abi::COMM, facts.comm[0]);
            own(abi::COMM + 8, facts.comm[1]);
        }
        facts
    }

    /// One hit in code; everything of the target is as it was.
    fn one(&mut self, case: &Case, native: &Native, input: &Input) -> Result<(), String> {
        self.blocks.store(0, u64::from(input.alive));
        self.blocks.store(D + u64::from(abi::EPOCH), input.epoch);
        let machine = &mut *self.machine;
        machine.general = input.general;
        machine.vectors = input.vectors;
        machine.flags = input.flags;
        machine.above()[..8].copy_from_slice(&input.above);
        machine.red_zone().fill(UNTOUCHED);
        let d = self.blocks.address() + D;
        let gs = match case.mode {
            Mode::Shared => None,
            Mode::Own | Mode::Foreign => Some(LAYOUT.block(1)),
            Mode::Stale => Some(64_u64.wrapping_sub(d)),
        };
        match gs {
            Some(base) => trial::with_gs_base(base, || native.observe(machine)),
            None => native.observe(machine),
        }
        for (number, (&found, &was)) in machine.general.iter().zip(&input.general).enumerate() {
            if case.free != Some(number as u8) {
                same(&format!("register {number}"), found, was)?;
            }
        }
        for (number, (found, was)) in machine.vectors.iter().zip(&input.vectors).enumerate() {
            same(&format!("xmm{number}"), found, was)?;
        }
        if case.flags_live {
            same("the flags", machine.flags, input.flags)?;
        }
        let red_zone = machine.red_zone().iter();
        red_zone.for_each(|&word| assert_eq!(word, UNTOUCHED, "the red zone"));
        same("the stack", &machine.above()[..8], &input.above[..])
    }
}

/// The probe of the n-th program.
fn probe(case: &Case, index: usize) -> ProbeId {
    ProbeId(((case.seed % 5) as u32 + 3 * index as u32) % LAYOUT.probes)
}

fn each_gap(case: &Case, mut f: impl FnMut(Home, u64)) {
    for table in &case.tables {
        let from = u64::from(table.offset) + table.size();
        for offset in (from..from + u64::from(GAP)).step_by(8) {
            f(table.home, offset);
        }
    }
}

/// Whether threads can have blocks of their own here.
pub fn own_blocks() -> bool {
    let auxv = procfs::auxv(Tid(trial::thread())).expect("our own");
    auxv.hwcap2 & procfs::HWCAP2_FSGSBASE != 0
}

/// A case of its own for each seed.
pub fn case(seed: u64, target: Target) -> Case {
    let mut rng = Rng(seed);
    let rng = &mut rng;
    let tables = random::tables(rng, GAP);
    let count = if rng.below(5) == 0 {
        2 + rng.below(2)
    } else {
        1
    };
    let programs: Vec<Program> = (0..count)
        .map(|_| random::program(rng, target, &tables))
        .collect();
    let mode = match rng.below(8) {
        _ if !target.own_blocks => Mode::Shared,
        0..3 => Mode::Shared,
        3..6 => Mode::Own,
        6 => Mode::Foreign,
        _ => Mode::Stale,
    };
    let flags_live = rng.below(2) == 0;
    let counts = programs.iter().all(|program| *program == Program::count());
    Case {
        seed,
        tables,
        programs,
        mode,
        loads: rng.below(12) != 0,
        flags_live,
        free: (counts && !flags_live && rng.below(2) == 0).then_some(11),
        hits: 1 + rng.below(8),
    }
}
