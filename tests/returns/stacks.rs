//! Stacks: those of the program, without anything of ours, walked and copied; what is done with them in maps.

use std::path::Path;

use crate::support::launch::kptrace;
use crate::support::{Source, build, json};

#[test]
fn a_stack_by_frame_pointers_names_the_callers_and_no_thunk() {
    let flags = ["-O1", "-pthread", "-fno-omit-frame-pointer"];
    let program = build::c("returns").flags(&flags).named("framed").build();
    let path = program.to_str().expect("UTF-8");
    let stacks = |more: &str| {
        let text = format!(
            "uprobe:{path}:end_of_chain {{ @[ustack(6)] = count(); }}
             uprobe:{path}:down /arg0 == 3/ {{ @[ustack(3)] = count(); }} {more}"
        );
        let ended = kptrace(&["run", "-q", "-e", &text, "--", path]).expect(0);
        ended.err
    };
    let plain = stacks("");
    assert!(
        plain.contains("chain+") && plain.contains("main+"),
        "{plain}"
    );
    assert!(plain.contains("down+"), "{plain}");
    let probed = stacks(&format!("uretprobe:{path}:* {{ @returned = count(); }}"));
    let probed: Vec<&str> = probed
        .lines()
        .filter(|line| !line.starts_with("@returned"))
        .collect();
    let plain: Vec<&str> = plain.lines().collect();
    assert_eq!(probed, plain);
}

/// What a program of the language prints, walked in one way.
fn printed(by: &str, text: &str, command: &[&str]) -> String {
    let options = [
        "run",
        "-q",
        "--stack-size",
        "512",
        "--stack-by",
        by,
        "-e",
        text,
        "--",
    ];
    kptrace(&[&options[..], command].concat()).expect(0).err
}

#[test]
fn a_program_prints_the_same_of_copied_stacks_as_of_walked_ones() {
    let flags = ["-O1", "-pthread", "-fno-omit-frame-pointer"];
    let program = build::c("returns").flags(&flags).named("framed").build();
    let path = program.to_str().expect("UTF-8");
    let text = format!(
        "uprobe:{path}:end_of_chain {{
             @[ustack(3)] = count(); @sum[ustack(2), arg0 & 1] = sum(arg0);
             @hist[ustack(3)] = hist(arg0); @least[ustack(3)] = min(arg0);
             @greatest[ustack(2)] = max(arg0); @average[ustack(3)] = avg(arg0);
             @where[arg0 & 3] = ustack(3); @added[ustack(3)] = 7; @gone[ustack(2)] = 1;
         }}
         uprobe:{path}:down /arg0 == 3/ {{
             $stack = ustack(2);
             printf(\"%d%s\", arg0, $stack); print((ustack(1), arg0)); delete(@gone[ustack(2)]);
         }}"
    );
    let walked = printed("fp", &text, &[path]);
    assert_eq!(printed("copy", &text, &[path]), walked);
    for name in [
        "@[", "@sum[", "@hist[", "@where[", "@added[", "down+", "chain+",
    ] {
        assert!(walked.contains(name), "no {name} in {walked}");
    }
}

#[test]
fn maps_of_copied_stacks_are_cleared_and_printed_in_between() {
    let program = build::c("flood").flags(&["-O2", "-pthread"]).build();
    let path = program.to_str().expect("UTF-8");
    let text = format!(
        "uprobe:{path}:hot /arg0 == 5/ {{ print(@); clear(@); clear(@m); }}
         uprobe:{path}:hot {{ @[ustack(1)] = count(); @m[ustack(1)] = max(arg0); }}
         uprobe:{path}:hot /arg0 == 7/ {{ zero(@z); }}
         uprobe:{path}:hot {{ @z[ustack(1)] = sum(arg0); }}"
    );
    let out = printed("copy", &text, &[path, "1", "10"]);
    let values: Vec<&str> = out.lines().filter_map(|l| l.strip_prefix("]: ")).collect();
    // 0 to 4 before; then 5 to 9, the greatest of which is 9; 7 to 9 since it was zero.
    assert_eq!(values, ["5", "5", "9", "24"], "{out}");
}

#[test]
fn what_a_map_of_copied_stacks_did_not_take_is_counted_as_lost() {
    let program = build::c("flood").flags(&["-O2", "-pthread"]).build();
    let path = program.to_str().expect("UTF-8");
    let text = format!("uprobe:{path}:hot {{ @made = count(); @[ustack(1)] = count(); }}");
    let options = [
        "run",
        "-q",
        "--mem",
        "1M",
        "--stack-by",
        "copy",
        "-e",
        &text,
        "--",
    ];
    let ended = kptrace(&[&options[..], &[path, "2", "50000"]].concat()).expect(0);
    let number = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    let sum = |begins: &str| -> u64 {
        let lines = ended.err.lines().filter(|line| line.starts_with(begins));
        lines.filter_map(number).sum()
    };
    let lost = ended.err.lines().filter_map(|line| {
        let events = line.strip_prefix("lost ")?.split(' ').next()?;
        events.parse::<u64>().ok()
    });
    let lost: u64 = lost.sum();
    assert_eq!(sum("@made: "), 100_000, "{}", ended.err);
    assert!(lost > 0 && sum("]: ") > 0, "{}", ended.err);
    assert_eq!(sum("]: ") + lost, 100_000, "{}", ended.err);
}

/// The addresses of each hit's stack, less those of the first hit's first frame.
fn stacks(program: &Path, options: &[&str]) -> Vec<Vec<(String, u64)>> {
    let path = program.to_str().expect("UTF-8");
    let line = [
        &["run", "-q", "--mem", "512M", "--format", "json", "-o", "-"],
        options,
        &["--", path],
    ];
    let text = kptrace(&line.concat()).expect(0).out;
    let frames = |hit: serde_json::Value| {
        let stack = hit["stack"].as_array().expect("a stack").clone();
        let frames = stack.into_iter().filter(|frame| frame["inlined"] != true);
        let frame = |frame: serde_json::Value| {
            let function = frame["function"].as_str().unwrap_or("?").to_owned();
            (function, frame["offset"].as_u64().unwrap_or(0))
        };
        frames.map(frame).collect()
    };
    json::hits(&text).into_iter().map(frames).collect()
}

#[test]
fn copies_that_are_too_short_end_early_and_are_right() {
    let program = build::c("deep")
        .flags(&["-O2", "-fomit-frame-pointer"])
        .build();
    let copied = |size| stacks(&program, &["--stack", "--stack-size", size, "-p", "hit"]);
    let (whole, short) = (copied("15360"), copied("512"));
    assert_eq!((whole.len(), short.len()), (500, 500));
    assert!(
        whole
            .iter()
            .all(|stack| stack.iter().any(|f| f.0 == "main"))
    );
    let begins = |(short, whole): (&Vec<_>, &Vec<_>)| whole.starts_with(short);
    assert!(short.iter().zip(&whole).all(begins));
    let cut = short.iter().zip(&whole).filter(|(s, w)| s.len() < w.len());
    assert!(cut.count() > 100);
    // What is shown is cut by its number, too.
    let few = stacks(&program, &["--stack=2", "-p", "hit"]);
    assert!(
        few.iter()
            .zip(&whole)
            .all(|(few, whole)| few[..] == whole[..2])
    );
}

#[test]
fn copied_stacks_have_the_callers_where_thunks_stand() {
    let program = build::c("deep")
        .flags(&["-O2", "-fomit-frame-pointer"])
        .build();
    let options = ["--stack", "--stack-size", "15360", "-p", "hit"];
    let plain = stacks(&program, &options);
    let returns = [
        "-p",
        "recursive%return",
        "-p",
        "large%return",
        "-p",
        "sorting%return",
    ];
    let all = stacks(&program, &[&options[..], &returns].concat());
    let probed = all.into_iter().filter(|stack| stack[0].0 == "hit");
    assert_eq!(probed.collect::<Vec<_>>(), plain);
}

/// A program of its own code alone.
const BARE: &str = "
static volatile int sink;
__attribute__((noinline)) void hit(int n) { sink += n; }
__attribute__((noinline)) int inner(int n) {
    volatile char room[100];
    for (int i = 0; i < 100; i++) { room[i] = n + i; sink += room[i] * n; }
    hit(n);
    return sink + room[n & 7];
}
__attribute__((noinline)) int outer(int n) {
    volatile char room[100];
    for (int i = 0; i < 100; i++) { room[i] = n - i; sink ^= room[i] + n; }
    return inner(n + 1) + room[n & 7];
}
__attribute__((noinline)) void run(void) {
    for (int i = 0; i < 3; i++) { sink += outer(i); sink -= i * sink; sink ^= i; sink += 3 * i; }
    for (;;) __asm__ volatile(\"syscall\" ::\"a\"(231), \"D\"(0) : \"rcx\", \"r11\", \"memory\");
}
__asm__(\".globl _start\\n_start: xor %ebp, %ebp\\n call run\\n hlt\");
";

#[test]
fn frame_pointers_are_followed_where_all_of_the_target_keeps_them() {
    let bare = |flag| {
        let flags = ["-nostdlib", "-static", "-fno-stack-protector", "-O1", flag];
        Source::new("cc", "c", "bare", BARE).flags(&flags).build()
    };
    // So little is copied that a walk by the copy ends at once.
    let names = |program: &Path, by: &[&str]| -> Vec<String> {
        let options = ["--stack", "--stack-size", "64", "-p", "hit"];
        let stacks = stacks(program, &[by, &options].concat());
        assert_eq!(stacks.len(), 3);
        stacks[0].iter().map(|frame| frame.0.clone()).collect()
    };
    let framed = bare("-fno-omit-frame-pointer");
    assert_eq!(names(&framed, &[])[..4], ["hit", "inner", "outer", "run"]);
    let copy = names(&framed, &["--stack-by", "copy"]);
    assert_eq!(copy, ["hit", "inner"]);
    let frameless = bare("-fomit-frame-pointer");
    assert_eq!(names(&frameless, &[]), ["hit", "inner"]);
}
