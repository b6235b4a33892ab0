//! A tracer that steps: one instruction after the other, and every address control arrives at is
//! held against the windows. Takes verdicts as they are, and decodes nothing but the displaced
//! instructions.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;

use kptrace::arch::native::relocate::instruction_len;
use kptrace::arch::native::scan::WindowKind;
use kptrace::base::{Addr, LinkAddr, Tid};
use kptrace::session::{Module, modules};
use kptrace::sys::errno::sig;
use kptrace::sys::poll::{self, Signals};
use kptrace::sys::wait::{self, Status};
use kptrace::sys::{procfs, ptrace};
use kptrace::target::{LaunchError, Process, launch};

/// What is stepped.
pub struct Walk<'a> {
    /// The command.
    pub command: Vec<&'a str>,
    /// Instructions to step.
    pub steps: u64,
    /// Whether to begin in the loader, before the program's entry point.
    pub loader: bool,
    /// Instructions to step before the next stretch that runs freely; 0 for never.
    pub burst: u64,
    /// Whether the windows at every instruction of the program's functions are looked at too, not
    /// only those at the entries.
    pub everywhere: bool,
}

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Instructions stepped.
    pub steps: u64,
    /// Windows there were at the end.
    pub windows: usize,
    /// Windows whose interior control came to.
    pub walked: HashSet<u64>,
    /// Arrivals in an interior by fall-through.
    pub fell_through: u64,
    /// Arrivals in an interior from elsewhere, in words.
    pub sideways: Vec<String>,
    /// Arrivals in the program from elsewhere than the instruction before.
    pub branched: u64,
    /// How it ended, when it came to its end.
    pub end: Option<Status>,
}

/// An address strictly inside a displaced range.
struct Inside {
    window: Addr,
    /// The displaced instruction before it; `None` where no displaced instruction starts.
    before: Option<Addr>,
}

struct Walker {
    process: Process,
    tid: Tid,
    inside: HashMap<Addr, Inside>,
    /// Addresses strictly inside the window at some instruction of the program.
    somewhere: HashMap<Addr, Addr>,
    modules: Vec<Module>,
    /// Where the last step began.
    from: Option<Addr>,
    seen: Seen,
}

/// Steps a program; it is killed when the steps are used up.
pub fn walk(walk: &Walk<'_>) -> Seen {
    let command: Vec<OsString> = walk.command.iter().map(OsString::from).collect();
    let signals = Signals::collect().unwrap();
    let process = match launch(&command, signals.mask_before()) {
        Ok(process) => process,
        Err(LaunchError::Exec(error)) => panic!("{}: {error}", walk.command[0]),
        Err(LaunchError::Other(error)) => panic!("{}: {error:#}", walk.command[0]),
    };
    let tid = Tid(process.pid.0);
    let entry = Addr(process.auxv.entry);
    let mut original = [0];
    process.memory.read(entry, &mut original).unwrap();
    process.memory.write(entry, &[0xcc]).unwrap();
    let mut walker = Walker {
        process,
        tid,
        inside: HashMap::new(),
        somewhere: HashMap::new(),
        modules: Vec::new(),
        from: None,
        seen: Seen::default(),
    };
    walker.go_to_entry(
        (entry, original),
        if walk.loader { walk.steps / 3 } else { 0 },
    );
    walker.look();
    if walk.everywhere {
        walker.look_everywhere();
    }
    while walker.seen.end.is_none() && walker.seen.steps < walk.steps {
        let rest = walk.steps - walker.seen.steps;
        match walk.burst {
            0 => walker.steps(rest, None),
            burst => {
                walker.steps(rest.min(burst), None);
                walker.run_freely();
            }
        }
    }
    if walker.seen.end.is_none() {
        poll::kill(walker.process.pid, sig::KILL).unwrap();
        while !matches!(
            wait::thread(tid).unwrap(),
            Status::Killed(_) | Status::Exited(_)
        ) {}
    }
    walker.seen
}

impl Walker {
    /// Takes the verdicts of everything that is mapped now.
    fn look(&mut self) {
        let (pid, tid) = (self.process.pid, self.tid);
        let maps = procfs::maps(pid, tid).unwrap();
        let mut notes = Vec::new();
        self.modules = modules(tid, &self.process.memory, &maps, &mut notes).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        self.inside.clear();
        self.seen.windows = 0;
        let modules = std::mem::take(&mut self.modules);
        for module in &modules {
            for entry in module.file(None).entries() {
                let Ok(window) = entry.verdict else { continue };
                assert_ne!(window.kind, WindowKind::Trap);
                self.window(entry.addr.at(module.bias), window.len, window.patched());
            }
        }
        self.modules = modules;
    }

    fn window(&mut self, window: Addr, len: u8, patched: u8) {
        self.seen.windows += 1;
        let mut bytes = [0; 32];
        let got = self.process.memory.read_some(window, &mut bytes).unwrap();
        let mut starts = HashMap::new();
        let (mut before, mut offset) = (0, 0);
        while offset < usize::from(len) {
            starts.insert(offset, before);
            before = offset;
            offset += instruction_len(&bytes[offset..got]).unwrap();
        }
        assert_eq!(offset, usize::from(len), "whole instructions at {window}");
        for offset in 1..usize::from(patched) {
            let before = starts.get(&offset).map(|&before| window + before as u64);
            let inside = Inside { window, before };
            let old = self.inside.insert(window + offset as u64, inside);
            assert!(old.is_none(), "two windows own {window}+{offset:#x}");
        }
    }

    /// Takes the verdicts at every instruction of the program's functions.
    fn look_everywhere(&mut self) {
        let module = self.modules.iter().find(|m| m.program).unwrap();
        module.with_text(|text| {
            for function in module.symbols().entries() {
                let size = usize::try_from(function.size).unwrap();
                let bytes = module.image().bytes_at(function.at, size).unwrap();
                let mut offset = 0;
                while offset < size {
                    let at = function.at.0 + offset as u64;
                    if let Ok(window) = text.window_at(at) {
                        let start = LinkAddr(at).at(module.bias);
                        for inside in 1..u64::from(window.patched()) {
                            self.somewhere.insert(start + inside, start);
                        }
                    }
                    offset += instruction_len(&bytes[offset..]).unwrap_or(1);
                }
            }
        });
        assert!(!self.somewhere.is_empty());
    }

    /// Brings the program to its entry point, the first `budget` instructions by steps.
    fn go_to_entry(&mut self, (entry, original): (Addr, [u8; 1]), budget: u64) {
        if budget > 0 {
            self.look();
            self.steps(budget, Some(entry));
        }
        assert_eq!(self.seen.end, None);
        if ptrace::pc(self.tid).unwrap() != entry {
            ptrace::cont(self.tid, 0).unwrap();
            assert_eq!(wait::thread(self.tid).unwrap(), Status::Signal(sig::TRAP));
            assert_eq!(ptrace::pc(self.tid).unwrap(), entry + 1);
            ptrace::set_pc(self.tid, entry).unwrap();
        }
        let memory = &self.process.memory;
        memory.write(entry, &original).unwrap();
        self.from = None;
    }

    /// Steps `count` instructions, or until it ends or comes to `until`.
    fn steps(&mut self, count: u64, until: Option<Addr>) {
        let mut signal = 0;
        for _ in 0..count {
            ptrace::step(self.tid, signal).unwrap();
            let delivered = std::mem::take(&mut signal) != 0;
            match wait::thread(self.tid).unwrap() {
                Status::Signal(sig::TRAP) => {}
                Status::Signal(other) => signal = other,
                end @ (Status::Exited(_) | Status::Killed(_)) => {
                    self.seen.end = Some(end);
                    return;
                }
                other => panic!("the program does what this test does not follow: {other:?}"),
            }
            let pc = ptrace::pc(self.tid).unwrap();
            self.seen.steps += 1;
            if !delivered {
                self.arrive(pc);
            }
            self.from = Some(pc);
            if until == Some(pc) {
                return;
            }
        }
    }

    fn arrive(&mut self, pc: Addr) {
        self.arrive_somewhere(pc);
        let Some(inside) = self.inside.get(&pc) else {
            return;
        };
        // A repeated string instruction stays where it is.
        if self.from == Some(pc) {
            return;
        }
        match (self.from, inside.before) {
            (Some(from), Some(before)) if from == before => {
                self.seen.fell_through += 1;
                self.seen.walked.insert(inside.window.0);
            }
            // The first step after a stretch that was not watched.
            (None, Some(_)) => {}
            (from, _) => {
                let words = format!(
                    "{} is entered at +{:#x} from {}",
                    self.name(inside.window),
                    pc.distance(inside.window),
                    from.map_or("somewhere".to_owned(), |from| self.name(from)),
                );
                self.seen.sideways.push(words);
            }
        }
    }

    fn arrive_somewhere(&mut self, pc: Addr) {
        let Some(from) = self.from.filter(|&from| from != pc) else {
            return;
        };
        if self.somewhere.is_empty() || !self.modules[0].span.contains(pc) {
            return;
        }
        let mut bytes = [0; 15];
        let got = self.process.memory.read_some(from, &mut bytes).unwrap();
        let len = instruction_len(&bytes[..got]).unwrap() as u64;
        if from + len == pc {
            return;
        }
        self.seen.branched += 1;
        if let Some(&window) = self.somewhere.get(&pc) {
            let (window, pc, from) = (self.name(window), self.name(pc), self.name(from));
            let words = format!("a window at {window} is entered at {pc} from {from}");
            self.seen.sideways.push(words);
        }
    }

    fn name(&self, at: Addr) -> String {
        match self.modules.iter().find(|m| m.span.contains(at)) {
            Some(module) => format!("{}+{:#x}", module.name, at.0.wrapping_sub(module.bias)),
            None => at.to_string(),
        }
    }

    /// Runs to the end of a system call some calls on.
    fn run_freely(&mut self) {
        if self.seen.end.is_some() {
            return;
        }
        let mut signal = 0;
        let mut stops = 0;
        while stops < 8 {
            ptrace::cont_to_syscall(self.tid, signal).unwrap();
            signal = 0;
            match wait::thread(self.tid).unwrap() {
                Status::Syscall => stops += 1,
                Status::Signal(other) => signal = other,
                end @ (Status::Exited(_) | Status::Killed(_)) => {
                    self.seen.end = Some(end);
                    return;
                }
                other => panic!("the program does what this test does not follow: {other:?}"),
            }
        }
        self.from = None;
    }
}
