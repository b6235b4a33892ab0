//! Functions whose returns cannot be probed, and why: those that look at their own return address, that
//! return twice, or that are entered without one. Decided from the file alone.

use super::module::Module;
use super::unwinders::is_known;
use crate::arch::native::scan::{Look, return_address};
use crate::base::LinkAddr;
use crate::probe::Refusal;
use crate::program::Callers;
use crate::symbols::{Image, NamePattern};

/// They find their caller by the return address.
const FIND_CALLER: [&str; 12] = [
    "dlopen",
    "dlsym",
    "dlvsym",
    "dlmopen",
    "dlinfo",
    "mcount",
    "_mcount",
    "__fentry__",
    "__libc_dlopen_mode",
    "__libc_dlsym",
    "_dl_sym",
    "_dl_vsym",
];
/// They return twice, or somewhere else than where they were called.
const RETURN_TWICE: [&str; 17] = [
    "setjmp",
    "_setjmp",
    "__setjmp",
    "sigsetjmp",
    "__sigsetjmp",
    "vfork",
    "__vfork",
    "getcontext",
    "__getcontext",
    "setcontext",
    "__setcontext",
    "swapcontext",
    "__swapcontext",
    "savectx",
    "__libc_vfork",
    "_longjmp_unwind",
    "__start_context",
];
/// Libraries that make code as they run, whose frames they walk.
const RUNTIMES: [&str; 4] = ["libjvm.so", "libcoreclr.so", "libmono", "libv8"];
/// They walk the stack from where they were called.
const UNWIND: [&str; 4] = [
    "_Unwind_",
    "__cxa_throw",
    "__cxa_rethrow",
    "__gcc_personality",
];

/// Whether the returns of the function at `at` can be seen.
pub(super) fn check(module: &Module, at: LinkAddr, name: &str) -> Result<(), Refusal> {
    let refuse = |why: &'static str| Err(Refusal::Window(why.into()));
    let image = module.image();
    if image.is_go() {
        return refuse(
            "Go moves its stacks and ends when it finds a return address it does not know",
        );
    }
    let symbols = module.symbols();
    let entry = symbols
        .entry_at(at)
        .and_then(|index| symbols.entries().get(index));
    let mut names = vec![name];
    if let Some(entry) = entry {
        names.extend(entry.names.clone().map(|index| symbols.name_at(index)));
    }
    let named = |list: &[&str]| names.iter().any(|name| list.contains(name));
    if named(&FIND_CALLER) {
        return refuse("it finds its caller by the return address");
    }
    if named(&RETURN_TWICE) {
        return refuse("it returns twice, or elsewhere");
    }
    if names
        .iter()
        .any(|name| UNWIND.iter().any(|start| name.starts_with(start)))
    {
        return refuse("it walks the stack of whoever calls it");
    }
    let frames = &module.opened().frames().list;
    let first = frames.partition_point(|frame| frame.start < at);
    let here = frames.get(first).filter(|frame| frame.start == at);
    let Some(frame) = here else {
        return refuse(
            "no unwind information tells that its return address is on top of the stack",
        );
    };
    if frame.signal || !frame.fresh_frame {
        return refuse("it is entered without a return address on top of the stack");
    }
    if module.opened().returns_twice(at) {
        return refuse("it returns more often than it is called: it copies its stack");
    }
    let len = usize::try_from(frame.len).unwrap_or(usize::MAX);
    let code = image.bytes_from(at).unwrap_or_default();
    match return_address(code.get(..len.min(code.len())).unwrap_or_default(), at.0) {
        Some(Look::Reads) => refuse("it reads its return address"),
        Some(Look::Pops) => refuse("it takes its return address off the stack"),
        None => Ok(()),
    }
}

/// A file that throws takes one of these from its language's library, or from libgcc's.
const OF_OTHERS: [&str; 4] = [
    "__gxx_personality_v0",
    "__gcc_personality_v0",
    "_Unwind_RaiseException",
    "__cxa_throw",
];
/// `DT_STRTAB`, `DT_STRSZ` (gABI, dynamic section).
const STRINGS: [u64; 2] = [5, 10];

/// Whether a file has one of these names among those that it takes from others or gives to them.
fn takes(image: &Image, names: &[&str]) -> bool {
    let [at, len] = STRINGS.map(|tag| image.dynamic(tag));
    let strings = at.zip(len).and_then(|(at, len)| {
        let len = usize::try_from(len).ok()?;
        image.bytes_at(LinkAddr(at), len)
    });
    // One may be the end of another.
    let mut all = strings.unwrap_or_default().split(|&byte| byte == 0);
    all.any(|string| names.iter().any(|name| string.ends_with(name.as_bytes())))
}

/// Whether exceptions would pass through calls whose returns are probed: what unwinds them must be known.
pub(super) fn unwinds(modules: &[Module]) -> Result<(), Refusal> {
    let has = |module: &Module, name: &str| {
        let symbols = module.symbols();
        !symbols.matching(&NamePattern::exact(name)).is_empty()
    };
    for module in modules {
        if is_known(module) {
            continue;
        }
        let throws = || {
            module
                .opened()
                .frames()
                .list
                .iter()
                .any(|frame| frame.lsda.is_some())
        };
        // Its own, without a name: what raises its exceptions is in no other file.
        let libc = module.image().soname() == Some("libc.so.6");
        let hidden = !libc && !takes(module.image(), &OF_OTHERS) && throws();
        if hidden || has(module, "_Unwind_RaiseException") {
            let why = format!(
                "exceptions would not pass: kptrace does not know the unwinder in {}; \
                 --force-returns probes all the same",
                module.name
            );
            return Err(Refusal::Window(why.into()));
        }
    }
    Ok(())
}

/// Where calls of a module's functions must come from for their returns to be seen, if that matters:
/// runtimes that make code walk the stack through it, and know it by its return addresses. Part of that
/// code may be in the file, without unwind information.
pub(super) fn callers(module: &Module) -> Option<Callers> {
    let holes = module.opened().unwound_hole();
    let runtime = RUNTIMES.iter().any(|name| module.name.starts_with(name));
    if holes.is_none() && !runtime {
        return None;
    }
    let text = module.image().segments().iter().filter(|s| s.executable);
    let low = text.clone().map(|s| s.vaddr.0).min()?;
    let high = text.map(|s| s.vaddr.0.saturating_add(s.memsz)).max()?;
    let short = |len: u64| u32::try_from(len).ok().filter(|&len| len < 1 << 31);
    Some(Callers {
        start: LinkAddr(low).at(module.bias).0,
        len: short(high.saturating_sub(low))?,
        without: match holes {
            Some((at, len)) => Some((at.at(module.bias).0, short(len)?)),
            None => None,
        },
    })
}
