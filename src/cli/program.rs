//! Programs of the language on the command line: read, compiled, put among what is wanted.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::args::ProgramText;
use crate::language::debug::Debug;
use crate::language::lower::Lowered;
use crate::language::typed::{Checked, Missing};
use crate::language::{Source, Warning, compile};
use crate::session::{Language, Pending, Wanted, lowered};
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

/// A program that was compiled.
pub(super) struct Compiled {
    pub checked: Checked,
    pub lowered: Lowered,
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
    match lowered(&checked) {
        Ok(lowered) => Ok(Compiled { checked, lowered }),
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
    let Compiled { checked, lowered } = compiled(given, debug, quiet)?;
    // An option that says other than the default goes before.
    if let (Pending::Warn, Some(missing)) = (wanted.pending, checked.config.missing) {
        wanted.pending = match missing {
            Missing::Ignore => Pending::Ignore,
            Missing::Warn => Pending::Warn,
            Missing::Error => Pending::Error,
        };
    }
    wanted.language = Some(Language::add(checked, lowered, wanted));
    Ok(())
}
