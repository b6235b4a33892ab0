//! Walking a copied stack by the unwind tables of the files mapped. Knows no process and no memory: the
//! stack comes as bytes.
//!
//! Invariant: a walk ends. The stack pointer rises with every frame, inside the bytes there are; what a
//! table says otherwise ends it.

use std::ops::Range;
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, Module, ModuleSectionInfo, Unwinder as _};

use super::computed::{Computed, Known, Table};
use super::elf::Image;
use super::frames::{self, Frames};
use crate::base::{Addr, LinkAddr, Span};

type Bytes = Arc<[u8]>;

/// Functions that are looked at to tell whether a file keeps frame pointers.
const LOOKED_AT: usize = 2000;
/// Shorter ones often need none, whatever the compiler was told.
const SHORT: u64 = 64;

/// The unwind tables of one file.
#[derive(Clone, Debug, Default)]
pub struct UnwindTables {
    text: Option<Range<u64>>,
    got: Option<Range<u64>>,
    eh_frame: Option<(Range<u64>, Bytes)>,
    debug_frame: Option<Bytes>,
    /// What `eh_frame` covers, where there is `debug_frame` for the rest.
    covered: Vec<Range<u64>>,
    /// Where signal handlers return to.
    signals: Vec<Range<u64>>,
    /// Of `eh_frame` and of `debug_frame`, what framehop cannot do.
    computed: [Computed; 2],
}

impl UnwindTables {
    /// Reads them.
    pub fn of(image: &Image, debug: Option<&Image>) -> UnwindTables {
        let section = |name: &str| {
            let section = image.section(name)?;
            Some((section.at, image.section_bytes(section)))
        };
        let range = |at: LinkAddr, len: usize| at.0..at.0.saturating_add(len as u64);
        let held = |(at, bytes): (LinkAddr, &[u8])| (range(at, bytes.len()), Bytes::from(bytes));
        let place = |name: &str| section(name).map(|(at, bytes)| range(at, bytes.len()));
        let eh_frame = section(".eh_frame").or_else(|| frames::by_header(image));
        let debug_frame = [Some(image), debug]
            .into_iter()
            .flatten()
            .find_map(|image| {
                let section = image.section(".debug_frame")?;
                let bytes = image.section_bytes(section);
                (!bytes.is_empty() && !section.is_compressed()).then(|| Bytes::from(bytes))
            });
        let all = Frames::of(image).list;
        let ranges = |all: &mut dyn Iterator<Item = &frames::Fde>| {
            all.map(|fde| fde.start.0..fde.start.0.saturating_add(fde.len))
                .collect::<Vec<_>>()
        };
        let covered = match debug_frame {
            Some(_) => ranges(&mut all.iter()),
            None => Vec::new(),
        };
        let computed = [
            eh_frame.map(|(at, bytes)| Table {
                at: Some(at.0),
                bytes,
            }),
            debug_frame
                .as_deref()
                .map(|bytes| Table { at: None, bytes }),
        ];
        let computed = computed.map(|table| table.map(Computed::of).unwrap_or_default());
        UnwindTables {
            text: place(".text"),
            got: place(".got"),
            eh_frame: eh_frame.map(held),
            debug_frame,
            covered,
            signals: ranges(&mut all.iter().filter(|fde| fde.signal)),
            computed,
        }
    }

    /// Whether the entries of `.debug_frame` are meant for this address.
    fn is_debug(&self, at: u64) -> bool {
        let index = self.covered.partition_point(|range| range.start <= at);
        let before = index.checked_sub(1).and_then(|i| self.covered.get(i));
        self.debug_frame.is_some() && !before.is_some_and(|range| range.contains(&at))
    }

    /// Whether that is for [`UnwindTables::computed`].
    fn is_computed(&self, at: u64) -> bool {
        let [loaded, debug] = &self.computed;
        match self.is_debug(at) {
            true => debug.holds(at),
            false => loaded.holds(at),
        }
    }

    /// Steps to the caller where framehop cannot: it does not read memory for where a frame is.
    fn computed(
        &self,
        at: u64,
        regs: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Option<u64> {
        let [loaded, debug] = &self.computed;
        let (computed, table) = match self.is_debug(at) {
            true => {
                let bytes = self.debug_frame.as_ref()?;
                (debug, Table { at: None, bytes })
            }
            false => {
                let (range, bytes) = self.eh_frame.as_ref()?;
                let at = Some(range.start);
                (loaded, Table { at, bytes })
            }
        };
        let known = Known {
            instruction: regs.ip(),
            stack: regs.sp(),
            frame: regs.bp(),
        };
        let caller = computed.step(table, at, known, read)?;
        *regs = UnwindRegsX86_64::new(caller.instruction, caller.stack, caller.frame);
        Some(caller.instruction)
    }

    /// Whether a signal handler returns to this address.
    pub fn is_signal(&self, LinkAddr(at): LinkAddr) -> bool {
        self.signals.iter().any(|range| range.contains(&at))
    }
}

/// What framehop asks of a file.
struct Sections<'a> {
    tables: &'a UnwindTables,
    debug: bool,
}

impl ModuleSectionInfo<Bytes> for Sections<'_> {
    fn base_svma(&self) -> u64 {
        0
    }

    fn section_svma_range(&mut self, name: &[u8]) -> Option<Range<u64>> {
        let tables = self.tables;
        match name {
            b".text" => tables.text.clone(),
            b".got" => tables.got.clone(),
            b".eh_frame" => tables.eh_frame.as_ref().map(|(range, _)| range.clone()),
            _ => None,
        }
    }

    fn section_data(&mut self, name: &[u8]) -> Option<Bytes> {
        let tables = self.tables;
        match name {
            b".eh_frame" if !self.debug => tables.eh_frame.as_ref().map(|(_, b)| Arc::clone(b)),
            // Not `.eh_frame_hdr`: framehop makes an index of its own, from the entries alone.
            b".debug_frame" if self.debug => tables.debug_frame.clone(),
            _ => None,
        }
    }
}

/// The code of one process.
#[derive(Default)]
pub struct Unwinder {
    modules: Vec<(Span, u64, Arc<UnwindTables>)>,
    eh_frame: UnwinderX86_64<Bytes>,
    debug_frame: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The instruction.
    pub address: u64,
    /// Stack pointer.
    pub stack_pointer: u64,
    /// Frame pointer.
    pub frame_pointer: u64,
    /// Whether the caller's address is on top of the stack.
    pub entry: bool,
}

impl Unwinder {
    /// Takes in a file that was mapped; what was there before is not there any more.
    pub fn add(&mut self, span: Span, bias: u64, tables: &Arc<UnwindTables>) {
        let gone: Vec<Addr> = self
            .modules
            .extract_if(.., |(old, ..)| old.overlaps(span))
            .map(|(old, ..)| old.start)
            .collect();
        for start in gone {
            self.eh_frame.remove_module(start.0);
            self.debug_frame.remove_module(start.0);
        }
        let module = |debug| {
            Module::new(
                String::new(),
                span.start.0..span.end.0,
                bias,
                Sections { tables, debug },
            )
        };
        self.eh_frame.add_module(module(false));
        if tables.debug_frame.is_some() {
            self.debug_frame.add_module(module(true));
        }
        self.modules.push((span, bias, Arc::clone(tables)));
    }

    /// The addresses on a stack whose bytes from the stack pointer on are these: where it starts, then
    /// return addresses, the innermost first, at most so many.
    pub fn walk(&mut self, start: Start, stack: &[u8], most: usize) -> Vec<u64> {
        let bottom = start.stack_pointer;
        let mut read = |at: u64| {
            let from = at.checked_sub(bottom).and_then(|o| usize::try_from(o).ok());
            let bytes = from.and_then(|from| stack.get(from..)?.first_chunk::<8>());
            bytes.map(|bytes| u64::from_le_bytes(*bytes)).ok_or(())
        };
        let mut found = Vec::new();
        if most == 0 {
            return found;
        }
        found.push(start.address);
        let mut regs = UnwindRegsX86_64::new(start.address, bottom, start.frame_pointer);
        let mut at = FrameAddress::InstructionPointer(start.address);
        if start.entry {
            let (Ok(caller), Some(above)) = (read(bottom), bottom.checked_add(8)) else {
                return found;
            };
            let Some(address) = FrameAddress::from_return_address(caller) else {
                return found;
            };
            if most == 1 {
                return found;
            }
            found.push(caller);
            regs = UnwindRegsX86_64::new(caller, above, start.frame_pointer);
            at = address;
        }
        while found.len() < most {
            let below = regs.sp();
            let lookup = at.address_for_lookup();
            let module = self
                .modules
                .iter()
                .find(|(span, ..)| span.contains(Addr(lookup)));
            let link = module.map(|(_, bias, tables)| (lookup.wrapping_sub(*bias), tables));
            let debug = link.is_some_and(|(link, tables)| tables.is_debug(link));
            let signal = link.is_some_and(|(link, tables)| tables.is_signal(LinkAddr(link)));
            let unwinder = match debug {
                true => &self.debug_frame,
                false => &self.eh_frame,
            };
            let next = match link {
                _ if signal => interrupted(&mut regs, &mut read),
                Some((link, tables)) if tables.is_computed(link) => {
                    tables.computed(link, &mut regs, &mut read)
                }
                _ => unwinder
                    .unwind_frame(at, &mut regs, &mut self.cache, &mut read)
                    .ok()
                    .flatten(),
            };
            let Some(next) = next else { break };
            // Nothing below is anybody's any more, and the copy ends.
            if regs.sp() <= below || regs.sp() - bottom > stack.len() as u64 {
                break;
            }
            let address = match signal {
                // A signal came before this instruction, which is no call's next.
                true => Some(FrameAddress::InstructionPointer(next)),
                false => FrameAddress::from_return_address(next),
            };
            let Some(address) = address else { break };
            found.push(next);
            at = address;
        }
        found
    }
}

/// Steps from where a signal handler returns to, to what the signal interrupted: its registers are in the
/// frame that the kernel left (`struct rt_sigframe` in arch/x86/include/asm/sigframe.h), whose `ucontext`
/// the stack pointer is at.
fn interrupted(
    regs: &mut UnwindRegsX86_64,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<u64> {
    const FRAME_POINTER: u64 = 120;
    const STACK_POINTER: u64 = 160;
    const INSTRUCTION: u64 = 168;
    let context = regs.sp();
    let mut saved = |at: u64| read(context.checked_add(at)?).ok();
    let (frame, stack) = (saved(FRAME_POINTER)?, saved(STACK_POINTER)?);
    let next = saved(INSTRUCTION)?;
    regs.set_bp(frame);
    regs.set_sp(stack);
    regs.set_ip(next);
    Some(next)
}

/// Whether the functions of a file keep frame pointers: nearly all that are not short say at some place
/// that their frame is found by `rbp`. A file that says nothing does not.
pub fn keeps_frame_pointers(image: &Image) -> bool {
    let (framed, all) = frames::framed(image, SHORT, LOOKED_AT);
    all > 0 && framed * 10 >= all * 9
}

#[cfg(test)]
mod tests {
    use super::super::testing::cc;
    use super::*;

    const SOURCE: &str = "\
#include <stdio.h>
volatile int sink;
__attribute__((noinline)) int f(int x) { for (int i = 0; i < x; i++) { sink += i * x; printf(\"%d\", sink); } return sink; }
__attribute__((noinline)) int g(int x) { for (int i = 0; i < x; i++) { sink ^= f(i) + x; puts(\"g\"); } return sink; }
int main(int c, char **v) { for (int i = 0; i < c; i++) { sink += g(i); puts(v[i]); } return f(c) + g(c); }
";

    #[test]
    fn frame_pointers_are_seen_in_the_unwind_tables() {
        for (flag, keeps) in [
            ("-fno-omit-frame-pointer", true),
            ("-fomit-frame-pointer", false),
        ] {
            let Some(built) = cc(SOURCE, &["-O2", flag]) else {
                return;
            };
            assert_eq!(keeps_frame_pointers(&built.image()), keeps, "{flag}");
        }
    }

    #[test]
    fn a_walk_ends_where_the_copy_does_and_where_nothing_rises() {
        let mut unwinder = Unwinder::default();
        let start = Start {
            address: 0x1000,
            stack_pointer: 0x7000,
            frame_pointer: 0x7010,
            entry: true,
        };
        // Frame pointers are followed where there are no tables: caller, room, then two frames, the
        // second of which leads back to the first.
        let words: [u64; 6] = [0x2000, 0, 0x7020, 0x3000, 0x7010, 0x4000];
        let stack: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let walked = unwinder.walk(start, &stack, 10);
        assert_eq!(walked, [0x1000, 0x2000, 0x3000, 0x4000]);
        assert_eq!(unwinder.walk(start, &stack, 2), [0x1000, 0x2000]);
        assert_eq!(unwinder.walk(start, &stack[..12], 10), [0x1000, 0x2000]);
        assert_eq!(unwinder.walk(start, &[], 10), [0x1000]);
        assert!(unwinder.walk(start, &stack, 0).is_empty());
    }
}
