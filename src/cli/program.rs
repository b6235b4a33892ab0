//! Programs of the language on the command line: read, compiled, put among what is wanted.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::args::ProgramText;
use crate::language::debug::Debug;
use crate::language::lower::Lowered;
use crate::language::typed::{Attach, Checked, Point};
use crate::language::{Source, Warning, compile};
use crate::session::{Language, Wanted, lowered};
use crate::spec::Diagnostic;

/// The text of all programs, in the order of their kinds: those of `-e`, then files.
fn source(programs: &[String], files: &[impl AsRef<Path>]) -> Result<Source, Diagnostic> {
    let mut source = Source::default();
    for program in programs {
        source.add("-e", program);
    }
    for file in files {
        let file = file.as_ref();
        let name = file.display().to_string();
        let text = if file == Path::new("-") {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(file)
        };
        match text {
            Ok(text) => source.add(name, &text),
            Err(error) => {
                let message = format!("cannot read the program: {error}");
                let diagnostic = Diagnostic::new(&name, 0..name.len(), message);
                return Err(diagnostic.help(
                    "-f takes a file of the probe language; children are followed by themselves",
                ));
            }
        }
    }
    Ok(source)
}

/// A program that was compiled, with what must wait for a later release apart.
pub(super) struct Compiled {
    pub source: Source,
    /// All of it.
    pub checked: Checked,
    /// What runs.
    pub ready: Checked,
    /// What that became.
    pub lowered: Lowered,
}

/// Why a block cannot run there yet.
pub(super) fn later(attach: &Attach) -> Option<(&'static str, &Point)> {
    match attach {
        Attach::Usdt(point) => Some(("USDT probes come with a later release", point)),
        _ => None,
    }
}

/// Reads and compiles a program; what is odd about it is said at once, unless `quiet`.
pub(super) fn compiled(
    given: &ProgramText,
    debug: &dyn Debug,
    quiet: bool,
) -> Result<Compiled, Vec<Diagnostic>> {
    let source = source(&given.programs, &given.files).map_err(|error| vec![error])?;
    let (checked, warnings) = compile(&source, &given.parameters, given.allow_unsafe, debug)?;
    if !quiet {
        for warning in &warnings {
            let _ = write!(io::stderr(), "{}", Warning(warning));
        }
    }
    let mut ready = checked.clone();
    ready
        .blocks
        .retain(|block| block.attach.iter().all(|attach| later(attach).is_none()));
    match lowered(&ready) {
        Ok(lowered) => Ok(Compiled {
            source,
            checked,
            ready,
            lowered,
        }),
        Err(wrong) => Err(wrong
            .into_iter()
            .map(|why| source.diagnostic(&why.span, why.message))
            .collect()),
    }
}

/// Puts a program among what is wanted.
pub(super) fn add(
    given: &ProgramText,
    wanted: &mut Wanted,
    debug: &dyn Debug,
    quiet: bool,
) -> Result<(), Vec<Diagnostic>> {
    if !given.is_given() {
        return Ok(());
    }
    let Compiled {
        source,
        checked,
        ready,
        lowered,
    } = compiled(given, debug, quiet)?;
    let attached = checked.blocks.iter().flat_map(|block| &block.attach);
    let later: Vec<Diagnostic> = attached
        .filter_map(|attach| {
            let (message, point) = later(attach)?;
            let diagnostic = source.diagnostic(&point.span, message);
            Some(diagnostic.help("a `uprobe` at a function's entry runs"))
        })
        .collect();
    if !later.is_empty() {
        return Err(later);
    }
    wanted.language = Some(Language::add(ready, lowered, wanted));
    Ok(())
}
