//! Notes of USDT probes (`<sys/sdt.h>`). Knows nothing of their arguments but that they are words.

use super::bytes::{string_at, u32_at, u64_at};
use super::elf::Image;

/// The type of such a note.
const STAPSDT: u32 = 3;
/// Most notes of one file.
const MOST: usize = 100_000;

/// A USDT probe at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who defines it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Address of the `nop`, as it is written: before prelinking.
    pub at: u64,
    /// Arguments as they are written: `-4@%edi`.
    pub args: Vec<String>,
}

/// The notes of a file; those that are broken are left out.
pub fn usdt_notes(image: &Image) -> Vec<Note> {
    let mut notes = Vec::new();
    let Some(section) = image.section(".note.stapsdt") else {
        return notes;
    };
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
            notes.extend(note(bytes));
        }
        rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    notes
}

fn note(bytes: &[u8]) -> Option<Note> {
    let at = u64_at(bytes, 0)?;
    let text = |at| Some(String::from_utf8_lossy(string_at(bytes, at)?).into_owned());
    let provider = text(24)?;
    let name_at = 24 + string_at(bytes, 24)?.len() + 1;
    let name = text(name_at)?;
    let args = text(name_at + string_at(bytes, name_at)?.len() + 1)?;
    Some(Note {
        provider,
        name,
        at,
        args: args.split_whitespace().map(str::to_owned).collect(),
    })
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
        let notes = usdt_notes(&built.image());
        assert_eq!(notes.len(), 1);
        let note = &notes[0];
        assert_eq!(
            (note.provider.as_str(), note.name.as_str()),
            ("shop", "sold")
        );
        assert_eq!(note.args.len(), 2);
        assert!(note.args[0].starts_with("-4@%") && note.args[1] == "8@$5");
    }
}
