//! The way from a text to a checked program: every pass in order.

use super::check::{Given, check};
use super::debug::Debug;
use super::source::{MAX_TEXT, Reports, Source};
use super::typed::Checked;
use super::{config, macros, parse};
use crate::spec::Diagnostic;

/// Compiles a program. `parameters` are `$1`, `$2`, ...; `allow_unsafe` allows functions that act
/// outside of the target. Gives the program with what is odd about it, or everything that is wrong
/// with it, in the order of the text.
pub fn compile(
    source: &Source,
    parameters: &[String],
    allow_unsafe: bool,
    debug: &dyn Debug,
) -> Result<(Checked, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut reports = Reports::new(source);
    if source.text().len() > MAX_TEXT {
        let message = format!("this program is longer than {MAX_TEXT} bytes");
        reports.error(&(0..1), message);
        return Err(reports.finish().0);
    }
    let mut tree = parse::parse(&mut reports);
    macros::expand(&mut tree, &mut reports);
    let (mut settings, stack_mode) = config::read(&tree.settings, &mut reports);
    config::declarations(&tree.declared, &mut settings, &mut reports);
    let given = Given {
        parameters,
        allow_unsafe,
        debug,
    };
    let checked = check(&tree, settings, stack_mode, &given, &mut reports);
    let failed = reports.has_errors();
    let (errors, warnings) = reports.finish();
    match failed {
        true => Err(errors),
        false => Ok((checked, warnings)),
    }
}
