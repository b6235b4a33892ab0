//! One file mapped into the target, and where.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;

use super::opened::{Library, Opened};
use crate::analysis::{Cache, File, Text};
use crate::base::{Addr, LinkAddr, Pid, Span, Tid};
use crate::spec::ModuleName;
use crate::symbols::{self, Image, Note, Symbols};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Mapping};

/// Bytes at the start of a file that are compared with memory.
const HEADER: usize = 4096;

/// A file of the target, or one looked at alone.
#[derive(Clone)]
pub struct Module {
    /// File name, such as `libc.so.6`.
    pub name: String,
    /// Path as the target knows it.
    pub path: String,
    /// Whether it is the program itself.
    pub program: bool,
    /// The process's own name, for the program: what it was started as may be a link to its file.
    alias: Option<String>,
    /// What is added to its link addresses.
    pub bias: u64,
    /// All it occupies.
    pub span: Span,
    /// Device and inode of what is mapped.
    identity: (u64, u64),
    /// What the loader chose for indirect functions, by resolver.
    chosen: HashMap<LinkAddr, Addr>,
    opened: Rc<Opened>,
}

impl Module {
    /// A file that is not running.
    pub fn of_file(path: &Path) -> anyhow::Result<Module> {
        let opened = Rc::new(Opened::read(path, path, PathBuf::from("/"))?);
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let path = path.to_string_lossy().into_owned();
        Ok(Module::new(name, path, opened, 0))
    }

    fn new(name: String, path: String, opened: Rc<Opened>, bias: u64) -> Module {
        let image = opened.image();
        let low = image
            .segments()
            .iter()
            .map(|s| s.vaddr.0)
            .min()
            .unwrap_or(0);
        let high = image
            .segments()
            .iter()
            .map(|s| s.vaddr.0.saturating_add(s.memsz))
            .max()
            .unwrap_or(0);
        Module {
            name,
            path,
            program: false,
            alias: None,
            bias,
            span: Span {
                start: LinkAddr(low).at(bias),
                end: LinkAddr(high).at(bias),
            },
            identity: (0, 0),
            chosen: HashMap::new(),
            opened,
        }
    }

    /// The same file elsewhere.
    pub(super) fn moved(mut self, bias: u64) -> Module {
        let by = bias.wrapping_sub(self.bias);
        self.bias = bias;
        self.span = Span {
            start: Addr(self.span.start.0.wrapping_add(by)),
            end: Addr(self.span.end.0.wrapping_add(by)),
        };
        self
    }

    /// Whether a user's word for a module means this one.
    pub fn is_called(&self, name: &ModuleName) -> bool {
        name.matches(&self.path)
            || self.alias.as_ref().is_some_and(|alias| name.matches(alias))
            || self.is_at(name)
    }

    /// Whether a path with links or dots in it leads here.
    fn is_at(&self, name: &ModuleName) -> bool {
        let ModuleName::Path(path) = name else {
            return false;
        };
        let found = std::fs::canonicalize(path);
        found.is_ok_and(|found| found.as_os_str().as_encoded_bytes() == self.path.as_bytes())
    }

    /// Whether a mapping is of its file.
    pub(super) fn is_of(&self, mapping: &Mapping) -> bool {
        self.identity == (mapping.device, mapping.inode)
    }

    /// Whether a mapping holds some of its text, where it belongs. Whoever protects that anew may take
    /// the right to execute from it for a while: it is still there, as a part of what surrounds it.
    pub(super) fn has_text(&self, mapping: &Mapping) -> bool {
        let holds = |segment: &symbols::Segment| {
            let start = segment.vaddr.at(self.bias);
            let first = start.max(mapping.span.start);
            let end = Addr(start.0.saturating_add(segment.filesz));
            let in_file = segment.file_offset.wrapping_add(first.0 - start.0);
            let mapped = mapping.offset.wrapping_add(first.0 - mapping.span.start.0);
            first < end.min(mapping.span.end) && in_file == mapped
        };
        let text = self.image().segments().iter().filter(|s| s.executable);
        self.is_of(mapping) && text.into_iter().any(holds)
    }

    /// The file and what is known of it.
    pub fn opened(&self) -> &Rc<Opened> {
        &self.opened
    }

    /// The file's image.
    pub fn image(&self) -> &Image {
        self.opened.image()
    }

    /// What the loader chose for the indirect function with this resolver.
    pub fn chosen(&self, resolver: LinkAddr) -> Option<Addr> {
        self.chosen.get(&resolver).copied()
    }

    /// Reads what the loader chose for indirect functions. Before it has relocated the file that is
    /// nothing: the slots lead to no code of any module then.
    pub(super) fn read_chosen(&mut self, memory: &Memory) {
        for (slot, resolver) in symbols::indirect_slots(self.image()) {
            if let Ok(at) = memory.word(slot.at(self.bias)) {
                self.chosen.insert(resolver, Addr(at));
            }
        }
    }

    /// Its separate debug file, if there is one.
    pub fn debug(&self) -> Option<&Image> {
        self.opened.debug()
    }

    /// Its symbols.
    pub fn symbols(&self) -> &Symbols {
        self.opened.symbols()
    }

    /// Whether its file says that the program may write there, and not run it.
    pub(super) fn is_writable(&self, at: LinkAddr, len: u64) -> bool {
        let mut segments = self.image().segments().iter();
        segments.any(|segment| {
            let inside = at.0.checked_sub(segment.vaddr.0);
            segment.writable
                && !segment.executable
                && inside.is_some_and(|inside| inside.saturating_add(len) <= segment.memsz)
        })
    }

    /// Its USDT probes.
    pub fn notes(&self) -> &[Note] {
        self.opened.notes()
    }

    /// The verdicts of its entries, from the cache when they are there.
    pub fn file(&self, cache: Option<&Cache>) -> &File {
        self.opened.file(cache)
    }

    /// Asks about any address; sweeps the whole file.
    pub fn with_text<T>(&self, ask: impl FnOnce(&Text<'_>) -> T) -> T {
        self.opened.with_text(ask)
    }
}

/// The files mapped executable into the process of a thread, the program first. What cannot be read
/// is named in `notes`.
pub fn modules(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Module>> {
    let mut found = new_modules(tid, memory, maps, (&[], &Library::default()), notes)?;
    for module in &mut found {
        module.read_chosen(memory);
    }
    Ok(found)
}

/// The same, but for modules that are known already.
pub(super) fn new_modules(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    (known, library): (&[Module], &Library),
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Module>> {
    let auxv = procfs::auxv(tid).context("reading its auxiliary vector")?;
    let mut modules: Vec<Module> = Vec::new();
    for mapping in maps
        .iter()
        .filter(|m| m.exec && m.inode != 0 && m.path.starts_with('/'))
    {
        let mut others = known.iter().chain(&modules);
        if others.any(|module| module.is_of(mapping) && module.span.contains(mapping.span.start)) {
            continue;
        }
        if mapping.shared {
            notes.push(format!(
                "{}: mapped shared, so nothing in it is probed",
                mapping.path
            ));
            continue;
        }
        let is_program = maps.iter().any(|m| {
            m.inode == mapping.inode
                && m.device == mapping.device
                && m.span.contains(Addr(auxv.phdr))
        });
        match open(tid, memory, maps, mapping, (is_program, library)) {
            Ok(mut module) => {
                module.program = is_program;
                module.identity = (mapping.device, mapping.inode);
                module.alias = is_program.then(|| procfs::comm(Pid(tid.0)));
                modules.push(module);
            }
            // One that was closed meanwhile is nobody's loss.
            Err(error) if is_still(tid, mapping) => {
                notes.push(format!("{}: not probed: {error:#}", mapping.path));
            }
            Err(_) => {}
        }
    }
    modules.sort_by_key(|module| (!module.program, module.span.start));
    Ok(modules)
}

/// Whether a mapping is still where it was.
fn is_still(tid: Tid, mapping: &Mapping) -> bool {
    let same = |now: &Mapping| now.span == mapping.span && now.inode == mapping.inode;
    procfs::maps(Pid(tid.0), tid).map_or(true, |maps| maps.iter().any(same))
}

fn open(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    mapping: &Mapping,
    (is_program, library): (bool, &Library),
) -> anyhow::Result<Module> {
    let mut paths = procfs::file_paths(tid, mapping);
    if is_program {
        paths.insert(0, PathBuf::from(format!("/proc/{tid}/exe")));
    }
    let root = PathBuf::from(format!("/proc/{tid}/root"));
    let mut first_error = None;
    for from in paths {
        let opened = match library.open(&from, Path::new(&mapping.path), root.clone()) {
            Ok(opened) => opened,
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        };
        if !same_header(memory, maps, mapping, opened.image()) {
            first_error.get_or_insert(anyhow::anyhow!("the file was replaced since it was mapped"));
            continue;
        }
        let Some(bias) = bias(opened.image(), mapping) else {
            first_error.get_or_insert(anyhow::anyhow!("its segments do not fit its mapping"));
            continue;
        };
        let name = mapping
            .path
            .rsplit('/')
            .next()
            .unwrap_or(&mapping.path)
            .to_owned();
        return Ok(Module::new(name, mapping.path.clone(), opened, bias));
    }
    Err(first_error.unwrap_or_else(|| anyhow::anyhow!("it was deleted")))
}

/// Whether the file begins as its first mapping does.
fn same_header(memory: &Memory, maps: &[Mapping], mapping: &Mapping, image: &Image) -> bool {
    let same_file = |m: &&Mapping| {
        m.inode == mapping.inode
            && m.device == mapping.device
            && m.offset == 0
            && m.read
            && !m.write
    };
    let near = |m: &&Mapping| m.span.start <= mapping.span.start;
    let Some(first) = maps.iter().rfind(|m| same_file(m) && near(m)) else {
        return true;
    };
    let mut bytes = [0; HEADER];
    let Ok(got) = memory.read_some(first.span.start, &mut bytes) else {
        return false;
    };
    let len = got.min(image.data().len());
    image.data().get(..len) == bytes.get(..len)
}

/// The load bias: where a segment is, less where it was linked.
fn bias(image: &Image, mapping: &Mapping) -> Option<u64> {
    let holds = |s: &&symbols::Segment| {
        let start = s.file_offset & !4095;
        s.executable
            && start <= mapping.offset
            && mapping.offset < s.file_offset.saturating_add(s.filesz)
    };
    let segment = image.segments().iter().find(holds)?;
    let linked = segment
        .vaddr
        .0
        .wrapping_add(mapping.offset)
        .wrapping_sub(segment.file_offset);
    Some(mapping.span.start.0.wrapping_sub(linked))
}
