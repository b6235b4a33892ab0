//! On a terminal: Ctrl-C is the target's, and colours are shown.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::*;

/// A command line on a terminal of its own, which script(1) makes.
fn on_terminal(line: &[&str]) -> Running {
    let words: Vec<String> = line
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    let mut script = command("script");
    // The shell gets the terminal's signals too, and must not answer for us.
    let line = format!("exec {}", words.join(" "));
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    script.env("TERM", "xterm").stdin(Stdio::piped());
    start(script)
}

fn run_steps(options: &[&str]) -> Running {
    let program = c("steps").flags(&["-O2"]).build();
    let program = program.to_str().expect("UTF-8").to_owned();
    let line = [&[launch::binary(), "run"], options, &["--", &program]].concat();
    let mut running = on_terminal(&line);
    running.out.wait_for("ready");
    running
}

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

pub fn interrupt() -> Result<(), String> {
    let mut running = run_steps(&["-p", "step n=%di:s32", "--color", "never"]);
    running.write(CTRL_C);
    running.out.wait_for("interrupt 1");
    running.write("\n");
    running.out.wait_for("steps:step n=1");
    running.write(CTRL_D);
    let ended = running.end().expect(7);
    assert!(ended.out.contains("armed 1 site"), "{}", ended.out);
    Ok(())
}

pub fn twice() -> Result<(), String> {
    let mut running = run_steps(&["-p", "step n=%di:s32", "--color", "never"]);
    running.write("\n");
    running.out.wait_for("steps:step n=1");
    // As a user does who sees that nothing happened: again, until it does.
    let begun = Instant::now();
    loop {
        running.write(CTRL_C);
        let pause = Duration::from_millis(100);
        if running.out.wait_within("armed 1 site", pause).is_some() {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{}", running.out.so_far());
    }
    running.write("\n");
    running.out.wait_for("step 2");
    running.write(CTRL_D);
    let ended = running.end().expect(7);
    assert!(!ended.out.contains("n=2"), "{}", ended.out);
    assert!(ended.out.contains("sum 10"), "{}", ended.out);
    Ok(())
}

pub fn killed() -> Result<(), String> {
    let program = c("flood").flags(&["-O2", "-pthread"]).build();
    let program = program.to_str().expect("UTF-8").to_owned();
    let line = [
        launch::binary(),
        "run",
        "-c",
        "-p",
        "hot",
        "--",
        &program,
        "1",
        "10",
    ];
    let mut running = on_terminal(&line);
    running.out.wait_for("made 10");
    running.write(CTRL_C);
    let ended = running.end();
    // script tells a signal as shells do.
    assert_eq!(
        ended.code(),
        128 + nix::sys::signal::Signal::SIGINT as i32,
        "{ended:?}"
    );
    assert!(ended.out.contains("armed 1 site"), "{}", ended.out);
    Ok(())
}

pub fn colours() -> Result<(), String> {
    let mut running = run_steps(&["-c", "-p", "step"]);
    running.write("\n");
    running.out.wait_for("step 1");
    running.write(CTRL_D);
    let ended = running.end().expect(7);
    assert!(
        ended.out.contains("\u{1b}[32m1 jump\u{1b}[0m"),
        "{:?}",
        ended.out
    );
    Ok(())
}
