//! The single-step oracle: real programs run one instruction at a time, and wherever a jump may
//! stand, control comes to the bytes behind its first only from the instruction before them. What
//! the analysis proved is held against what processors do; it knows nothing of how it was proved.
//!
//! `KPTRACE_STEPS` sets how many instructions of each program are stepped.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "oracle/step.rs"]
mod step;
mod support;

use std::path::Path;
use std::process::Command;

use kptrace::sys::wait::Status;
use libtest_mimic::{Arguments, Trial};
use step::{Seen, Walk, walk};
use support::Source;

const STEPS: u64 = 300_000;

fn steps() -> u64 {
    let given = std::env::var("KPTRACE_STEPS").ok();
    given.map_or(STEPS, |text| {
        text.parse().expect("KPTRACE_STEPS is a number")
    })
}

/// Fails when something came sideways, and when so little was seen that it proves nothing.
fn judge(name: &str, seen: &Seen, fewest: usize) {
    println!(
        "{name}: {} steps, {} windows, {} through padding, {} unused runs, {} walked through, \
         {} arrivals",
        seen.steps,
        seen.windows,
        seen.holes,
        seen.unused,
        seen.walked.len(),
        seen.fell_through
    );
    let mut sideways = seen.sideways.clone();
    sideways.sort_unstable();
    sideways.dedup();
    assert!(sideways.is_empty(), "{sideways:#?}");
    assert!(seen.walked.len() >= fewest);
    assert!(seen.fell_through >= seen.walked.len() as u64);
}

/// The program of all kinds of branches, to its end.
fn branches(flags: &[&str]) {
    let program = support::c("branches").flags(flags).build();
    let seen = walk(&Walk {
        command: vec![program.to_str().unwrap()],
        steps: u64::MAX,
        loader: false,
        burst: 0,
        everywhere: true,
    });
    assert_eq!(seen.end, Some(Status::Exited(0)));
    assert!(seen.branched > 1000);
    judge(&format!("branches {}", flags.join(" ")), &seen, 20);
}

fn ls() {
    let seen = walk(&Walk {
        command: vec!["ls", "-ld", "/", "/usr"],
        steps: steps(),
        loader: true,
        burst: 0,
        everywhere: false,
    });
    judge("ls", &seen, 100);
}

/// Where the C compiler proper is, if there is one.
fn cc1() -> Option<String> {
    let asked = Command::new("cc").arg("-print-prog-name=cc1").output();
    let path = String::from_utf8(asked.ok()?.stdout).ok()?;
    let path = path.trim().to_owned();
    Path::new(&path).is_absolute().then_some(path)
}

fn compiler(path: &str) {
    let text = "int f(int n) { int s = 0; while (n-- > 0) s += n * n; return s; }\n";
    let source = tempfile::Builder::new().suffix(".c").tempfile().unwrap();
    std::fs::write(source.path(), text).unwrap();
    let seen = walk(&Walk {
        command: vec![
            path,
            "-quiet",
            "-O2",
            source.path().to_str().unwrap(),
            "-o",
            "/dev/null",
        ],
        steps: steps(),
        loader: false,
        burst: 15_000,
        everywhere: false,
    });
    judge("cc1", &seen, 200);
}

/// A program that computes an address behind an entry: no analysis can know, and the oracle must.
fn sees_what_comes_sideways() {
    let text = r#"
        .globl main, narrow
        .type main, @function
        .type narrow, @function
        .text
        .p2align 4
        narrow: xor %eax, %eax
                inc %eax
                inc %eax
                ret
        .size narrow, . - narrow
        .p2align 4
        main:   lea narrow(%rip), %rcx
                xor %eax, %eax
                mov $2, %al
                add %rax, %rcx
                call *%rcx
                xor %eax, %eax
                ret
        .size main, . - main
        .section .note.GNU-stack,"",@progbits
    "#;
    let program = Source::new("cc", "S", "sideways", text).build();
    let seen = walk(&Walk {
        command: vec![program.to_str().unwrap()],
        steps: u64::MAX,
        loader: false,
        burst: 0,
        everywhere: false,
    });
    assert_eq!(seen.end, Some(Status::Exited(0)));
    let [only] = &seen.sideways[..] else {
        panic!("{:#?}", seen.sideways);
    };
    assert!(only.contains("is entered at +0x2 from sideways"), "{only}");
}

fn main() {
    let mut trials = vec![
        Trial::test("the_oracle_sees_what_comes_sideways", || {
            sees_what_comes_sideways();
            Ok(())
        }),
        Trial::test("nothing_comes_sideways_in_ls_and_its_loader", || {
            ls();
            Ok(())
        }),
    ];
    let builds: [(&str, &[&str]); 6] = [
        ("o0", &["-O0"]),
        ("o1", &["-O1"]),
        ("o2", &["-O2"]),
        ("o3", &["-O3"]),
        ("no_pie", &["-O2", "-no-pie", "-fno-pie"]),
        ("static", &["-O2", "-static"]),
    ];
    for (name, flags) in builds {
        let name = format!("nothing_comes_sideways_at_{name}");
        trials.push(Trial::test(name, move || {
            branches(flags);
            Ok(())
        }));
    }
    trials.push(match cc1() {
        Some(path) => Trial::test("nothing_comes_sideways_in_cc1", move || {
            compiler(&path);
            Ok(())
        }),
        None => Trial::test("nothing_comes_sideways_in_cc1 (no cc1 here)", || Ok(()))
            .with_ignored_flag(true),
    });
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
