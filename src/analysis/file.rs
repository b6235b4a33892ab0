//! The verdicts of one file: what users list and what a session arms. Plain data, no bytes.

use super::{Text, holes};
use crate::arch::native::scan::{JUMP, Refusal, Window};
use crate::base::LinkAddr;

/// Fewer entries than this are not worth a second thread.
const WORTH_A_THREAD: usize = 8192;

/// An entry as the file's tables give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFact {
    /// Its address.
    pub start: u64,
    /// First address past it; `start` when unknown.
    pub end: u64,
    /// Whether a symbol names it; else only the unwind tables know it, and it may be a cold part.
    pub named: bool,
}

/// An entry and what can stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its address.
    pub addr: LinkAddr,
    /// Bytes of the function; 0 when unknown.
    pub size: u64,
    /// The window of a jump, or why there is none.
    pub verdict: Result<Window, Refusal>,
    /// Where no jump fits: what a breakpoint displaces; `None` when even that is impossible.
    pub trap: Option<Window>,
}

impl Entry {
    /// `jump`, `trap` or `refused`: the word in every output.
    pub fn word(&self) -> &'static str {
        match (&self.verdict, &self.trap) {
            (Ok(_), _) => "jump",
            (Err(_), Some(_)) => "trap",
            (Err(_), None) => "refused",
        }
    }

    /// The kind of the window: the word in every output.
    pub fn window_word(&self) -> Option<&'static str> {
        self.verdict.ok().map(|window| window.kind.name())
    }

    /// Why there is no jump.
    pub fn reason(&self) -> Option<String> {
        self.verdict.err().map(|refusal| refusal.to_string())
    }
}

/// What is known of one file for patching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    entries: Vec<Entry>,
}

impl File {
    /// Judges every entry. `facts` are sorted by start; of several with the same start the largest
    /// counts. Cold parts that no symbol names are left out.
    pub fn of(text: &Text<'_>, facts: &[EntryFact]) -> File {
        let mut wanted: Vec<EntryFact> = Vec::with_capacity(facts.len());
        let mut previous_end = 0;
        for group in facts.chunk_by(|a, b| a.start == b.start) {
            let Some(&fact) = group.first() else { continue };
            let end = group.iter().map(|f| f.end).max().unwrap_or(fact.end);
            let named = group.iter().any(|f| f.named);
            if named || !text.is_fragment(fact.start, end, previous_end) {
                wanted.push(EntryFact { end, named, ..fact });
            }
            previous_end = end;
        }
        let judge = |facts: &[EntryFact]| -> Vec<Entry> {
            facts.iter().map(|fact| judge(text, fact)).collect()
        };
        if wanted.len() < WORTH_A_THREAD {
            let mut entries = judge(&wanted);
            spring(text, &mut entries);
            return File { entries };
        }
        let (low, high) = wanted.split_at(wanted.len() / 2);
        let (mut entries, more) = std::thread::scope(|scope| {
            let more = scope.spawn(|| judge(high));
            (judge(low), more.join())
        });
        match more {
            Ok(more) => entries.extend(more),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        spring(text, &mut entries);
        File { entries }
    }

    /// A file with these entries, which ascend strictly by address; `None` when they do not.
    pub(super) fn from_entries(entries: Vec<Entry>) -> Option<File> {
        let ascending = entries.windows(2).all(|pair| pair[0].addr < pair[1].addr);
        ascending.then_some(File { entries })
    }

    /// Every entry, by address.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at an address.
    pub fn at(&self, addr: LinkAddr) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&addr, |e| e.addr).ok()?;
        self.entries.get(index)
    }
}

fn judge(text: &Text<'_>, fact: &EntryFact) -> Entry {
    let size = fact.end.saturating_sub(fact.start);
    if !text.is_sound(fact.start) {
        return Entry {
            addr: LinkAddr(fact.start),
            size,
            verdict: Err(Refusal::NotABoundary),
            trap: None,
        };
    }
    let verdict = text.entry(fact.start, size);
    let trap = match verdict {
        Ok(_) => None,
        Err(_) => text.trap(fact.start).ok(),
    };
    Entry {
        addr: LinkAddr(fact.start),
        size,
        verdict,
        trap,
    }
}

/// Makes springboards of entries that take no jump otherwise, as far as there is padding.
fn spring(text: &Text<'_>, entries: &mut [Entry]) {
    let sound = |entry: &Entry| entry.trap.is_some();
    let wanting: Vec<(usize, Window)> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| sound(entry))
        .filter_map(|(index, entry)| {
            let window = text.springboard(entry.addr.0, entry.size).ok()?;
            Some((index, window))
        })
        .collect();
    let sites: Vec<u64> = wanting
        .iter()
        .filter_map(|(index, _)| entries.get(*index).map(|entry| entry.addr.0))
        .collect();
    let near = sites.iter().map(|&site| {
        let reach = holes::reach(site);
        (reach.start, reach.end.saturating_add(JUMP.into()))
    });
    let (between, inside) = (text.gaps(near.clone()), text.inner_gaps(near));
    let windows = entries.iter().filter_map(|entry| {
        let window = entry.verdict.ok()?;
        Some((entry.addr.0, window.len, window.patched()))
    });
    let short = windows.chain(
        sites
            .iter()
            .zip(&wanting)
            .map(|(site, (_, window))| (*site, window.len, window.patched())),
    );
    let padded = short
        .filter(|(_, len, patched)| len < patched)
        .map(|(at, len, patched)| {
            let byte = |offset: u8| at.saturating_add(offset.into());
            (byte(len), byte(patched))
        });
    let holes = holes::assign(&sites, &[&between, &inside], padded.collect::<Vec<_>>());
    for ((index, window), hole) in wanting.into_iter().zip(holes) {
        let Some(entry) = entries.get_mut(index) else {
            continue;
        };
        let distance = hole.map(|hole| hole.wrapping_sub(entry.addr.0).cast_signed());
        if let Some(hole) = distance.and_then(|distance| i16::try_from(distance).ok()) {
            entry.verdict = Ok(Window { hole, ..window });
            entry.trap = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::native::scan::{Code, Input};

    // f: push rbp; mov rbp,rsp; test edi,edi; je cold; pop rbp; ret; nop... | g: inc eax; ret; h: ret
    const BYTES: [u8; 22] = [
        0x55, 0x48, 0x89, 0xe5, 0x85, 0xff, 0x74, 0x0c, 0x5d, 0xc3, 0x66, 0x90, 0x66, 0x90, 0x66,
        0x90, 0xff, 0xc0, 0xc3, 0xc3, 0x31, 0xc0,
    ];
    const AT: u64 = 0x1000;

    fn with_text<T>(run: impl FnOnce(&Text<'_>) -> T) -> T {
        let code = [Code {
            start: AT,
            bytes: &BYTES,
        }];
        let functions = [
            (AT, AT + 10),
            (AT + 16, AT + 19),
            (AT + 19, AT + 20),
            (AT + 20, AT + 22),
        ];
        run(&Text::new(Input {
            code: &code,
            functions: &functions,
            pointers: &[],
            landing_pads: &[],
            rodata: &[],
            reserved: &[],
            pie: true,
        }))
    }

    fn fact(start: u64, end: u64, named: bool) -> EntryFact {
        EntryFact {
            start: AT + start,
            end: AT + end,
            named,
        }
    }

    #[test]
    fn a_cold_part_is_an_entry_only_when_a_symbol_names_it() {
        with_text(|text| {
            let all = |named| {
                let facts = [fact(0, 10, true), fact(16, 19, true), fact(20, 22, named)];
                File::of(text, &facts).entries().len()
            };
            assert_eq!((all(false), all(true)), (2, 3));
        });
    }

    #[test]
    fn an_entry_without_a_jump_says_why_and_what_a_breakpoint_displaces() {
        with_text(|text| {
            let file = File::of(text, &[fact(0, 10, true), fact(16, 19, true)]);
            let good = file.at(LinkAddr(AT)).unwrap();
            assert_eq!((good.word(), good.window_word()), ("jump", Some("plain")));
            // Two bytes, and padding behind the other function.
            let short = file.at(LinkAddr(AT + 16)).unwrap();
            assert_eq!(
                (short.word(), short.window_word()),
                ("jump", Some("springboard"))
            );
            let window = short.verdict.unwrap();
            assert_eq!((window.len, window.hole, short.trap), (2, -5, None));
            // Without that padding, which the other's window needs now.
            let file = File::of(text, &[fact(8, 10, true), fact(16, 19, true)]);
            let short = file.at(LinkAddr(AT + 16)).unwrap();
            assert_eq!(short.word(), "trap");
            assert_eq!(short.trap.unwrap().len, 2);
            assert_eq!(short.reason().unwrap(), "too short, no padding");
        });
    }

    #[test]
    fn an_offset_inside_an_instruction_is_no_place_for_a_probe() {
        with_text(|text| {
            assert_eq!(text.window_at(AT + 2), Err(Refusal::NotABoundary));
            assert_eq!(text.trap_at(AT + 12), Err(Refusal::NotABoundary));
            assert_eq!(text.window_at(AT + 0x1000), Err(Refusal::NotCode));
            assert_eq!(text.window_at(AT + 1).map(|w| w.len), Ok(5));
        });
    }
}
