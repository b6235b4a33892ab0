//! `KPTRACE_OPTIONS`: options and probes for `run` and `attach` from the environment, as a shell
//! would read them. They stand before those of the command line, which therefore win.

use std::ffi::OsString;

use clap::Parser as _;

use super::args::{Cli, Command};

/// The variable.
const NAME: &str = "KPTRACE_OPTIONS";

/// The command line with the environment's words in their place.
///
/// # Errors
/// What is wrong with the variable.
pub fn with_environment(
    args: impl Iterator<Item = OsString>,
    variable: Option<OsString>,
) -> Result<Vec<OsString>, String> {
    let mut args: Vec<OsString> = args.collect();
    let traces = args
        .get(1)
        .is_some_and(|word| word == "run" || word == "attach");
    let Some(text) = variable.filter(|text| traces && !text.is_empty()) else {
        return Ok(args);
    };
    let Some(text) = text.to_str() else {
        return Err(format!("{NAME} is not UTF-8"));
    };
    let Some(words) = shlex::split(text) else {
        return Err(format!("{NAME}: a quote is not closed: {text}"));
    };
    // A command there would swallow the options of the command line.
    let is_option = |word: &String| word.starts_with('-') && word.len() > 1 && word != "--";
    if let Some(first) = words.first().filter(|first| !is_option(first)) {
        return Err(format!(
            "{NAME} holds options and probes, as in KPTRACE_OPTIONS=\"-c -p 'libc:*'\"; {first} is \
             neither"
        ));
    }
    if words.iter().any(|word| word == "--") {
        return Err(format!(
            "{NAME} holds options and probes, no command: -- is not for it"
        ));
    }
    let alone = args.iter().take(2).cloned();
    let alone = alone.chain(words.iter().map(OsString::from));
    let command = match Cli::try_parse_from(alone).map(|cli| cli.command) {
        Ok(Command::Run(run)) => run
            .cmd
            .first()
            .map(|word| word.to_string_lossy().into_owned()),
        Ok(Command::Attach(attach)) => attach.pids.first().map(|pid| pid.to_string()),
        // What is wrong with an option is told with the whole line.
        _ => None,
    };
    if let Some(word) = command {
        return Err(format!(
            "{NAME} holds options and probes, no command and no process: {word} is not for it"
        ));
    }
    args.splice(2..2, words.into_iter().map(OsString::from));
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &[&str], variable: &str) -> Result<Vec<String>, String> {
        let args = line.iter().map(OsString::from);
        let result = with_environment(args, Some(variable.into()));
        result.map(|args| args.into_iter().map(|a| a.into_string().unwrap()).collect())
    }

    #[test]
    fn words_stand_before_those_of_the_command_line() {
        let line = ["kptrace", "run", "-q", "--", "ls"];
        assert_eq!(
            with(&line, "-c -p 'libc:* x=%di'").unwrap(),
            [
                "kptrace",
                "run",
                "-c",
                "-p",
                "libc:* x=%di",
                "-q",
                "--",
                "ls"
            ]
        );
    }

    #[test]
    fn other_commands_are_left_alone() {
        let line = ["kptrace", "list", "/bin/ls"];
        assert_eq!(with(&line, "-c 'unclosed").unwrap(), line);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let line = ["kptrace", "run", "ls"];
        for (text, part) in [
            ("-p 'a", "quote"),
            ("ls -l", "ls is neither"),
            ("-c -- ls", "no command"),
            ("-c -p malloc ls -l", "ls is not for it"),
        ] {
            let error = with(&line, text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
