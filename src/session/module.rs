//! One file mapped into the target: its image, symbols and verdicts, each made when first needed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::analysis::{Cache, File, Key, Source, Text};
use crate::base::{Addr, LinkAddr, Pid, Span, Tid};
use crate::spec::ModuleName;
use crate::symbols::{self, CodeFacts, Image, Symbols};
use crate::sys::mem::Memory;
use crate::sys::procfs::{self, Mapping};

/// Bytes at the start of a file that are compared with memory.
const HEADER: usize = 4096;

/// A file of the target, or one looked at alone.
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
    /// What the loader chose for indirect functions, by resolver.
    chosen: HashMap<LinkAddr, Addr>,
    image: Image,
    root: PathBuf,
    debug: OnceCell<Option<Image>>,
    symbols: OnceCell<Symbols>,
    facts: OnceCell<CodeFacts>,
    file: OnceCell<File>,
}

impl Module {
    /// A file that is not running.
    pub fn of_file(path: &Path) -> anyhow::Result<Module> {
        let image = Image::read(path)?;
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let path = path.to_string_lossy().into_owned();
        Ok(Module::new(name, path, image, PathBuf::from("/"), 0))
    }

    fn new(name: String, path: String, image: Image, root: PathBuf, bias: u64) -> Module {
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
            chosen: HashMap::new(),
            image,
            root,
            debug: OnceCell::new(),
            symbols: OnceCell::new(),
            facts: OnceCell::new(),
            file: OnceCell::new(),
        }
    }

    /// Whether a user's word for a module means this one.
    pub fn is_called(&self, name: &ModuleName) -> bool {
        name.matches(&self.path) || self.alias.as_ref().is_some_and(|alias| name.matches(alias))
    }

    /// The file's image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// What the loader chose for the indirect function with this resolver.
    pub fn chosen(&self, resolver: LinkAddr) -> Option<Addr> {
        self.chosen.get(&resolver).copied()
    }

    fn read_chosen(&mut self, memory: &Memory) {
        for (slot, resolver) in symbols::indirect_slots(&self.image) {
            if let Ok(at) = memory.word(slot.at(self.bias)) {
                self.chosen.insert(resolver, Addr(at));
            }
        }
    }

    /// Its separate debug file, if there is one.
    pub fn debug(&self) -> Option<&Image> {
        let find = || symbols::debug_file(&self.image, &self.root, Path::new(&self.path));
        self.debug.get_or_init(find).as_ref()
    }

    /// Its symbols.
    pub fn symbols(&self) -> &Symbols {
        self.symbols
            .get_or_init(|| Symbols::load(&self.image, self.debug()).unwrap_or_default())
    }

    fn facts(&self) -> &CodeFacts {
        self.facts
            .get_or_init(|| symbols::code_facts(&self.image, self.symbols()).unwrap_or_default())
    }

    /// The verdicts of its entries, from the cache when they are there.
    pub fn file(&self, cache: Option<&Cache>) -> &File {
        self.file.get_or_init(|| {
            let key = Key::of(&self.image, self.debug());
            let known = cache
                .zip(key.as_ref())
                .and_then(|(cache, key)| cache.load(key));
            known.unwrap_or_else(|| {
                let file = self.with_text(|text| File::of_symbols(text, self.symbols()));
                if let (Some(cache), Some(key)) = (cache, &key) {
                    // A cache that cannot be written costs time at the next start, nothing else.
                    let _ = cache.store(key, &file);
                }
                file
            })
        })
    }

    /// Asks about any address; sweeps the whole file.
    pub fn with_text<T>(&self, ask: impl FnOnce(&Text<'_>) -> T) -> T {
        ask(&Source::new(&self.image, self.facts()).text())
    }
}

/// The files mapped executable into the process of a thread, the program first. What cannot be read is named in
/// `notes`.
pub fn modules(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Module>> {
    let auxv = procfs::auxv(tid).context("reading its auxiliary vector")?;
    let mut modules: Vec<Module> = Vec::new();
    for mapping in maps
        .iter()
        .filter(|m| m.exec && m.inode != 0 && m.path.starts_with('/'))
    {
        if modules
            .iter()
            .any(|module| module.path == mapping.path && module.span.contains(mapping.span.start))
        {
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
        match open(tid, memory, maps, mapping, is_program) {
            Ok(mut module) => {
                module.program = is_program;
                module.alias = is_program.then(|| procfs::comm(Pid(tid.0)));
                module.read_chosen(memory);
                modules.push(module);
            }
            Err(error) => notes.push(format!("{}: not probed: {error:#}", mapping.path)),
        }
    }
    modules.sort_by_key(|module| (!module.program, module.span.start));
    Ok(modules)
}

fn open(
    tid: Tid,
    memory: &Memory,
    maps: &[Mapping],
    mapping: &Mapping,
    is_program: bool,
) -> anyhow::Result<Module> {
    let mut paths = procfs::file_paths(tid, mapping);
    if is_program {
        paths.insert(0, PathBuf::from(format!("/proc/{tid}/exe")));
    }
    let mut first_error = None;
    for path in paths {
        let image = match Image::read(&path) {
            Ok(image) => image,
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        };
        if !same_header(memory, maps, mapping, &image) {
            first_error.get_or_insert(anyhow::anyhow!("the file was replaced since it was mapped"));
            continue;
        }
        let Some(bias) = bias(&image, mapping) else {
            first_error.get_or_insert(anyhow::anyhow!("its segments do not fit its mapping"));
            continue;
        };
        let name = mapping
            .path
            .rsplit('/')
            .next()
            .unwrap_or(&mapping.path)
            .to_owned();
        let root = PathBuf::from(format!("/proc/{tid}/root"));
        return Ok(Module::new(name, mapping.path.clone(), image, root, bias));
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
