//! Arguments show what was passed, in the type asked for, also where it cannot be read.

use std::path::PathBuf;

use super::support::*;
use serde_json::{Value, json};

fn program() -> PathBuf {
    c("arguments").build()
}

/// The program's own output and the trace, with these probes and options.
fn traced(options: &[&str], probes: &[&str]) -> Ended {
    let program = program();
    let mut line = vec!["run"];
    line.extend(options);
    for probe in probes {
        line.extend(["-p", probe]);
    }
    line.extend(["--", program.to_str().expect("UTF-8")]);
    let untraced = start(command(&program)).end().expect(0);
    let traced = kptrace(&line).expect(0);
    assert_eq!(traced.out, untraced.out);
    traced
}

/// What follows the probe's name in each line of text.
fn shown(probe: &str) -> Vec<String> {
    let traced = traced(&[], &[probe]);
    let name = probe.split(' ').next().expect("a name");
    let mark = format!(" arguments:{name} ");
    traced
        .err
        .lines()
        .filter_map(|line| line.split_once(&mark))
        .map(|(_, rest)| rest.to_owned())
        .collect()
}

fn args(probe: &str) -> Vec<Value> {
    let traced = traced(&["--format", "json"], &[probe]);
    let hits = json::hits(&traced.err).into_iter();
    hits.map(|hit| hit["args"].clone()).collect()
}

#[test]
fn integers_have_the_width_and_sign_of_their_type() {
    let probe = "numbers a=%di:s8 b=%sil:u8 c=%dx:s16 d=%cx:u32 e=%r8:s64 f=%r9:u64 \
                 g=$arg7:s32 h=$arg8:x64 again=$arg4:x32 plain=%cx:u8";
    assert_eq!(
        shown(probe),
        [
            "a=-1 b=255 c=-300 d=4000000000 e=-5000000000 f=18446744073709551615 \
             g=-7 h=0x8 again=0xee6b2800 plain=0"
        ]
    );
    let probe = probe.replace("h=$arg8:x64", "h=$arg8:x8 top=$stack1:s32");
    let [only] = &args(&probe)[..] else {
        panic!("one call");
    };
    assert_eq!(
        *only,
        json!({"a": -1, "b": 255, "c": -300, "d": 4_000_000_000_u64, "e": -5_000_000_000_i64,
            "f": "18446744073709551615", "g": -7, "h": 8, "top": -7, "again": 4_000_000_000_u64,
            "plain": 0})
    );
}

#[test]
fn a_register_without_a_type_is_hex() {
    assert_eq!(shown("numbers %r9"), ["r9=0xffffffffffffffff"]);
    assert_eq!(shown("numbers f=$arg6"), ["f=0xffffffffffffffff"]);
}

#[test]
fn characters_and_booleans_are_shown_as_such() {
    let probe = "small letter=%di:char yes=%si:bool colour=$arg3:u32";
    assert_eq!(
        shown(probe),
        [
            "letter='A' yes=true colour=5",
            r"letter='\x1b' yes=false colour=0"
        ]
    );
    assert_eq!(
        args(probe),
        [
            json!({"letter": "A", "yes": true, "colour": 5}),
            json!({"letter": "\u{1b}", "yes": false, "colour": 0})
        ]
    );
}

#[test]
fn bits_of_a_word_can_be_taken() {
    assert_eq!(
        shown("numbers low=%si:b4@0/8 high=%si:b4@4/8 d=%cx:b8@24/32"),
        ["low=15 high=15 d=238"]
    );
}

#[test]
fn names_and_types_come_from_debug_information() {
    assert_eq!(
        shown("numbers $args"),
        ["a=-1 b=255 c=-300 d=4000000000 e=-5000000000 f=18446744073709551615 g=-7 h=8"]
    );
    assert_eq!(
        shown("small $args"),
        [
            "letter='A' yes=true colour=5",
            r"letter='\x1b' yes=false colour=0"
        ]
    );
    assert_eq!(shown("numbers e h"), ["e=-5000000000 h=8"]);
    let program = program();
    let program = program.to_str().expect("UTF-8");
    let wrong = kptrace(&["run", "-p", "numbers nothing", "--", program]).expect(2);
    assert!(
        wrong.err.contains("a, b, c, d, e, f, g, h"),
        "{}",
        wrong.err
    );
}

#[test]
fn strings_end_where_they_end_and_long_ones_are_cut() {
    let strings = shown("text s=+0(%di):string");
    assert_eq!(strings.len(), 9, "{strings:?}");
    assert_eq!(strings[..3], [r#"s="plain""#, r#"s="""#, r#"s="at end.""#]);
    let long = &strings[6];
    assert!(long.ends_with("lll\"..."), "{long}");
    assert_eq!(strings[7], r#"s="tab\there\n\x1b[31m\xffé\"""#);
}

#[test]
fn a_pointer_that_cannot_be_read_says_which() {
    let strings = shown("text s=+0(%di):string");
    assert_eq!(strings[3..5], ["s=<fault 0x0>", "s=<fault 0x1234>"]);
    let page = strings[5].strip_prefix("s=<fault 0x").expect("a fault");
    assert!(page.ends_with("000>"), "the end of the page: {page}");
    assert_eq!(strings[8], "s=<fault 0x8000000000000000>");
    let members = "inside x=+0(%di):s32 name=+0(+8(%di)):string next=+0(+16(%di)):s32 last=%si";
    let inside = shown(members);
    assert!(
        inside[0].starts_with("x=1 name=\"first\" next=-2 last="),
        "{inside:?}"
    );
    assert!(inside[1].starts_with("x=3 name=<fault 0x8> next=<fault 0x10> last=0x"));
    assert!(inside[2].starts_with("x=<fault 0x0> name=<fault 0x8> next=<fault 0x10> last=0x"));
}

#[test]
fn json_has_faults_and_cuts_as_keys() {
    let traced = traced(&["--format", "json"], &["text s=+0(%di):string"]);
    let hits = json::hits(&traced.err);
    assert_eq!(hits[0]["args"], json!({"s": "plain"}));
    assert_eq!(hits[4]["args"], json!({"s": {"fault": "0x1234"}}));
    assert_eq!(hits[6]["truncated"], json!(["s"]));
    assert_eq!(
        hits[7]["args"],
        json!({"s": "tab\there\n\u{1b}[31m\u{fffd}é\""})
    );
    assert!(!traced.err.contains('\u{1b}'), "{}", traced.err);
}

#[test]
fn breakpoints_show_the_same_as_jumps() {
    let probes = [
        "numbers $args",
        "small $args",
        "text s=+0(%di):string",
        "inside x=+0(%di):s32 name=+0(+8(%di)):string",
    ];
    let without_time = |ended: Ended| -> Vec<String> {
        let lines = ended
            .err
            .lines()
            .filter(|line| line.contains(" arguments:"));
        // A string that runs into the end of a page names an address that differs each time.
        let lines = lines
            .filter(|line| !line.ends_with("000>") || line.ends_with("<fault 0x8000000000000000>"));
        let rest = lines.map(|line| line.split_once(" arguments:").expect("a hit").1.to_owned());
        rest.collect()
    };
    let jumps = without_time(traced(&[], &probes));
    let traps = without_time(traced(&["--no-opt"], &probes));
    assert_eq!(jumps, traps);
    assert_eq!(jumps.len(), 1 + 2 + 8 + 3);
}

#[test]
fn without_debug_information_registers_still_work() {
    let program = c("arguments").flags(&["-g0"]).build();
    let program = program.to_str().expect("UTF-8");
    let refused = kptrace(&["run", "-p", "numbers $args", "--", program]).expect(2);
    assert!(
        refused.err.contains("no debug information"),
        "{}",
        refused.err
    );
    let traced = kptrace(&["run", "-p", "numbers n=$arg4:u32", "--", program]).expect(0);
    assert!(
        traced.err.contains("arguments:numbers n=4000000000\n"),
        "{}",
        traced.err
    );
}
