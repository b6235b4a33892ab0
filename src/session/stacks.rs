//! Stacks: how each probe records them, and who makes frames of them for the drain.
//!
//! A walk by frame pointers is right only where every function on the stack keeps them, and one that
//! does not is not seen from outside: so it is done where the unwind tables of all that is mapped say so,
//! and where nothing more will come that the program was linked with. In all other cases the stack is
//! copied and walked by those tables.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::atlas::{Atlas, Identity, Mapped};
use super::module::Module;
use super::tracee::Tracee;
use super::wanted::Wanted;
use crate::base::{Addr, LinkAddr, Pid, Span};
use crate::data::{Frame, Sample, Stacks, Walks};
use crate::program::{Effect, Field, FieldKind, Program};
use crate::symbols::{self, SourceMap, Start, Symbols, UnwindTables, Unwinder};
use crate::sys::procfs;

/// Most addresses whose frames are kept.
const KEPT: usize = 1 << 16;
/// Most processes whose code is kept.
const PROCESSES: usize = 256;
/// Most bytes of a vdso.
const VDSO: u64 = 1 << 16;

/// How stacks are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackBy {
    /// By frame pointers where all of the target keeps them, else by a copy.
    #[default]
    Auto,
    /// By frame pointers.
    FramePointers,
    /// By a copy of the stack.
    Copy,
}

/// What is recorded of stacks.
#[derive(Clone, Debug)]
pub struct WantedStacks {
    /// Most frames that each hit of `-p` shows; `None` when stacks are not asked for.
    pub frames: Option<u32>,
    /// Most bytes that are copied, a multiple of 8.
    pub copied: u16,
    /// How they are walked.
    pub by: StackBy,
    /// What is mapped where.
    pub(super) atlas: Arc<Atlas>,
}

impl Default for WantedStacks {
    fn default() -> WantedStacks {
        WantedStacks::new(None, WantedStacks::COPIED, StackBy::Auto)
    }
}

impl WantedStacks {
    /// Bytes that are copied unless the user says otherwise.
    pub const COPIED: u16 = 8192;
    /// Most that may be.
    pub const MOST_COPIED: u16 = 15360;
    /// Frames that are shown unless the user says otherwise.
    pub const FRAMES: u32 = 127;

    /// See the fields.
    pub fn new(frames: Option<u32>, copied: u16, by: StackBy) -> WantedStacks {
        WantedStacks {
            frames,
            copied: copied
                .next_multiple_of(8)
                .clamp(64, WantedStacks::MOST_COPIED),
            by,
            atlas: Arc::default(),
        }
    }

    /// Bytes that a stack takes in a record at most.
    pub(super) fn size(&self) -> u32 {
        self.frames.map_or(0, |frames| {
            let copied = FieldKind::Stack {
                most: self.copied,
                entry: true,
            };
            let walked = FieldKind::Frames {
                most: frames,
                entry: true,
            };
            copied.size().max(walked.size())
        })
    }

    /// Puts the stack into the records of a probe, where stacks are asked for. `on_top`: the caller's
    /// address is on top of it.
    pub(super) fn record(&self, program: &mut Program, by_frame_pointers: bool, on_top: bool) {
        let Some(frames) = self.frames else {
            return;
        };
        let kind = match by_frame_pointers {
            true => FieldKind::Frames {
                most: frames,
                entry: on_top,
            },
            false => FieldKind::Stack {
                most: self.copied,
                entry: on_top,
            },
        };
        for effect in &mut program.effects {
            if let Effect::Record(record) = effect {
                record.fields.push(Field {
                    name: "stack".to_owned(),
                    kind,
                });
            }
        }
    }
}

impl WantedStacks {
    /// A program that copies stacks, as much of them as is wanted.
    pub(super) fn sized(&self, program: &Program) -> Program {
        let mut program = program.clone();
        resize(&mut program.effects, self.copied);
        program
    }
}

fn resize(effects: &mut [Effect], copied: u16) {
    for effect in effects {
        match effect {
            Effect::Record(record) => {
                for field in &mut record.fields {
                    if let FieldKind::Stack { most, .. } = &mut field.kind {
                        *most = copied;
                    }
                }
            }
            Effect::If(_, then, otherwise) => {
                resize(then, copied);
                resize(otherwise, copied);
            }
            Effect::Loop(_, body) => resize(body, copied),
            Effect::Each(each) => resize(&mut each.body, copied),
            _ => {}
        }
    }
}

impl Wanted {
    /// Whether the hits of a probe's text take stacks.
    pub(super) fn takes_stacks(&self, spec: usize) -> bool {
        match self.program(spec) {
            Some(_) => self.copy(spec).is_some(),
            None => self.stacks.frames.is_some(),
        }
    }

    /// What a user must know of stacks in a process with these modules.
    pub(super) fn stack_note(&self, modules: &[Module]) -> Option<String> {
        let why = self.language.as_ref()?.lowered.uncopied.as_ref()?;
        let without = |module: &&Module| !module.opened().keeps_frame_pointers();
        let module = modules.iter().find(without)?;
        (self.stacks.by != StackBy::FramePointers).then(|| {
            format!(
                "stacks are walked by frame pointers, which {} does not keep: {why}",
                module.name
            )
        })
    }

    /// Who makes frames of stacks, if any are recorded.
    pub(super) fn walks(&self) -> Option<Walks> {
        let most = self.stacks.frames.unwrap_or(WantedStacks::FRAMES);
        (self.stacks.frames.is_some() || self.language.is_some()).then(|| Walks {
            stacks: Box::new(Walker::new(Arc::clone(&self.stacks.atlas))),
            most: most as usize,
        })
    }

    /// Whether stacks of a process with these modules are walked by frame pointers.
    pub(super) fn by_frame_pointers(&self, modules: &[Module]) -> bool {
        match self.stacks.by {
            StackBy::FramePointers => true,
            StackBy::Copy => false,
            StackBy::Auto => {
                let alone = |module: &Module| module.image().interpreter().is_none();
                let complete = modules.len() > 2 || modules.iter().all(alone);
                complete
                    && modules
                        .iter()
                        .all(|module| module.opened().keeps_frame_pointers())
            }
        }
    }
}

impl Tracee {
    /// Remembers where files are mapped, for symbols in what programs print, and for stacks.
    pub(super) fn chart(&self, modules: &[Module]) {
        let wanted = &*self.common.wanted.borrow();
        if wanted.language.is_none() && wanted.stacks.frames.is_none() {
            return;
        }
        let atlas = &wanted.stacks.atlas;
        let pid = self.process.pid;
        let one = self.process.one_alive().map_or(pid.0, |tid| tid.0);
        let root = PathBuf::from(format!("/proc/{one}/root"));
        for module in modules {
            let place = (module.span, module.bias);
            atlas.add(pid, place, &module.name, (&module.path, &root));
        }
        if modules.iter().any(|module| module.program) {
            self.chart_vdso(atlas);
        }
    }

    fn chart_vdso(&self, atlas: &Atlas) {
        let pid = self.process.pid;
        let Some(tid) = self.process.one_alive() else {
            return;
        };
        let Ok(maps) = procfs::maps(pid, tid) else {
            return;
        };
        let Some(vdso) = maps.iter().find(|mapping| mapping.path == "[vdso]") else {
            return;
        };
        let mut bytes = vec![0; vdso.span.len().min(VDSO) as usize];
        if self
            .process
            .memory
            .read(vdso.span.start, &mut bytes)
            .is_ok()
        {
            // It is linked at 0.
            let place = (vdso.span, vdso.span.start.0);
            atlas.add_bytes(pid, place, "[vdso]", bytes);
        }
    }
}

/// What is known of a file.
struct File {
    symbols: Option<Symbols>,
    lines: Option<SourceMap>,
    tables: Arc<UnwindTables>,
}

impl File {
    fn read(mapped: &Mapped) -> Option<File> {
        let (image, debug) = mapped.images()?;
        Some(File {
            symbols: Symbols::load(&image, debug.as_ref()).ok(),
            lines: SourceMap::load(&image, debug.as_ref()),
            tables: Arc::new(UnwindTables::of(&image, debug.as_ref())),
        })
    }

    /// What an address stands for, looked up at `at`.
    fn frames(&self, address: u64, link: LinkAddr, at: LinkAddr, module: &str) -> Vec<Frame> {
        let symbol = self.symbols.as_ref().and_then(|symbols| {
            let (name, within) = symbols.lookup(at)?;
            let name = symbols::demangle(name).unwrap_or_else(|| name.to_owned());
            Some((name, within.wrapping_add(link.0.wrapping_sub(at.0))))
        });
        let sources = self.lines.as_ref().map(|lines| lines.find(at));
        let mut sources = sources.unwrap_or_default();
        let (name, offset) = symbol.unzip();
        if sources.is_empty() {
            sources.push(symbols::SourceFrame::default());
        }
        let last = sources.len() - 1;
        let frame = |(index, source): (usize, symbols::SourceFrame)| {
            let outer = index == last;
            Frame {
                address,
                function: source.function.or_else(|| name.clone().filter(|_| outer)),
                offset: offset.filter(|_| outer),
                module: Some(module.to_owned()),
                file: source.file,
                line: source.line,
                inlined: !outer,
            }
        };
        sources.into_iter().enumerate().map(frame).collect()
    }
}

/// The code of a process as far as it was looked at.
#[derive(Default)]
struct Code {
    /// How many entries of the atlas were.
    seen: usize,
    unwinder: Unwinder,
    /// Where, with what is added, its name, and the number of its file.
    modules: Vec<(Span, u64, String, Option<usize>)>,
    frames: HashMap<(u64, bool), Arc<[Frame]>>,
}

/// Makes frames of stacks.
struct Walker {
    atlas: Arc<Atlas>,
    files: Vec<File>,
    numbers: HashMap<Identity, Option<usize>>,
    codes: HashMap<Pid, Code>,
}

impl Walker {
    fn new(atlas: Arc<Atlas>) -> Walker {
        Walker {
            atlas,
            files: Vec::new(),
            numbers: HashMap::new(),
            codes: HashMap::new(),
        }
    }

    fn code(&mut self, pid: Pid) -> (&mut Code, &[File]) {
        if self.codes.len() >= PROCESSES && !self.codes.contains_key(&pid) {
            self.codes.clear();
        }
        let code = self.codes.entry(pid).or_default();
        let (all, new) = self.atlas.since(pid, code.seen);
        code.seen = all;
        for mapped in new {
            let files = &mut self.files;
            let read = || {
                files.push(File::read(&mapped)?);
                Some(files.len() - 1)
            };
            let identity = mapped.identity();
            let file = identity.and_then(|one| *self.numbers.entry(one).or_insert_with(read));
            if let Some(file) = file.and_then(|file| self.files.get(file)) {
                code.unwinder.add(mapped.span, mapped.bias, &file.tables);
            }
            code.modules
                .retain(|(span, ..)| !span.overlaps(mapped.span));
            code.modules
                .push((mapped.span, mapped.bias, mapped.name, file));
            code.frames.clear();
        }
        (code, &self.files)
    }
}

impl Stacks for Walker {
    fn unwind(&mut self, pid: Pid, address: u64, sample: &Sample<'_>, most: usize) -> Vec<u64> {
        let start = Start {
            address,
            stack_pointer: sample.stack_pointer,
            frame_pointer: sample.frame_pointer,
            entry: sample.entry,
        };
        let (code, _) = self.code(pid);
        code.unwinder.walk(start, sample.stack, most)
    }

    fn frames(&mut self, pid: Pid, address: u64, below: Option<u64>) -> Arc<[Frame]> {
        let (code, files) = self.code(pid);
        let is_signal = |address: u64| {
            let at = Addr(address.wrapping_sub(1));
            let mut modules = code.modules.iter();
            let module = modules.find(|(span, ..)| span.contains(at));
            module.is_some_and(|(_, bias, _, file)| {
                let file = file.and_then(|file| files.get(file));
                let link = LinkAddr(at.0.wrapping_sub(*bias));
                file.is_some_and(|file| file.tables.is_signal(link))
            })
        };
        // What a signal interrupted is no call, and nobody called what its handler returns to.
        let returns = below.is_some_and(|below| !is_signal(below) && !is_signal(address));
        if let Some(frames) = code.frames.get(&(address, returns)) {
            return Arc::clone(frames);
        }
        // A call that does not return may be the last instruction of its function.
        let at = address.wrapping_sub(u64::from(returns));
        let module = code
            .modules
            .iter()
            .find(|(span, ..)| span.contains(Addr(at)));
        let frames = module.and_then(|(_, bias, name, file)| {
            let link = |at: u64| LinkAddr(at.wrapping_sub(*bias));
            Some(
                files
                    .get((*file)?)?
                    .frames(address, link(address), link(at), name),
            )
        });
        let unknown = || {
            vec![Frame {
                address,
                module: module.map(|(_, _, name, _)| name.clone()),
                ..Frame::default()
            }]
        };
        let frames: Arc<[Frame]> = frames.unwrap_or_else(unknown).into();
        if code.frames.len() >= KEPT {
            code.frames.clear();
        }
        code.frames.insert((address, returns), Arc::clone(&frames));
        frames
    }
}
