//! Habits of other tools, and what to type here instead: `-p PID`, `-f CMD`, `-c 'CMD'`, no probe.
//! Pure: sees the command line only.

use std::ffi::{OsStr, OsString};

use super::args::{Attach, Bt, Command, Format, Run, Trace};

/// Refuses a command line that is well formed and means nothing, with the line to type.
pub(super) fn check(command: &Command) -> Result<(), String> {
    match command {
        Command::Run(run) => check_run(run),
        Command::Attach(attach) => check_attach(attach),
        Command::Bt(bt) => check_bt(bt),
        Command::List(_)
        | Command::Check(_)
        | Command::Ctl(_)
        | Command::Top(_)
        | Command::Restore(_)
        | Command::Completions { .. }
        | Command::Man => Ok(()),
    }
}

fn check_run(run: &Run) -> Result<(), String> {
    if let Some(pid) = pid_probe(&run.trace).filter(|_| run.cmd.is_empty()) {
        return Err(format!(
            "error: no command, and -p names a probe here\n\
             help: to trace process {pid}: kptrace attach -c -p '*' {pid}"
        ));
    }
    let cmd = words(&run.cmd);
    if run.cmd.is_empty() {
        return Err(format!(
            "error: no command to run\nhelp: kptrace run{} -- CMD [ARG...]",
            probes(&run.trace)
        ));
    }
    check_trace(&run.trace)?;
    if !asks(&run.trace) {
        return Err(format!(
            "error: no probe\nhelp: to count every function: kptrace run -c -p '*' -- {cmd}"
        ));
    }
    Ok(())
}

fn check_attach(attach: &Attach) -> Result<(), String> {
    let pids = attach.pids.iter().map(|pid| pid.to_string());
    let names = attach
        .names
        .iter()
        .map(|name| format!("--name {}", word(OsStr::new(name))));
    let which = names.chain(pids).collect::<Vec<_>>().join(" ");
    if which.is_empty() {
        if let Some(pid) = pid_probe(&attach.trace) {
            return Err(format!(
                "error: no process, and -p names a probe here\n\
                 help: to trace process {pid}: kptrace attach -c -p '*' {pid}"
            ));
        }
        return Err(format!(
            "error: no process to attach to\nhelp: kptrace attach{} PID (or --name NAME)",
            probes(&attach.trace)
        ));
    }
    check_trace(&attach.trace)?;
    if !asks(&attach.trace) {
        return Err(format!(
            "error: no probe\nhelp: to count every function: kptrace attach -c -p '*' {which}"
        ));
    }
    Ok(())
}

fn check_bt(bt: &Bt) -> Result<(), String> {
    if let Some(pattern) = &bt.list {
        let pattern = pattern.as_deref().unwrap_or("*");
        let mut parts = pattern.splitn(3, ':');
        let (file, name) = match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(file), Some(name)) => (file, name),
            _ => ("BINARY", pattern),
        };
        let (file, name) = (word(OsStr::new(file)), word(OsStr::new(name)));
        return Err(format!(
            "error: -l: the functions of a program or a process are listed by: kptrace list {file} \
             {name}"
        ));
    }
    if !bt.include.is_empty() {
        return Err(
            "error: headers of C are not read\n\
             help: structures come from debug information, or stand in the program: struct s { int n; };"
                .to_owned(),
        );
    }
    if bt.programs.is_empty() && bt.words.is_empty() {
        return Err(
            "error: no program\nhelp: kptrace bt [-e PROGRAM | FILE.bt [ARG...]] (-c CMD | -p PID)"
                .to_owned(),
        );
    }
    if bt.debug == 0 && bt.cmd.is_none() && bt.pid.is_none() {
        return Err(
            "error: no process to trace: the whole system takes root and the kernel\n\
             help: -c CMD runs a command, -p PID traces a process"
                .to_owned(),
        );
    }
    Ok(())
}

/// Options that go together, or do not.
fn check_trace(trace: &Trace) -> Result<(), String> {
    let given = trace.format.into_iter();
    let also = || trace.also.iter().map(|(format, _)| *format);
    let calls = given.chain(also()).find(|format| format.is_made_of_calls());
    if let Some(format) = calls.filter(|_| trace.count) {
        let option = if trace.format == Some(format) {
            "--format "
        } else {
            "--also "
        };
        return Err(format!(
            "error: -c records nothing, and {option}{} is made of records\n\
             help: --format summary --call counts and times calls",
            format.name()
        ));
    }
    if trace.count && also().any(|format| format == Format::Text) {
        return Err("error: -c records nothing, and --also text is a line a hit".to_owned());
    }
    let times = trace.formats().any(|format| format == Format::Summary) && !trace.count;
    if trace.filters() && calls.is_none() && !times {
        return Err(
            "error: --depth, --min-duration and --filter are about calls\n\
             help: --format tree shows calls; folded, chrome and summary (without -c) are made of them"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether there is anything to do.
fn asks(trace: &Trace) -> bool {
    !trace.probes.is_empty() || trace.program.is_given()
}

/// The number, when the only probe is one: `-p` is a process elsewhere.
fn pid_probe(trace: &Trace) -> Option<&str> {
    match trace.probes.as_slice() {
        [only] if !only.is_empty() && only.bytes().all(|b| b.is_ascii_digit()) => Some(only),
        _ => None,
    }
}

/// The probes as they were given, or some.
fn probes(trace: &Trace) -> String {
    if trace.probes.is_empty() {
        return " -c -p '*'".to_owned();
    }
    let count = if trace.count { " -c" } else { "" };
    let given = trace
        .probes
        .iter()
        .map(|p| format!(" -p {}", word(OsStr::new(p))));
    format!("{count}{}", given.collect::<String>())
}

/// For a command that does not exist and holds spaces (`-c 'ls -l'`): the line to type.
pub fn command_line_in_one_word(run: &Run) -> Option<String> {
    match run.cmd.as_slice() {
        [only] => {
            let text = only
                .to_str()
                .filter(|t| t.trim().contains(char::is_whitespace))?;
            let given = probes(&run.trace);
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            Some(format!(
                "help: the command is not one word here: kptrace run{given} -- {}",
                text.trim()
            ))
        }
        _ => None,
    }
}

fn words(words: &[OsString]) -> String {
    let words: Vec<String> = words.iter().map(|w| word(w)).collect();
    words.join(" ")
}

/// A word as a shell takes it.
fn word(word: &OsStr) -> String {
    let text: String = word
        .to_string_lossy()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Refusal, parse};
    use super::*;

    fn parsed(line: &[&str]) -> Command {
        let words = std::iter::once("kptrace").chain(line.iter().copied());
        parse(words).unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn run(line: &[&str]) -> Run {
        match parsed(line) {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &[&str]) -> String {
        let words = std::iter::once("kptrace").chain(line.iter().copied());
        match parse(words).expect_err("refused") {
            Refusal::Clap(error) => error.to_string(),
            Refusal::Usage(text) => text,
        }
    }

    #[test]
    fn everything_after_the_command_is_the_commands() {
        let line = [
            "run", "-p", "malloc", "ls", "-c", "--format", "x", "-p", "y",
        ];
        let given = run(&line);
        assert_eq!(given.cmd, ["ls", "-c", "--format", "x", "-p", "y"]);
        assert_eq!(given.trace.probes, ["malloc"]);
        let given = run(&["run", "-cp", "malloc", "--", "-weird", "--", "a"]);
        assert_eq!(given.cmd, ["-weird", "--", "a"]);
        assert!(given.trace.count);
    }

    #[test]
    fn an_unknown_option_is_no_command() {
        let text = refused(&["run", "-p", "malloc", "--cuont", "ls"]);
        assert!(
            text.contains("--cuont") && text.contains("'--count'"),
            "{text}"
        );
    }

    #[test]
    fn options_have_their_defaults() {
        let Command::Attach(attach) = parsed(&["attach", "-p", "a", "-p", "b x=%di", "42"]) else {
            panic!("attach");
        };
        assert_eq!(attach.pids, [crate::base::Pid(42)]);
        assert_eq!(attach.trace.probes, ["a", "b x=%di"]);
        assert_eq!(
            (attach.trace.mem, attach.trace.trap_limit),
            (64 << 20, 20_000)
        );
        assert_eq!(attach.trace.format(), Format::Text);
        assert!(!attach.trace.count_only(false));
    }

    #[test]
    fn count_is_a_table_unless_json_is_asked_for() {
        let format = |more: &[&str]| {
            let line = [&["run", "-p", "f"], more, &["ls"]].concat();
            let trace = run(&line).trace;
            (trace.format(), trace.count_only(trace.calls()))
        };
        assert_eq!(format(&["-c"]), (Format::Summary, true));
        assert_eq!(format(&["-c", "--format", "json"]), (Format::Json, true));
        assert_eq!(format(&["--format", "json"]), (Format::Json, false));
        assert_eq!(format(&["--format", "summary"]), (Format::Summary, true));
        let times = ["--format", "summary", "--call"];
        assert_eq!(format(&times), (Format::Summary, false));
        assert_eq!(format(&["-c", "--call"]), (Format::Summary, true));
    }

    #[test]
    fn without_a_probe_the_line_to_type_is_named() {
        assert_eq!(
            refused(&["run", "ls", "-l", "a b"]),
            "error: no probe\nhelp: to count every function: kptrace run -c -p '*' -- ls -l 'a b'"
        );
        assert!(refused(&["attach", "42"]).ends_with("kptrace attach -c -p '*' 42"));
        let text = refused(&["attach", "--name", "a b", "42", "43"]);
        assert!(
            text.ends_with("kptrace attach -c -p '*' --name 'a b' 42 43"),
            "{text}"
        );
    }

    #[test]
    fn a_process_after_p_is_named() {
        for line in [["run", "-p", "1234"], ["attach", "-p", "1234"]] {
            let text = refused(&line);
            assert!(
                text.contains("to trace process 1234: kptrace attach -c -p '*' 1234"),
                "{text}"
            );
        }
    }

    #[test]
    fn habits_of_other_tools_are_understood() {
        let text = refused(&["attach", "-p", "f", "-c", "ls"]);
        assert!(
            text.contains("no process number") && text.contains("kptrace run"),
            "{text}"
        );
        let given = run(&["run", "-p", "f", "-c", "ls -l"]);
        let help = command_line_in_one_word(&given).unwrap();
        assert!(help.ends_with("kptrace run -c -p f -- ls -l"), "{help}");
    }

    #[test]
    fn formats_made_of_calls_probe_returns_and_are_not_counts() {
        for format in ["tree", "folded", "chrome"] {
            let given = run(&["run", "-p", "f", "--format", format, "-D", "2", "ls"]);
            assert!(given.trace.calls() && !given.trace.count_only(true));
            let text = refused(&["run", "-c", "-p", "f", "--format", format, "ls"]);
            assert!(text.contains("-c records nothing"), "{text}");
        }
        let given = run(&["run", "-p", "f", "--format", "tree", "--caller", "g", "ls"]);
        assert_eq!(given.trace.filter, ["g"]);
        for option in ["--depth=2", "--min-duration=1us", "--filter=f"] {
            let text = refused(&["run", "-p", "f", option, "ls"]);
            assert!(text.contains("are about calls"), "{text}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (option, value) in [
            ("--format", "trees"),
            ("--depth", "0"),
            ("--min-duration", "1h"),
            ("--duration", "0"),
            ("--mem", "1K"),
            ("--trap", "always"),
            ("--max-probes", "0"),
            ("--color", "red"),
        ] {
            let text = refused(&["run", "-p", "f", option, value, "ls"]);
            assert!(text.contains(option) && text.contains(value), "{text}");
        }
        assert!(refused(&["run", "-q", "-v", "-p", "f", "ls"]).contains("cannot be used with"));
    }
}
