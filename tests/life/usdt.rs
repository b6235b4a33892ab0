//! USDT probes: every place and every format of an argument, in programs and libraries whenever they
//! come, and semaphores, which are left as they were.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::support::{self, *};

fn target(flags: &[&str]) -> PathBuf {
    c("usdt").flags(&["-pthread"]).flags(flags).build()
}

fn library() -> String {
    let source = c("usdt_library").flags(&["-shared", "-fPIC"]);
    let path = source.named("libmall.so").build();
    path.to_str().expect("UTF-8").to_owned()
}

/// What became of a run.
struct Ran {
    /// What the program of the language printed.
    printed: String,
    /// What the target answered.
    answers: Vec<String>,
    summary: serde_json::Value,
}

impl Ran {
    /// The value that a map was printed with.
    fn map(&self, name: &str) -> serde_json::Value {
        let all = support::objects(&self.printed).into_iter();
        let mut found = all.filter_map(|object| object["data"].get(name).cloned());
        let last = found.next_back();
        last.unwrap_or_else(|| panic!("{name}: {}", self.printed))
    }

    fn text(&self) -> Vec<String> {
        let all = support::objects(&self.printed).into_iter();
        let text = all.filter(|object| object["type"] == "printf");
        text.map(|object| object["data"].as_str().expect("text").trim().to_owned())
            .collect()
    }
}

/// Runs a program of the language with the target, which is told `lines`. `TARGET` is its path.
fn run(target: &std::path::Path, program: &str, options: &[&str], lines: &str) -> Ran {
    let place = tempfile::tempdir().expect("a place");
    let file = place.path().join("printed");
    let mut line = command(launch::binary());
    line.args(["run", "-q", "--format", "json", "-o"])
        .arg(&file);
    line.args(options).arg("-e");
    line.arg(program.replace("TARGET", &target.to_string_lossy()));
    line.arg("--").arg(target).stdin(Stdio::piped());
    let mut running = start(line);
    running.write(lines);
    let ended = running.end().expect(0);
    let printed = std::fs::read_to_string(&file).expect("what was printed");
    let answers = ended.out.lines().map(str::to_owned).collect();
    let summary = json::summary(&printed);
    Ran {
        printed,
        answers,
        summary,
    }
}

const FORMATS: &str = r#"
    usdt:TARGET:shop:formats, usdt:TARGET:shop:wide, U:TARGET:stored {
        printf("%s %lld %lld %lld %lld\n", probe, arg0, arg1, arg2, arg3);
    }
    usdt:TARGET:written {
        printf("%d %d %d %d %lld %u %d %d %d %d\n",
            arg0, arg1, arg2, arg3, arg4, arg5, arg6, arg7, arg8, arg9);
    }
    usdt:TARGET:shop:sold { @sold[arg0, arg1] = count(); @places = count(); }
    usdt:TARGET:t?ck { @tick = count(); }
"#;

#[test]
fn every_place_has_its_own_arguments_in_every_format() {
    for flags in [&[][..], &["-no-pie", "-fno-pie"], &["-O2"], &["-O0"]] {
        let target = target(flags);
        let ran = run(&target, FORMATS, &[], "r\nv\nq\n");
        let path = target.display();
        let expected = [
            format!("usdt:{path}:shop:formats -1 255 -300 65535"),
            format!("usdt:{path}:shop:wide -70000 4000000000 -5000000000 -446744073709551616"),
            format!("usdt:{path}:shop:stored -5 65000 -22 33"),
            "52 -10 33 -22 -3 4294967295 2 -44 -22 -22".to_owned(),
        ];
        assert_eq!(ran.text(), expected, "{flags:?}");
        let sold = ran.map("@sold");
        let sold = sold.as_object().expect("a map");
        assert_eq!(sold.len(), 21, "{flags:?}: {sold:?}");
        assert_eq!(sold["-7,7000000000"], 10);
        for n in 0..10 {
            assert_eq!(sold[&format!("{n},{}", 100 + n)], 1, "{flags:?}");
            assert_eq!(sold[&format!("{},{}", 1000 + n, 50 + n)], 1, "{flags:?}");
        }
        assert_eq!(
            (ran.map("@places"), ran.map("@tick")),
            (30.into(), 10.into())
        );
        // Raised before its first instruction.
        assert_eq!(ran.answers, ["ready 1 0", "done 1 30", "done 1 30"]);
        assert_eq!(ran.summary["notes"], serde_json::json!([]));
    }
}

#[test]
fn a_pattern_is_every_probe_of_the_program_and_each_is_named() {
    let target = target(&[]);
    let program = "usdt:TARGET:* { @[probe] = count(); }";
    let ran = run(&target, program, &[], "r\nt\nv\nq\n");
    let path = target.display();
    let named = |name: &str| format!("usdt:{path}:shop:{name}");
    let expected = serde_json::json!({
        named("sold"): 150, named("tick"): 50, named("formats"): 1, named("wide"): 1,
        named("stored"): 1, named("written"): 1,
    });
    assert_eq!(ran.map("@"), expected);
}

#[test]
fn children_and_programs_that_begin_have_semaphores_of_their_own() {
    let target = target(&[]);
    let program = "usdt:TARGET:sold { @[pid] = count(); @all = count(); }";
    let ran = run(&target, program, &[], "f\nr\nx\nr\nq\n");
    let expected = [
        "ready 1 0",
        "child 1 30",
        "done 1 0",
        "done 1 30",
        "ready 1 0",
        "done 1 30",
    ];
    assert_eq!(ran.answers, expected);
    assert_eq!(ran.map("@all"), 90);
    // A child that is not followed is told that nobody watches it.
    let ran = run(&target, program, &["--no-follow"], "f\nr\nq\n");
    let expected = ["ready 1 0", "child 0 0", "done 1 0", "done 1 30"];
    assert_eq!(ran.answers, expected);
    assert_eq!(ran.map("@all"), 30);
}

const VISITS: &str = r#"
    usdt:LIBRARY:visit { @visit[arg0, arg1] = count(); }
    usdt:LIBRARY:mall:passed { @passed[arg0] = count(); }
"#;

#[test]
fn libraries_are_probed_whenever_they_come() {
    let library = library();
    let program = VISITS.replace("LIBRARY", &library);
    let opens = format!("o {library}\nc\no {library}\nq\n");
    let ran = run(&target(&[]), &program, &["--pending", "ignore"], &opens);
    assert_eq!(ran.answers[1], "visited 1 7", "{:?}", ran.answers);
    // Twice: its constructor, five visits, and one more.
    let expected = serde_json::json!({"77": 2, "0": 4, "1": 2, "2": 2, "3": 2, "4": 2});
    assert_eq!(ran.map("@passed"), expected);
    let expected =
        serde_json::json!({"77,1": 2, "0,2": 2, "1,3": 2, "2,4": 2, "3,5": 2, "4,6": 2, "0,7": 2});
    assert_eq!(ran.map("@visit"), expected);
    // One that is there from the start, by its name alone.
    let directory = library.strip_suffix("/libmall.so").expect("its directory");
    let rpath = format!("-Wl,-rpath,{directory}");
    let linked = target(&["-Wl,--no-as-needed", &library, &rpath]);
    let ran = run(&linked, &VISITS.replace("LIBRARY", "libmall"), &[], "q\n");
    assert_eq!(ran.map("@visit"), serde_json::json!({"77,1": 1}));
}

/// A target at work.
fn at_work() -> Running {
    let mut line = command(target(&[]));
    line.stdin(Stdio::piped());
    let mut target = start(line);
    target.out.wait_for("ready");
    target
}

fn attach(target: &Running, options: &[&str]) -> Running {
    let mut line = command(launch::binary());
    let path = self::target(&[]);
    line.args(["attach", "--format", "json"]).args(options);
    line.args([
        "-e",
        &format!("usdt:{}:sold {{ @ = count(); }}", path.display()),
    ]);
    line.arg(target.pid().to_string());
    let mut kptrace = start(line);
    kptrace.out.wait_for("attached_probes");
    kptrace
}

/// What it answers to a line, behind `who`.
fn ask(target: &mut Running, line: &str, who: &str) -> String {
    target.write(&format!("{line}\n"));
    let answer = target.out.wait_for(who);
    answer.trim().to_owned()
}

/// Lets go, and says what was counted.
fn counted(kptrace: Running) -> u64 {
    kptrace.signal(Signal::SIGINT);
    let ended = kptrace.end().expect(0);
    assert_eq!(json::summary(&ended.out)["notes"], serde_json::json!([]));
    let maps = json::of_type(&ended.out, "map");
    let last = maps.last().and_then(|map| map["data"]["@"].as_u64());
    last.unwrap_or(0)
}

#[test]
fn letting_go_lowers_a_semaphore_by_what_it_was_raised() {
    let mut target = at_work();
    for _ in 0..3 {
        let kptrace = attach(&target, &[]);
        let answer = ask(&mut target, "r", "done");
        assert!(answer.starts_with("done 1 "), "{answer}");
        assert_eq!(counted(kptrace), 30);
    }
    assert_eq!(ask(&mut target, "r", "done"), "done 0 90");
    // Somebody else watches, too.
    let kptrace = attach(&target, &["--follow"]);
    assert_eq!(ask(&mut target, "u", "done"), "done 2 90");
    assert_eq!(ask(&mut target, "f", "child"), "child 2 120");
    target.out.wait_for("done");
    assert_eq!(counted(kptrace), 30);
    assert_eq!(ask(&mut target, "r", "done"), "done 1 120");
    let kptrace = attach(&target, &["--no-follow"]);
    assert_eq!(ask(&mut target, "f", "child"), "child 1 150");
    target.out.wait_for("done");
    assert_eq!(ask(&mut target, "r", "done"), "done 2 150");
    assert_eq!(counted(kptrace), 30);
    assert_eq!(ask(&mut target, "r", "done"), "done 1 180");
    target.write("q\n");
    target.end().expect(0);
}

#[test]
fn a_semaphore_is_lowered_when_kptrace_is_killed() {
    let mut target = at_work();
    let kptrace = attach(&target, &[]);
    assert_eq!(ask(&mut target, "r", "done"), "done 1 30");
    kptrace.signal(Signal::SIGKILL);
    assert_eq!(kptrace.end().signal(), Some(9));
    // The guardian does it in its own time.
    let mut asked = 0;
    while !ask(&mut target, "-", "done").starts_with("done 0 ") {
        asked += 1;
        assert!(asked < 1_000_000, "it stays raised");
    }
    let before = ask(&mut target, "r", "done");
    assert_eq!(ask(&mut target, "r", "done"), before);
    target.write("q\n");
    target.end().expect(0);
}

#[test]
fn what_is_wrong_with_a_probe_is_said() {
    let target = target(&[]);
    let said = |program: &str, code: i32| {
        let program = program.replace("TARGET", &target.to_string_lossy());
        let mut line = command(launch::binary());
        line.args(["run", "-e", &program, "--"]).arg(&target);
        start(line).end().expect(code).err
    };
    for (program, code, part) in [
        (
            "U:TARGET:solt { @ = count(); }",
            3,
            "there is no such USDT probe in usdt; did you mean shop:sold?",
        ),
        (
            "U:TARGET:shopp:sold { @ = count(); }",
            3,
            "did you mean shop:sold?",
        ),
        (
            "U:TARGET:solt { @ = arg0; }",
            2,
            "there is no such USDT probe in usdt; did you mean shop:sold?",
        ),
        (
            "U:TARGET:sold { @ = arg2; }",
            2,
            "the probe has 2 arguments: -4@%",
        ),
        (
            "U:TARGET:* { @ = arg0; }",
            2,
            "(shop:tick) is not known: the probe has no arguments",
        ),
        (
            "U:TARGET:written { @ = arg10; }",
            2,
            "`8f@%xmm0` cannot be read: it is a floating-point number",
        ),
        (
            "U:libc:nothing { @ = count(); }",
            3,
            "there are no USDT probes in libc.so.6",
        ),
        (
            "U:libc:nothing { @ = arg0; }",
            2,
            "there are no USDT probes in libc.so.6",
        ),
        (
            "U:/nowhere/x:sold { @ = arg0; }",
            2,
            "its file is not found",
        ),
    ] {
        let error = said(program, code);
        assert!(error.contains(part), "{program}: {error}");
    }
}
