//! What a program was compiled to, stage by stage, as text: for people who ask what it means or what it
//! costs, and for tests. Knows no target: the code is made for addresses that one might give.

use std::io::{self, Write};

use super::args::Dump;
use super::program::Compiled;
use crate::language::lower::FIRST_ACTION;
use crate::language::typed::{Attach, Block};
use crate::session::preview_block;

/// Prints a stage. Quoted names stand in the program's text as they are: what acts on a terminal is
/// replaced.
pub(super) fn print(stage: Dump, program: &Compiled, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    write(stage, program, &mut text)?;
    let text = String::from_utf8_lossy(&text);
    out.write_all(
        text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
            .as_bytes(),
    )
}

fn write(stage: Dump, program: &Compiled, out: &mut Vec<u8>) -> io::Result<()> {
    if stage == Dump::Ast {
        return write!(out, "{}", program.checked);
    }
    if stage == Dump::Ir {
        for (map, table) in program.checked.maps.iter().zip(&program.lowered.tables) {
            writeln!(out, "m{} = {}", table.map, map.name)?;
        }
        for (number, deed) in (FIRST_ACTION..).zip(&program.lowered.deeds) {
            writeln!(out, "record {number} = {deed}")?;
        }
    }
    for (index, block) in program.checked.blocks.iter().enumerate() {
        title(block, out)?;
        writeln!(out, "{{")?;
        if stage == Dump::Ir {
            let text = program.lowered.blocks.get(index).map(ToString::to_string);
            for line in text.unwrap_or_default().lines() {
                writeln!(out, "  {line}")?;
            }
        } else {
            let own = !block.attach.iter().any(Attach::is_in_target);
            for line in preview_block(&program.lowered, index, own).unwrap_or_default() {
                writeln!(out, "  {line}")?;
            }
        }
        writeln!(out, "}}")?;
    }
    Ok(())
}

/// Where a block runs, a probe a line.
fn title(block: &Block, out: &mut impl Write) -> io::Result<()> {
    for attach in &block.attach {
        match attach {
            Attach::Begin => writeln!(out, "BEGIN")?,
            Attach::End => writeln!(out, "END")?,
            Attach::Interval(nanos) => writeln!(out, "{}", interval(*nanos))?,
            Attach::Entry(point) | Attach::Return(point) | Attach::Usdt(point) => {
                writeln!(out, "{}", point.text)?;
            }
        }
    }
    Ok(())
}

/// An interval as the language writes it.
pub(super) fn interval(nanos: u64) -> String {
    for (unit, length) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if nanos.is_multiple_of(length) {
            return format!("interval:{unit}:{}", nanos / length);
        }
    }
    format!("interval:ns:{nanos}")
}
