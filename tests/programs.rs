//! Patch everything and compare: each case runs a real program alone and with a probe at every
//! function of it and of its libraries. What it prints, makes and how it ends must be the same,
//! there are hits, and no site was found foreign. How many sites jump, and why each other one does
//! not, is printed.
//!
//! Cases that need packages are reported as ignored where these are missing; with
//! `KPTRACE_REQUIRE_PROGRAMS=1` they fail. When a case fails, its sites are bisected down to a few
//! that make it fail.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "returns/accounts.rs"]
mod accounts;
#[path = "programs/always.rs"]
mod always;
#[path = "programs/attach.rs"]
mod attach;
#[path = "programs/bisect.rs"]
mod bisect;
#[path = "programs/case.rs"]
mod case;
#[path = "attach/looks.rs"]
mod looks;
#[path = "programs/musl.rs"]
mod musl;
#[path = "programs/need.rs"]
mod need;
#[path = "programs/packages.rs"]
mod packages;
#[path = "programs/redis.rs"]
mod redis;
#[path = "programs/servers.rs"]
mod servers;
#[path = "programs/sites.rs"]
mod sites;
mod support;
#[path = "programs/uftrace.rs"]
mod uftrace;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a case came to: an error is a difference.
type Verdict = Result<Completion, Failed>;

type Run = fn() -> Verdict;

fn main() {
    let arguments = Arguments::from_args();
    let cases: [(&str, Run); 27] = [
        ("a_difference_is_traced_to_its_site", always::bisected),
        ("ls_lists_a_tree", always::ls),
        ("sh_runs_pipes_forks_and_subshells", always::sh),
        ("cc_compiles", always::cc),
        ("cc1_compiles", always::cc1),
        ("as_assembles", always::assembler),
        ("ld_links", always::ld),
        ("rustc_compiles_through_llvm", always::rustc),
        ("git_logs_a_repository", packages::git_log),
        ("git_checks_a_repository", packages::git_fsck),
        ("python_passes_its_own_tests", packages::python),
        ("sqlite_loads_and_checks", packages::sqlite),
        ("node_compiles_and_has_workers", packages::node),
        ("exceptions_pass_through_threads", packages::cxx),
        ("redis_serves_a_benchmark", servers::redis),
        ("postgres_initialises_a_cluster", servers::initdb),
        ("postgres_serves_pgbench", servers::pgbench),
        (
            "redis_serves_with_every_return_probed",
            servers::redis_returns,
        ),
        (
            "errors_of_postgres_pass_through_calls_whose_returns_are_probed",
            servers::postgres_returns,
        ),
        ("redis_is_attached_to_under_load", attach::redis),
        ("musl_programs_are_counted_from_their_start", musl::starts),
        ("static_musl_programs_are_counted_too", musl::starts_alone),
        ("libraries_that_musl_opens_are_counted", musl::opens),
        ("musl_programs_are_attached_to", musl::later),
        (
            "musl_starts_and_opens_with_everything_probed",
            musl::everything,
        ),
        ("busybox_runs_a_script", musl::busybox),
        ("trees_of_calls_are_those_of_uftrace", uftrace::trees),
    ];
    let trials = cases
        .into_iter()
        .map(|(name, case)| Trial::ignorable_test(name, case))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
