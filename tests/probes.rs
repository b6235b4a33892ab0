//! Programs of the probe language run whole, on real programs: those in `probes/`, those of
//! `tests/language_reference` whose output was recorded, and some whose totals are known exactly.
//!
//! Cases that need packages are reported as ignored where these are missing; with
//! `KPTRACE_REQUIRE_PROGRAMS=1` they fail. The one that records anew needs bpftrace and root, and is
//! run only when asked for (`--ignored`).

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "probes/exact.rs"]
mod exact;
#[path = "probes/lasting.rs"]
mod lasting;
#[path = "probes/named.rs"]
mod named;
#[path = "programs/need.rs"]
mod need;
#[path = "probes/printed.rs"]
mod printed;
#[path = "probes/ready.rs"]
mod ready;
#[path = "probes/reference.rs"]
mod reference;
mod support;
#[path = "probes/unchanged.rs"]
mod unchanged;
#[path = "probes/usdt.rs"]
mod usdt;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a case came to.
type Verdict = Result<Completion, Failed>;

type Run = fn() -> Verdict;

fn main() {
    let arguments = Arguments::from_args();
    let cases: [(&str, Run); 44] = [
        ("every_ready_program_has_a_test", ready::all_there),
        ("mallocsize_and_its_kin_agree", ready::malloc),
        ("mallocsize_knows_calloc_and_realloc", ready::allocations),
        ("locksnoop_counts_locks_and_signals", ready::locks),
        ("iosize_sees_what_dd_asks_for", ready::io),
        ("iosize_sees_what_redis_serves", ready::redis),
        ("threadsnoop_names_every_start", ready::threads),
        ("threadsnoop_counts_pythons_threads", ready::python_threads),
        ("sqlsnoop_shows_the_statements", ready::sql),
        ("opensnoop_shows_paths", ready::opens),
        ("execsnoop_shows_arguments", ready::execs),
        ("execsnoop_shows_what_git_runs", ready::git),
        ("pythoncalls_counts_calls", ready::python),
        ("dnssnoop_shows_names", ready::names),
        ("killsnoop_shows_signals_and_ends", ready::signals),
        ("pyfunctions_counts_calls_and_imports", usdt::python),
        ("throwsnoop_names_what_is_thrown", usdt::exceptions),
        ("pgsnoop_shows_statements_and_their_time", usdt::postgres),
        ("slowmalloc_times_every_allocation", lasting::allocations),
        ("memleak_finds_what_is_not_freed", lasting::leaks),
        (
            "lockwait_knows_how_long_a_lock_was_waited_for",
            lasting::locks,
        ),
        ("iolatency_times_what_dd_does", lasting::io),
        ("fsyncsnoop_shows_each_wait_for_the_disk", lasting::fsync),
        (
            "dnslatency_shows_names_and_what_came_of_them",
            lasting::names,
        ),
        ("connectsnoop_shows_addresses", lasting::connections),
        ("waitsnoop_finds_naps_and_children", lasting::waits),
        ("tlssnoop_shows_plaintext_and_its_size", lasting::secured),
        ("slowsql_times_the_statements", lasting::sql),
        ("pylatency_times_functions_and_imports", lasting::python),
        (
            "a_function_is_one_key_at_entry_and_return",
            lasting::one_key,
        ),
        ("recorded_programs_print_the_same_text", reference::text),
        ("recorded_programs_print_the_same_json", reference::json),
        (
            "bpftraces_threadsnoop_names_every_start",
            unchanged::threadsnoop,
        ),
        (
            "bpftraces_bashreadline_shows_commands",
            unchanged::bashreadline,
        ),
        (
            "bpftraces_gethostlatency_sees_lookups",
            unchanged::gethostlatency,
        ),
        ("bpftraces_sslsnoop_sees_a_client", unchanged::sslsnoop),
        ("bpftraces_ssllatency_sees_a_client", unchanged::ssllatency),
        ("maps_are_exact_whatever_happens", exact::maps),
        (
            "keys_that_come_and_go_find_room_in_a_real_program",
            exact::keys_of_a_real_program,
        ),
        (
            "keys_that_come_and_go_find_room_in_threads_and_children",
            exact::keys_of_many,
        ),
        (
            "a_child_by_vfork_has_its_parents_number_until_it_executes",
            exact::child_by_vfork,
        ),
        ("what_is_printed_and_lost_is_what_was_made", exact::records),
        (
            "rings_that_are_too_small_lose_nothing_silently",
            exact::storm,
        ),
        (
            "libcs_prototypes_name_arguments_in_real_programs",
            named::prototypes,
        ),
    ];
    let trials = cases
        .into_iter()
        .map(|(name, case)| Trial::ignorable_test(name, case));
    let anew = Trial::ignorable_test("bpftrace_still_prints_what_is_recorded", reference::anew);
    let both = Trial::ignorable_test("usdt_agrees_with_bpftrace", usdt::bpftrace);
    let asked = [anew, both].map(|trial| trial.with_ignored_flag(true));
    let trials = trials.chain(asked).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
