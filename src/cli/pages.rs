//! Completions and the manual page, made from the arguments themselves. `completions/` holds what
//! they print; a test keeps it so.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{Cli, Shell};
use super::texts::PROBES;

/// Writes the completions of a shell.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // The generator panics where it cannot write: give it memory.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kptrace", &mut text);
    out.write_all(&text)
}

/// Writes kptrace(1), with all subcommands on one page.
pub fn man(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = Man::new(command.clone()).title("KPTRACE");
    page.render_title(out)?;
    page.render_name_section(out)?;
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    for line in [
        "run [OPTIONS] [-p PROBE]... [-e PROGRAM]... [-f FILE]... [--] CMD [ARG...]",
        "attach [OPTIONS] [-p PROBE]... [-e PROGRAM]... [-f FILE]... [--name NAME]... [PID...]",
        "list [OPTIONS] BINARY|PID [PATTERN]",
        "check [OPTIONS] BINARY|PID PROBE...",
        "check [OPTIONS] [-e PROGRAM]... [-f FILE]... [BINARY|PID [PROBE...]]",
        "ctl PID list [--json] | on | off | opt on|off | detach",
        "ctl PID enable PROBE | disable PROBE | add PROBE | remove PROBE",
        "bt [OPTIONS] [-e PROGRAM | FILE [ARG...]] (-c CMD | -p PID)",
        "top [-d SECS] PID",
        "restore [-q] PID",
        "completions SHELL",
        "man",
    ] {
        synopsis.text([bold("kptrace"), roman(" "), roman(line)]);
        synopsis.control("br", []);
    }
    synopsis.to_writer(out)?;
    page.render_description_section(out)?;
    for sub in command.get_subcommands() {
        if matches!(sub.get_name(), "help" | "completions" | "man") {
            continue;
        }
        let mut options = Vec::new();
        Man::new(sub.clone()).render_options_section(&mut options)?;
        let heading = format!(".SH \"{}\"", sub.get_name().to_uppercase());
        let text = String::from_utf8_lossy(&options).replacen(".SH OPTIONS", &heading, 1);
        out.write_all(text.as_bytes())?;
    }
    verbatim("PROBES", PROBES, out)?;
    verbatim("EXAMPLES AND EXIT STATUS", super::texts::EXAMPLES, out)
}

fn verbatim(heading: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", [heading]);
    section.control("nf", []);
    section.text(
        text.split('\n')
            .map(|line| roman(format!("{line}\n")))
            .collect::<Vec<_>>(),
    );
    section.control("fi", []);
    section.to_writer(out)
}
