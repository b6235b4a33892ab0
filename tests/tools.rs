//! Tests that need a tool which may be missing: counts against gdb's, a terminal by script(1), targets
//! in namespaces and under another root, make, git and pipelines, a daemon.
//! Without the tool a test is ignored, with the reason; with `KPTRACE_REQUIRE_PROGRAMS` set it
//! fails.

mod support;

#[path = "tools/daemon.rs"]
mod daemon;
#[path = "tools/elsewhere.rs"]
mod elsewhere;
#[path = "tools/gdb.rs"]
mod gdb;
#[path = "attach/looks.rs"]
mod looks;
#[path = "programs/need.rs"]
mod need;
#[path = "tools/stacks.rs"]
mod stacks;
#[path = "tools/terminal.rs"]
mod terminal;
#[path = "tools/work.rs"]
mod work;

use libtest_mimic::{Arguments, Completion, Trial};

/// A test that runs where `tool` does; it ends with why it could not be made, if so.
fn trial(tool: &'static str, name: &str, test: fn() -> Result<(), String>) -> Trial {
    Trial::ignorable_test(name, move || {
        if need::find(tool).is_none() {
            return need::missing_one(&format!("no {tool} here"));
        }
        test().map_or_else(
            |why| need::missing_one(&why),
            |()| Ok(Completion::Completed),
        )
    })
}

fn main() {
    let trials = vec![
        trial("gdb", "own_calls_agree_with_gdb", gdb::own_calls),
        trial("gdb", "ls_allocates_as_often_as_gdb_says", gdb::ls),
        trial("gdb", "stacks_of_c_are_those_of_gdb", stacks::c_program),
        trial(
            "gdb",
            "stacks_by_debug_frame_are_those_of_gdb",
            stacks::debug_frame,
        ),
        trial("gdb", "stacks_of_cxx_are_those_of_gdb", stacks::cxx_program),
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
        trial(
            "unshare",
            "a_target_in_namespaces_of_its_own_is_attached_to",
            elsewhere::namespaces_attached,
        ),
        trial(
            "unshare",
            "a_program_that_makes_namespaces_is_followed_into_them",
            elsewhere::namespaces_run,
        ),
        trial(
            "chroot",
            "a_target_with_a_root_of_its_own_has_its_own_libraries",
            elsewhere::root_directory,
        ),
        trial(
            "nginx",
            "a_daemon_is_followed_from_its_start_to_its_end",
            daemon::followed,
        ),
        trial(
            "nginx",
            "a_daemon_that_is_not_followed_is_clean",
            daemon::not_followed,
        ),
        trial(
            "nginx",
            "a_daemon_and_its_worker_are_attached_to",
            daemon::attached_to,
        ),
        trial("make", "make_builds_the_same", work::make),
        trial("git", "git_packs_the_same", work::git_gc),
        trial("awk", "a_script_of_pipelines_does_the_same", work::script),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
