//! What the loader tells debuggers: `struct r_debug` of `<link.h>`, found through the program's own
//! dynamic section. Everything read is the target's own, and untrusted.

use super::process::Process;
use crate::base::Addr;

/// Program headers and dynamic entries that are looked at.
const MOST: u64 = 1024;
const PT_DYNAMIC: u64 = 2;
const PT_PHDR: u64 = 6;
const DT_NULL: u64 = 0;
const DT_DEBUG: u64 = 21;
/// `r_state`: everything that is mapped is in the list.
const RT_CONSISTENT: u64 = 0;

/// What the loader says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderState {
    /// The function that it calls when something changes (`r_brk`).
    pub breakpoint: Addr,
    /// Whether nothing is about to change (`r_state`).
    pub consistent: bool,
}

/// What the loader of a process says; `None` before it has begun, and without one.
pub fn loader_state(process: &Process) -> Option<LoaderState> {
    let word = |at: Addr| process.memory.word(at).ok();
    let headers = process.auxv.phdr;
    let (mut dynamic, mut bias) = (None, 0);
    for index in 0..process.auxv.phnum.min(MOST) {
        let header = Addr(headers.checked_add(index * 56)?);
        match word(header)? & 0xffff_ffff {
            PT_PHDR => bias = headers.wrapping_sub(word(header + 16)?),
            PT_DYNAMIC => dynamic = Some(word(header + 16)?),
            _ => {}
        }
    }
    let dynamic = Addr(dynamic?.wrapping_add(bias));
    let entries = (0..MOST).map(|index| dynamic + index * 16);
    for entry in entries {
        match word(entry)? {
            DT_NULL => return None,
            DT_DEBUG => {
                let debug = Addr(word(entry + 8)?);
                let breakpoint = Addr(word(debug + 16)?);
                let state = word(debug + 24)? & 0xffff_ffff;
                return (breakpoint.0 != 0).then_some(LoaderState {
                    breakpoint,
                    consistent: state == RT_CONSISTENT,
                });
            }
            _ => {}
        }
    }
    None
}
