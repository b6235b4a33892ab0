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
    let plain = "int _Unwind_RaiseException(void *e) { return e != 0; }\n\
                 int main(void) { return _Unwind_RaiseException(0); }\n";
    // LLVM's has what the one in libgcc is known by.
    let llvm = "void *_Unwind_Find_FDE(void *pc, void *bases) { return 0; }\n\
                unsigned long _Unwind_GetIP(void *context) { return 0; }\n\
                int __unw_step(void *cursor) { return 0; }\n\
                int __unw_init_local(void *cursor, void *context) { return 0; }\n";
    another_is_refused(plain.to_owned());
    another_is_refused(format!("{llvm}{plain}"));
}

fn another_is_refused(text: String) {
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

#[test]
fn exceptions_that_llvm_unwinds_are_left_alone() {
    let places = std::fs::read_dir("/usr/lib")
        .expect("a directory")
        .flatten();
    let mut found = places
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"))
        .map(|entry| entry.path().join("lib/libunwind.so.1.0"))
        .filter(|path| path.exists());
    let Some(library) = found.next() else {
        println!("skipped: there is no libunwind of LLVM");
        return;
    };
    let text = "#include <cstdio>\n#include <stdexcept>\n\
        __attribute__((noinline)) long f(long n)\n\
        { if (n == 3) throw std::runtime_error(\"x\"); asm volatile(\"\"); return n + 1; }\n\
        int main() { long s = 0; for (int i = 0; i < 10; i++)\n\
        try { s += f(i % 5); } catch (std::exception &) { s += 100; } printf(\"%ld\\n\", s); }\n";
    let flags = ["-Wl,--no-as-needed", library.to_str().expect("UTF-8")];
    let source = Source::new("g++", "cc", "thrown_by_llvm", text).flags(&flags);
    let program = match source.try_build() {
        Ok(program) => program,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let path = program.to_str().expect("UTF-8");
    let ended = kptrace(&["run", "-v", "-c", "-p", "*:*%call", "--", path]).expect(0);
    assert_eq!(ended.out, "222\n");
    let why = "kptrace does not know the unwinder in libunwind.so.1.0";
    assert!(ended.err.contains(why), "{}", ended.err);
}
