//! What debug information says of the functions that a program of the language probes: of a command
//! that will run, from its file and the libraries it asks for; of a process, from what is mapped.
//!
//! Nothing is read before it is asked for. Nothing is run: where a library is, is guessed from the
//! usual directories, and a wrong guess costs names of arguments, never a probe.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::module::{Module, modules};
use super::usdt::Notes;
use crate::base::{LinkAddr, Pid, Tid};
use crate::language::debug::{Debug, Member, Noted, Parameter, Structure};
use crate::language::typed::Type;
use crate::program::Width;
use crate::spec::{Location, ModuleName, NameText, ProbeSpec};
use crate::symbols::{DebugInfo, NamePattern, Note, Param, ParamClass, Record, Shape};
use crate::sys::mem::Memory;
use crate::sys::procfs;

/// Where libraries are.
const DIRECTORIES: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
];
/// Most libraries of a program.
const LIBRARIES: usize = 500;
/// Floating-point numbers that are passed in registers.
const FLOATS: u8 = 8;
/// Most functions of one pattern that are compared.
const FUNCTIONS: usize = 64;

/// Debug information of what will be traced.
pub struct DebugFiles {
    from: From,
    program: OnceCell<Result<Module, String>>,
    all: OnceCell<Vec<Module>>,
}

enum From {
    File(PathBuf),
    Processes(Vec<Pid>),
    Nowhere,
}

impl DebugFiles {
    /// Of a command, looked for as a shell does.
    pub fn of_command(command: Option<&OsStr>) -> DebugFiles {
        DebugFiles::new(command.and_then(in_path).map_or(From::Nowhere, From::File))
    }

    /// Of a program's file.
    pub fn of_file(path: &Path) -> DebugFiles {
        DebugFiles::new(From::File(path.to_owned()))
    }

    /// Of a process.
    pub fn of_process(pid: Pid) -> DebugFiles {
        DebugFiles::of_processes(&[pid])
    }

    /// Of several processes: what the first of them has goes first.
    pub fn of_processes(pids: &[Pid]) -> DebugFiles {
        DebugFiles::new(From::Processes(pids.to_vec()))
    }

    fn new(from: From) -> DebugFiles {
        DebugFiles {
            from,
            program: OnceCell::new(),
            all: OnceCell::new(),
        }
    }

    fn program(&self) -> Result<&Module, String> {
        let open = || match &self.from {
            From::File(path) => {
                let mut module = Module::of_file(path).map_err(|error| error.to_string())?;
                module.program = true;
                Ok(module)
            }
            From::Processes(_) => self
                .all()
                .first()
                .cloned()
                .ok_or("it cannot be read".into()),
            From::Nowhere => Err("there is no program to look into".into()),
        };
        self.program
            .get_or_init(open)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The program and its libraries.
    fn all(&self) -> &[Module] {
        self.all.get_or_init(|| match &self.from {
            From::Processes(pids) => {
                let mut all: Vec<Module> = Vec::new();
                for module in pids.iter().flat_map(|pid| mapped(*pid).unwrap_or_default()) {
                    if !all.iter().any(|known| known.path == module.path) {
                        all.push(module);
                    }
                }
                all
            }
            _ => self.program().map_or_else(|_| Vec::new(), libraries),
        })
    }

    /// Calls `ask` with the modules that a probe names, until it has an answer.
    fn find<T>(&self, spec: &ProbeSpec, ask: &dyn Fn(&Module) -> Option<T>) -> Result<T, String> {
        match &spec.module {
            None => {
                let program = self.program()?;
                let found = ask(program).or_else(|| {
                    // The program is the first.
                    self.all().iter().skip(1).find_map(ask)
                });
                found.ok_or_else(|| format!("{} has no such function", program.name))
            }
            Some(name) => {
                if let ModuleName::Path(path) = name
                    && let Ok(module) = Module::of_file(Path::new(path))
                {
                    return ask(&module).ok_or_else(|| format!("{path} has no such function"));
                }
                let called = |module: &&Module| module.is_called(name);
                let mut called = self.all().iter().filter(called).peekable();
                if called.peek().is_none() {
                    return Err("its file is not found".into());
                }
                let found = called.find_map(ask);
                found.ok_or_else(|| "there is no such function".into())
            }
        }
    }
}

impl Debug for DebugFiles {
    fn parameters(&self, probe: &ProbeSpec) -> Result<Vec<Parameter>, String> {
        self.find(probe, &|module| {
            let functions = match functions(module, probe) {
                Ok(functions) if functions.is_empty() => return None,
                Ok(functions) => functions,
                Err(why) => return Some(Err(why)),
            };
            Some(common(module, &functions))
        })?
    }

    fn structure(&self, probe: &ProbeSpec, name: &str) -> Option<Structure> {
        let look = |module: &Module| {
            let functions = functions(module, probe).unwrap_or_default();
            let info = DebugInfo::load(module.image(), module.debug())?;
            info.record(functions.first().copied(), name).map(structure)
        };
        self.find(probe, &look).ok()
    }

    fn usdt(&self, probe: &ProbeSpec) -> Result<Vec<Noted>, String> {
        let notes = Notes::of(probe).ok_or("this is no USDT probe")??;
        let found = self.find(probe, &|module| {
            let all: Vec<Noted> = notes.in_module(module).map(noted).collect();
            Some(all).filter(|all| !all.is_empty())
        });
        found.map_err(|_| {
            let missing = |module: &Module| notes.missing(&[module]);
            let with_notes = |module: &Module| !module.notes().is_empty();
            let likely = |module: &Module| with_notes(module).then(|| missing(module));
            let likely = self.find(probe, &likely);
            let any = || self.find(probe, &|module| Some(missing(module)));
            likely.or_else(|_| any()).unwrap_or_else(|why| why)
        })
    }
}

fn noted(note: &Note) -> Noted {
    Noted {
        name: note.full_name(),
        args: note.args.clone(),
    }
}

/// The functions of a module that a probe names.
fn functions(module: &Module, spec: &ProbeSpec) -> Result<Vec<LinkAddr>, String> {
    let Location::Symbol {
        name,
        version,
        offset: 0,
    } = &spec.location
    else {
        return Err("this is no function".into());
    };
    let pattern = match name {
        NameText::Exact(name) => NamePattern::exact(&match version {
            Some(version) => format!("{name}@{version}"),
            None => name.clone(),
        }),
        NameText::Glob(glob) => NamePattern::glob(glob).map_err(|error| error.to_string())?,
        NameText::Regex(regex) => NamePattern::regex(regex).map_err(|error| error.to_string())?,
    };
    let symbols = module.symbols();
    let found = symbols.matching(&pattern);
    let found = found
        .into_iter()
        .filter_map(|index| symbols.entries().get(index));
    Ok(found.map(|entry| entry.at).collect())
}

/// The parameters that these functions have in common, all of them.
fn common(module: &Module, functions: &[LinkAddr]) -> Result<Vec<Parameter>, String> {
    if functions.len() > FUNCTIONS {
        return Err(format!(
            "{} functions are more than are compared",
            functions.len()
        ));
    }
    let Some(info) = DebugInfo::load(module.image(), module.debug()) else {
        return Err(format!("{} has no debug information", module.name));
    };
    let mut all = functions.iter().map(|at| info.typed_params(*at));
    let first = all.next().flatten();
    let first = first.ok_or_else(|| {
        format!(
            "the debug information of {} does not describe it",
            module.name
        )
    })?;
    match all.all(|other| other.as_ref() == Some(&first)) {
        true => Ok(parameters(first)),
        false => Err("the functions differ".into()),
    }
}

/// Numbers parameters as they are passed (System V ABI AMD64, section 3.2.3). The place of one that
/// follows a structure by value is not certain, and so not known.
fn parameters(params: Vec<(Param, Shape)>) -> Vec<Parameter> {
    let (mut next, mut floats) = (Some(0_u8), 0_u8);
    let numbered = params.into_iter().map(|(param, shape)| {
        let argument = match param.class {
            ParamClass::Int { width: ..=8, .. } => {
                let this = next;
                next = next.and_then(|n| n.checked_add(1));
                this
            }
            ParamClass::Float { width: 4 | 8 } => {
                let this = (floats < FLOATS).then_some(floats);
                floats = floats.saturating_add(1);
                this
            }
            ParamClass::Float { .. } => None,
            _ => {
                next = None;
                None
            }
        };
        let ty = match param.class {
            ParamClass::Float { width: 4 } => Type::Single,
            ParamClass::Float { .. } => Type::Float,
            _ => ty(shape),
        };
        Parameter {
            name: param.name,
            ty,
            argument,
        }
    });
    numbered.collect()
}

fn ty(shape: Shape) -> Type {
    match shape {
        Shape::Void => Type::Void,
        Shape::Int { width, signed } => Type::Int {
            width: match width {
                1 => Width::W8,
                2 => Width::W16,
                4 => Width::W32,
                _ => Width::W64,
            },
            signed,
        },
        Shape::Double => Type::Float,
        Shape::Single => Type::Single,
        Shape::Bytes(len) => Type::Array {
            of: Box::new(Type::Int {
                width: Width::W8,
                signed: false,
            }),
            len,
        },
        Shape::Pointer(to) => Type::Pointer(Box::new(match *to {
            // What cannot be read as a number is an address.
            Shape::Bytes(_) => Type::Void,
            to => ty(to),
        })),
        Shape::Struct(name) => Type::Struct(name),
        Shape::Array(of, len) => Type::Array {
            of: Box::new(ty(*of)),
            len,
        },
    }
}

fn structure(record: Record) -> Structure {
    let members = record.fields.into_iter().map(|field| Member {
        name: field.name,
        ty: ty(field.shape),
        offset: field.offset,
        bits: field.bits,
    });
    Structure {
        size: record.size,
        members: members.collect(),
    }
}

fn mapped(pid: Pid) -> anyhow::Result<Vec<Module>> {
    let tid = Tid(pid.0);
    let maps = procfs::maps(pid, tid)?;
    let memory = Memory::open(pid, tid)?;
    modules(tid, &memory, &maps, &mut Vec::new())
}

/// The file that runs for a command.
fn in_path(command: &OsStr) -> Option<PathBuf> {
    if command.as_encoded_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let runs = |path: &PathBuf| {
        let found = path.metadata();
        found.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let all = std::env::split_paths(&path).map(|directory| directory.join(command));
    all.into_iter().find(runs)
}

/// A program that does not run, and its libraries, as far as they are found: at addresses of their own,
/// the program at those of its file.
///
/// # Errors
/// The program cannot be read.
pub fn with_libraries(path: &Path) -> anyhow::Result<Vec<Module>> {
    /// Between two files.
    const GAP: u64 = 1 << 20;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut program = Module::of_file(&path)?;
    program.program = true;
    let mut next = program.span.end.0;
    let all = libraries(&program).into_iter().enumerate();
    let moved = all.map(|(index, module)| {
        if index == 0 {
            return module;
        }
        let bias = next.saturating_add(GAP) & !0xfff;
        let module = module.moved(bias);
        next = module.span.end.0;
        module
    });
    Ok(moved.collect())
}

/// A program, and the libraries that it and they ask for.
fn libraries(program: &Module) -> Vec<Module> {
    let preset = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let preset: Vec<PathBuf> = std::env::split_paths(&preset)
        .filter(|directory| directory.is_absolute())
        .collect();
    let mut all = vec![program.clone()];
    let mut seen = HashSet::new();
    let mut next = 0;
    while let Some(module) = all.get(next).cloned() {
        next += 1;
        let path = Path::new(&module.path);
        let origin = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let origin = origin
            .parent()
            .unwrap_or(Path::new("/"))
            .display()
            .to_string();
        let own = module.image().search_path().into_iter();
        let own = own.map(|d| d.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin));
        let own: Vec<PathBuf> = own.map(PathBuf::from).collect();
        let loader = module
            .image()
            .interpreter()
            .and_then(|l| Path::new(l).parent());
        let usual = loader.into_iter().chain(DIRECTORIES.iter().map(Path::new));
        let usual: Vec<PathBuf> = usual.map(Path::to_owned).collect();
        let asked = module.image().needed().into_iter();
        for name in asked.chain(module.image().interpreter().map(str::to_owned)) {
            if all.len() >= LIBRARIES || !seen.insert(name.clone()) {
                continue;
            }
            let places = own.iter().chain(&preset).chain(&usual);
            let mut places = places.map(|directory| directory.join(&name));
            all.extend(places.find_map(|path| Module::of_file(&path).ok()));
        }
    }
    all
}
