//! Programs of the language on the command line: read, compiled, put among what is wanted.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::args::Trace;
use crate::language::debug::Debug;
use crate::language::lower::Lowered;
use crate::language::typed::{Attach, Checked};
use crate::language::{Source, Warning, compile};
use crate::session::{Language, Wanted, lowered};
use crate::spec::Diagnostic;

/// The text of all programs, in the order of their kinds: those of `-e`, then files.
pub(super) fn source(
    programs: &[String],
    files: &[impl AsRef<Path>],
) -> Result<Source, Diagnostic> {
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

/// Compiles a program; what is odd about it is said at once, unless `quiet`.
pub(super) fn compiled(
    source: &Source,
    parameters: &[String],
    allow_unsafe: bool,
    debug: &dyn Debug,
    quiet: bool,
) -> Result<(Checked, Lowered), Vec<Diagnostic>> {
    let (checked, warnings) = compile(source, parameters, allow_unsafe, debug)?;
    if !quiet {
        for warning in &warnings {
            let _ = write!(io::stderr(), "{}", Warning(warning));
        }
    }
    match lowered(&checked) {
        Ok(lowered) => Ok((checked, lowered)),
        Err(wrong) => Err(wrong
            .into_iter()
            .map(|why| source.diagnostic(&why.span, why.message))
            .collect()),
    }
}

/// Puts the programs of a command line among what is wanted.
pub(super) fn add(
    trace: &Trace,
    wanted: &mut Wanted,
    debug: &dyn Debug,
) -> Result<(), Vec<Diagnostic>> {
    if trace.programs.is_empty() && trace.files.is_empty() {
        return Ok(());
    }
    let source = source(&trace.programs, &trace.files).map_err(|error| vec![error])?;
    let quiet = trace.talk.quiet;
    let (checked, lowered) =
        compiled(&source, &trace.parameters, trace.allow_unsafe, debug, quiet)?;
    let attached = checked.blocks.iter().flat_map(|block| &block.attach);
    let later: Vec<Diagnostic> = attached
        .filter_map(|attach| {
            let Attach::Return(point) = attach else {
                return None;
            };
            let message = "return probes come with a later release".to_owned();
            let diagnostic = source.diagnostic(&point.span, message);
            Some(diagnostic.help("a `uprobe` at a function's entry runs"))
        })
        .collect();
    if !later.is_empty() {
        return Err(later);
    }
    wanted.language = Some(Language::add(checked, lowered, wanted));
    Ok(())
}
