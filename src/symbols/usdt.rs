//! Notes of USDT probes (`<sys/sdt.h>`): places, semaphores, and arguments as words. What an argument
//! means is not known here, but for names of variables: these become distances from the place.

use std::collections::HashMap;

use super::bytes::{string_at, u32_at, u64_at};
use super::elf::Image;
use super::table::Table;
use crate::base::LinkAddr;

/// The type of such a note.
const STAPSDT: u32 = 3;
/// Most notes of one file.
const MOST: usize = 100_000;
/// `STT_TLS`: its value is no address.
const TLS: u8 = 6;

/// A USDT probe at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who defines it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Where its `nop` is.
    pub at: LinkAddr,
    /// The word that is not 0 while somebody watches.
    pub semaphore: Option<LinkAddr>,
    /// Arguments as they are written: `-4@%edi`. What lies at a symbol is written as lying so many
    /// bytes from the place: `8@-64(%site)` for `8@counter(%rip)`.
    pub args: Vec<String>,
}

impl Note {
    /// `provider:name`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.provider, self.name)
    }
}

/// The notes of a file; those that are broken are left out. `debug` may have more symbols.
pub fn usdt_notes(image: &Image, debug: Option<&Image>) -> Vec<Note> {
    let mut notes = Vec::new();
    let Some(section) = image.section(".note.stapsdt") else {
        return notes;
    };
    // Whoever moved the file's addresses since it was linked moved this section's, not the notes'.
    let base = image.section(".stapsdt.base").map(|base| base.at.0);
    let mut rest = image.section_bytes(section);
    while notes.len() < MOST
        && let (Some(name), Some(desc), Some(kind)) =
            (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8))
    {
        let start = 12 + (name as usize).next_multiple_of(4);
        let end = start + desc as usize;
        let Some(bytes) = rest.get(start..end) else {
            break;
        };
        if kind == STAPSDT {
            notes.extend(note(bytes, base));
        }
        rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    place_symbols(&mut notes, image, debug);
    notes
}

fn note(bytes: &[u8], base: Option<u64>) -> Option<Note> {
    let noted = u64_at(bytes, 8)?;
    let moved = base.filter(|_| noted != 0).map(|at| at.wrapping_sub(noted));
    let now = |at: u64| LinkAddr(at.wrapping_add(moved.unwrap_or(0)));
    let text = |at| Some(String::from_utf8_lossy(string_at(bytes, at)?).into_owned());
    let provider = text(24)?;
    let name_at = 24 + string_at(bytes, 24)?.len() + 1;
    let name = text(name_at)?;
    let args = text(name_at + string_at(bytes, name_at)?.len() + 1)?;
    Some(Note {
        provider,
        name,
        at: now(u64_at(bytes, 0)?),
        semaphore: u64_at(bytes, 16).filter(|&at| at != 0).map(now),
        args: words(&args),
    })
}

/// Words that spaces part, but for those in parentheses: some compilers write `(%rax, %rbx, 8)`.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            ' ' | '\t' if inside => {}
            ' ' | '\t' => {
                all.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()))
            }
            c => {
                inside = c == '(' || (inside && c != ')');
                word.push(c);
            }
        }
    }
    all.extend(Some(word).filter(|word| !word.is_empty()));
    all
}

/// An argument in which a variable is named.
struct Named<'a> {
    /// All before the place: `-4@`, or `8@$`.
    before: &'a str,
    symbol: &'a str,
    offset: i64,
    /// `(%rip)`, `(,%rax,8)`, or nothing.
    registers: &'a str,
}

impl<'a> Named<'a> {
    /// `-4@40+counter(%rip)`, `8@counter-8(%rip)`, `4@table(,%rax,4)`, `8@counter`.
    fn of(arg: &'a str) -> Option<Named<'a>> {
        let size = arg.find('@').map_or(0, |at| at + 1);
        let constant = usize::from(arg.get(size..)?.starts_with('$'));
        let (before, place) = arg.split_at_checked(size + constant)?;
        let (sum, registers) = place.split_at(place.find('(').unwrap_or(place.len()));
        let (mut symbol, mut offset) = (None, 0_i64);
        let mut rest = sum;
        while !rest.is_empty() {
            // Each part with its sign.
            let sign = usize::from(rest.starts_with(['+', '-']));
            let end = rest.get(sign..)?.find(['+', '-']);
            let (part, more) = rest.split_at(end.map_or(rest.len(), |end| sign + end));
            rest = more;
            match part.parse::<i64>() {
                Ok(number) => offset = offset.checked_add(number)?,
                Err(_) if symbol.is_none() && !part.starts_with('-') => {
                    symbol = Some(part.trim_start_matches('+'));
                }
                Err(_) => return None,
            }
        }
        let symbol =
            symbol.filter(|symbol| !symbol.is_empty() && !symbol.contains(['%', ':', '@']))?;
        Some(Named {
            before,
            symbol,
            offset,
            registers,
        })
    }
}

/// Writes what lies at a symbol as lying at a distance from the place. Symbols that are not found stay.
fn place_symbols(notes: &mut [Note], image: &Image, debug: Option<&Image>) {
    let named = notes.iter().flat_map(|note| &note.args);
    let named = named.filter_map(|arg| Some(Named::of(arg)?.symbol.to_owned()));
    let mut known: HashMap<String, Option<u64>> = named.map(|symbol| (symbol, None)).collect();
    if known.is_empty() {
        return;
    }
    let tables = [
        debug.and_then(Table::symtab),
        Table::symtab(image),
        Table::dynsym(image),
    ];
    for symbol in tables.into_iter().flatten().flat_map(Table::iter) {
        if symbol.is_defined()
            && symbol.kind != TLS
            && let Ok(name) = std::str::from_utf8(symbol.name)
            && let Some(at) = known.get_mut(name)
        {
            *at = Some(symbol.value);
        }
    }
    for note in notes {
        let place = |arg: &String| {
            let named = Named::of(arg)?;
            let at = (*known.get(named.symbol)?)?;
            let far = at.wrapping_add_signed(named.offset).wrapping_sub(note.at.0);
            let registers = match named.registers {
                "" | "(%rip)" => "(%site)".to_owned(),
                // No base, but an index.
                other => format!(
                    "(%site{}",
                    other.strip_prefix('(').filter(|o| o.starts_with(','))?
                ),
            };
            Some(format!("{}{}{registers}", named.before, far.cast_signed()))
        };
        for arg in &mut note.args {
            if let Some(placed) = place(arg) {
                *arg = placed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::cc;
    use super::*;

    /// What `<sys/sdt.h>` makes of `DTRACE_PROBE1(shop, sold, n)`, without that header.
    const SOURCE: &str = r#"
        int main(int argc, char **argv) {
            __asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n"
                ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n"
                "993: .8byte 990b, 0, 0\n.asciz \"shop\"\n.asciz \"sold\"\n.asciz \"-4@%0 8@$5\"\n"
                "994: .balign 4\n.popsection" : : "r"(argc));
            return 0;
        }
    "#;

    #[test]
    fn notes_are_read() {
        let Some(built) = cc(SOURCE, &["-O1"]) else {
            return;
        };
        let notes = usdt_notes(&built.image(), None);
        assert_eq!(notes.len(), 1);
        let note = &notes[0];
        assert_eq!(
            (note.provider.as_str(), note.name.as_str()),
            ("shop", "sold")
        );
        assert_eq!(note.args.len(), 2);
        assert!(note.args[0].starts_with("-4@%") && note.args[1] == "8@$5");
    }

    /// The same with a base, as if it had been prelinked by 0x1000; and with variables.
    const MOVED: &str = r#"
        __attribute__((section(".probes"))) unsigned short semaphore;
        static int counter[4] = {1, 2, 3, 4};
        int main(int argc, char **argv) {
            __asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n"
                ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n"
                "993: .8byte 990b-0x1000, _.stapsdt.base-0x1000, semaphore-0x1000\n.asciz \"shop\"\n"
                ".asciz \"sold\"\n.asciz \"-4@%0 -4@8+counter(%%rip) 8@nowhere(%%rip) 8@(%%rax, %%rbx, 8)\"\n"
                "994: .balign 4\n.popsection\n"
                ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
                "_.stapsdt.base: .space 1\n.popsection" : : "m"(counter[1]));
            return semaphore;
        }
    "#;

    #[test]
    fn places_follow_their_base_and_variables_are_told_from_the_place() {
        let Some(built) = cc(MOVED, &["-O1", "-g"]) else {
            return;
        };
        let image = built.image();
        let notes = usdt_notes(&image, None);
        let note = &notes[0];
        assert_eq!(image.bytes_at(note.at, 1), Some(&[0x90][..]));
        let section = image.section(".probes").unwrap();
        assert_eq!(note.semaphore, Some(section.at));
        let table = Table::symtab(&image).unwrap();
        let counter = table.iter().find(|symbol| symbol.name == b"counter");
        let far = counter.unwrap().value.wrapping_sub(note.at.0).cast_signed();
        assert_eq!(note.args[0], format!("-4@{}(%site)", far + 4));
        assert_eq!(note.args[1], format!("-4@{}(%site)", far + 8));
        assert_eq!(note.args[2], "8@nowhere(%rip)");
        assert_eq!(note.args[3], "8@(%rax,%rbx,8)");
    }

    #[test]
    fn sums_of_a_symbol_and_numbers_are_told_apart() {
        let named = |arg| Named::of(arg).map(|n| (n.before, n.symbol, n.offset, n.registers));
        assert_eq!(
            named("-4@40+Stats(%rip)"),
            Some(("-4@", "Stats", 40, "(%rip)"))
        );
        assert_eq!(named("8@x-8+2(%rip)"), Some(("8@", "x", -6, "(%rip)")));
        assert_eq!(named("4@t(,%rax,4)"), Some(("4@", "t", 0, "(,%rax,4)")));
        assert_eq!(named("8@$.LC0"), Some(("8@$", ".LC0", 0, "")));
        assert_eq!(named("x"), Some(("", "x", 0, "")));
        for other in [
            "-4@%eax",
            "8@-16(%rbp)",
            "8@(%rax)",
            "4@$3",
            "4@-x",
            "",
            "4@%fs:x@tpoff",
            "8@+",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
