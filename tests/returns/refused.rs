//! Functions whose returns are not probed: each is named with the reason, the others are.

use crate::support::launch::kptrace;

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
