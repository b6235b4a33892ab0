//! Functions whose returns are not probed: each is named with the reason, the others are.

use crate::support::build::{self, Source};
use crate::support::launch::{self, kptrace};

#[test]
fn functions_that_look_at_their_return_address_or_return_twice_are_refused_by_name() {
    let args = [
        "run",
        "-v",
        "-p",
        "libc:setjmp%return",
        "-p",
        "libc:dlsym%return",
        "-p",
        "libc:vfork%return",
        "-p",
        "libc:getpid%return",
        "--pending",
        "ignore",
        "--",
        "true",
    ];
    let ended = kptrace(&args).expect(0);
    for (name, why) in [
        ("dlsym", "it finds its caller by the return address"),
        ("vfork", "it returns twice, or elsewhere"),
    ] {
        let told = ended
            .err
            .lines()
            .find(|line| line.contains(&format!(":{name}%return: ")));
        assert!(
            told.is_some_and(|line| line.ends_with(why)),
            "{}",
            ended.err
        );
    }
    assert!(!ended.err.contains(":getpid%return: "), "{}", ended.err);
}

#[test]
fn a_return_probe_inside_a_function_is_an_error() {
    let ended = kptrace(&["run", "-p", "libc:malloc+4%return", "--", "true"]).expect(2);
    assert!(
        ended
            .err
            .contains("a return probe needs the entry of a function"),
        "{}",
        ended.err
    );
}

#[test]
fn arguments_are_gone_at_a_return() {
    let ended = kptrace(&["run", "-p", "libc:malloc%return size=$arg1", "--", "true"]).expect(2);
    assert!(
        ended
            .err
            .contains("arguments are gone when a function returns"),
        "{}",
        ended.err
    );
}

/// Its unwinder is linked in, and nothing tells where.
#[test]
fn a_program_whose_unwinder_has_no_name_is_refused_unless_forced() {
    let text = std::fs::read_to_string(build::targets().join("thrown.cc")).expect("its source");
    let flags = [
        "-O2",
        "-pthread",
        "-static-libgcc",
        "-static-libstdc++",
        "-s",
    ];
    let source = Source::new("g++", "cc", "thrown", text).flags(&flags);
    let program = match source.try_build() {
        Ok(program) => program,
        Err(why) => {
            println!("skipped: no static libstdc++: {why}");
            return;
        }
    };
    let alone = launch::start(launch::command(&program)).end().expect(0);
    let path = program.to_str().expect("UTF-8");
    let run = |more: &[&str]| {
        let args = ["run", "-v", "-c", "-p", "libc:*%return"];
        kptrace(&[&args[..], more, &["--", path]].concat())
    };
    let refused = run(&[]).expect(0);
    assert_eq!(refused.out, alone.out);
    let why = ":memcpy%return: exceptions would not pass: kptrace does not know the unwinder in thrown; \
               --force-returns";
    assert!(refused.err.contains(why), "{}", refused.err);
    // None of these functions is on the stack when something is thrown.
    let args = [
        "run",
        "-v",
        "-c",
        "-p",
        "libc:getenv%return",
        "--force-returns",
    ];
    let forced = kptrace(&[&args[..], &["--", path]].concat()).expect(0);
    assert_eq!(forced.out, alone.out);
    assert!(!forced.err.contains("would not pass"), "{}", forced.err);
}

/// LLVM's unwinder, and others, have the interface and nothing more that is known.
#[test]
fn a_program_with_another_unwinder_is_refused() {
    let text = "int _Unwind_RaiseException(void *e) { return e != 0; }\n\
                int main(void) { return _Unwind_RaiseException(0); }\n";
    let program = Source::new("cc", "c", "other_unwinder", text).build();
    let path = program.to_str().expect("UTF-8");
    let ended = kptrace(&["run", "-v", "-p", "main%return", "--", path]);
    let why = "kptrace does not know the unwinder in other_unwinder";
    assert!(ended.err.contains(why), "{}", ended.err);
    let ended = kptrace(&["run", "--force-returns", "-p", "main%return", "--", path]).expect(0);
    assert!(
        ended.err.contains("<- other_unwinder:main ret=0x0"),
        "{}",
        ended.err
    );
}
