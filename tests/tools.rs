//! Tests that need a tool which may be missing: counts against gdb's, and a terminal by script(1).
//! Without the tool a test is ignored, with the reason; with `KPTRACE_REQUIRE_PROGRAMS` set it
//! fails.

mod support;

#[path = "tools/gdb.rs"]
mod gdb;
#[path = "tools/terminal.rs"]
mod terminal;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test that runs where `tool` does; it ends with why it could not be made, if so.
fn trial(tool: &'static str, name: &str, test: fn() -> Result<(), String>) -> Trial {
    let skipped = |why: String| -> Result<Completion, Failed> {
        match std::env::var_os("KPTRACE_REQUIRE_PROGRAMS") {
            Some(_) => Err(why.into()),
            None => Ok(Completion::ignored_with(why)),
        }
    };
    Trial::ignorable_test(name, move || {
        if !support::has(tool) {
            return skipped(format!("no {tool} here"));
        }
        test().map_or_else(skipped, |()| Ok(Completion::Completed))
    })
}

fn main() {
    let trials = vec![
        trial("gdb", "own_calls_agree_with_gdb", gdb::own_calls),
        trial("gdb", "ls_allocates_as_often_as_gdb_says", gdb::ls),
        trial("gdb", "a_shell_allocates_as_often_as_gdb_says", gdb::shell),
        trial(
            "script",
            "an_interrupt_from_the_terminal_is_the_targets",
            terminal::interrupt,
        ),
        trial(
            "script",
            "two_interrupts_that_the_target_survives_let_go",
            terminal::twice,
        ),
        trial(
            "script",
            "an_interrupt_ends_run_as_it_ends_the_target",
            terminal::killed,
        ),
        trial(
            "script",
            "colours_and_streams_on_a_terminal",
            terminal::colours,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
