//! What a user must know at the end: how many sites were armed and became jumps, why the others
//! did not, every missed hit by cause, and the session's notes. Goes beside the trace, not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::escape::escaped;
use super::label;
use super::style::Style;
use crate::data::{Cost, Ends, Missed, ProbeSummary, SiteState, Summary};

/// How much to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `-q`: what went wrong only.
    Quiet,
    /// Counts and reasons.
    #[default]
    Normal,
    /// `-v`: each site that is no jump.
    Verbose,
}

/// Reasons named before the rest is only counted.
const MAX_REASONS: usize = 6;

/// Writes the report.
pub fn report(
    summary: &Summary,
    out: &mut dyn Write,
    style: Style,
    verbosity: Verbosity,
) -> io::Result<()> {
    if verbosity > Verbosity::Quiet {
        armed(summary, out, style, verbosity)?;
    }
    if verbosity > Verbosity::Quiet {
        calls(summary, out)?;
    }
    missed(summary, out, style)?;
    let Cost {
        text_bytes,
        pauses,
        longest_pause,
    } = summary.cost;
    if verbosity > Verbosity::Quiet && pauses > 0 {
        writeln!(
            out,
            "cost {} KiB of text copied, {}, the longest {:.1} ms",
            text_bytes / 1024,
            counted(usize::try_from(pauses).unwrap_or(usize::MAX), "pause"),
            longest_pause as f64 / 1e6,
        )?;
    }
    for note in &summary.notes {
        writeln!(
            out,
            "{}note:{} {}",
            style.warn(),
            style.end(),
            escaped(note)
        )?;
    }
    out.flush()
}

fn armed(
    summary: &Summary,
    out: &mut dyn Write,
    style: Style,
    verbosity: Verbosity,
) -> io::Result<()> {
    let all = verbosity == Verbosity::Verbose;
    let group = |states: &[SiteState]| Group::of(summary, states);
    write!(out, "armed {}", counted(summary.armed, "site"))?;
    if summary.processes.len() > 1 {
        write!(out, " in {} processes", summary.processes.len())?;
    }
    let mut separator = ": ";
    let mut part = |out: &mut dyn Write, text: String| {
        let done = write!(out, "{separator}{text}");
        separator = ", ";
        done
    };
    if summary.jump > 0 {
        let text = counted(summary.jump, "jump");
        part(out, format!("{}{text}{}", style.good(), style.end()))?;
    }
    if summary.trap > 0 {
        let traps = group(&[SiteState::Trap, SiteState::Queued]);
        let text = counted(summary.trap, "trap");
        let reasons = traps.reasons(all);
        part(
            out,
            format!("{}{text}{}{reasons}", style.warn(), style.end()),
        )?;
    }
    for state in [SiteState::Foreign, SiteState::Gone, SiteState::Disabled] {
        let group = group(&[state]);
        if group.total > 0 {
            let reasons = group.reasons(all);
            part(out, format!("{} {}{reasons}", group.total, state.name()))?;
        }
    }
    writeln!(out)?;
    for (state, word) in [
        (SiteState::Refused, "refused"),
        (SiteState::Pending, "pending"),
    ] {
        let group = group(&[state]);
        if group.total > 0 {
            let reasons = group.reasons(all);
            writeln!(
                out,
                "not armed: {}{} {word}{}{reasons}",
                style.warn(),
                group.total,
                style.end()
            )?;
        }
    }
    if all {
        for probe in &summary.probes {
            if let Some(reason) = &probe.reason
                && probe.state != SiteState::Jump
            {
                writeln!(
                    out,
                    "  {} {}: {}",
                    probe.state.name(),
                    label(&probe.info),
                    escaped(reason)
                )?;
            }
        }
    }
    Ok(())
}

fn missed(summary: &Summary, out: &mut dyn Write, style: Style) -> io::Result<()> {
    let mut sum = Missed::default();
    for probe in &summary.probes {
        sum.ring_full = sum.ring_full.saturating_add(probe.missed.ring_full);
        sum.abandoned = sum.abandoned.saturating_add(probe.missed.abandoned);
        sum.trap = sum.trap.saturating_add(probe.missed.trap);
        sum.untracked = sum.untracked.saturating_add(probe.missed.untracked);
        sum.crowded = sum.crowded.saturating_add(probe.missed.crowded);
        sum.runtime = sum.runtime.saturating_add(probe.missed.runtime);
    }
    if sum.total() == 0 {
        return Ok(());
    }
    let causes = [
        (sum.ring_full, "the ring was full"),
        (sum.abandoned, "the record was never finished"),
        (sum.trap, "a breakpoint was taken back as it was hit"),
        (
            sum.untracked,
            "the thread had no memory of its own to see the return",
        ),
        (
            sum.crowded,
            "too many calls of the thread were under way to see the return",
        ),
        (sum.runtime, "the return was to code that a runtime made"),
    ];
    let named: Vec<String> = causes
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, cause)| format!("{n} {cause}"))
        .collect();
    let plural = if sum.total() == 1 { "" } else { "s" };
    writeln!(
        out,
        "{}missed {} hit{plural}{}: {}",
        style.warn(),
        sum.total(),
        style.end(),
        named.join(", ")
    )?;
    if sum.crowded > 0 {
        writeln!(
            out,
            "help: --max-active sees more calls of one thread at a time"
        )?;
    }
    if sum.ring_full > 0 {
        writeln!(
            out,
            "help: more --mem makes the rings larger; -c records nothing"
        )?;
    }
    Ok(())
}

/// Calls that did not return, where returns are probed.
fn calls(summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let ends = |of: fn(&Ends) -> u64| {
        let each = summary.probes.iter().map(|probe| of(&probe.ends));
        each.fold(0, u64::saturating_add)
    };
    let kinds = [
        (ends(|ends| ends.tail), "in a tail call"),
        (ends(|ends| ends.unwound), "unwound"),
        (
            ends(|ends| ends.inside.unwrap_or(0)),
            "still inside at the end",
        ),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, how)| format!("{n} {how}"))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    writeln!(out, "calls that did not return: {}", kinds.join(", "))
}

/// A number and what is counted, in the plural unless it is one.
pub fn counted(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// Sites in one state, by reason.
struct Group {
    total: usize,
    reasons: BTreeMap<String, usize>,
}

impl Group {
    /// Counts sites, not probes: those at one address are one.
    fn of(summary: &Summary, states: &[SiteState]) -> Group {
        let mut seen = BTreeSet::new();
        let mut group = Group {
            total: 0,
            reasons: BTreeMap::new(),
        };
        let counts = |probe: &&ProbeSummary| states.contains(&probe.state);
        for probe in summary.probes.iter().filter(counts) {
            if probe
                .info
                .address
                .is_some_and(|address| !seen.insert(address))
            {
                continue;
            }
            group.total += 1;
            if let Some(reason) = &probe.reason {
                *group.reasons.entry(general(reason)).or_default() += 1;
            }
        }
        group
    }

    /// ` (2 branch into the window, 3 too short, no padding)`, most first.
    fn reasons(&self, all: bool) -> String {
        let mut sorted: Vec<_> = self.reasons.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let limit = if all { usize::MAX } else { MAX_REASONS };
        let rest: usize = sorted.iter().skip(limit).map(|(_, n)| **n).sum();
        let mut parts: Vec<String> = sorted
            .iter()
            .take(limit)
            .map(|(reason, n)| format!("{n} {}", escaped(reason)))
            .collect();
        if rest > 0 {
            parts.push(format!("{rest} for other reasons (-v lists them)"));
        }
        if parts.is_empty() {
            return String::new();
        }
        format!(" ({})", parts.join("; "))
    }
}

/// A reason without what is particular to one site: `branch from +0x4c into the window` becomes
/// `branch into the window`, `blocked by malloc+0x3` becomes `blocked by another probe`.
fn general(reason: &str) -> String {
    if reason.starts_with("blocked by ") {
        return "blocked by another probe".to_owned();
    }
    let mut words: Vec<&str> = Vec::new();
    for word in reason.split(' ') {
        if word.contains("0x") {
            while words
                .last()
                .is_some_and(|last| matches!(*last, "from" | "at" | "to" | "of" | "by"))
            {
                words.pop();
            }
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Addr, ProbeId};
    use crate::data::{ProbeInfo, ProbeKind};

    fn probe(address: u64, state: SiteState, reason: &str) -> ProbeSummary {
        ProbeSummary {
            info: ProbeInfo {
                id: ProbeId(0),
                name: format!("f{address}").into(),
                module: "m".into(),
                address: Some(Addr(address)),
                offset: None,
                args: Vec::new(),
                kind: ProbeKind::Entry,
            }
            .into(),
            state,
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            hits: Some(0),
            missed: Missed::default(),
            ends: Ends::default(),
        }
    }

    fn printed(summary: &Summary, verbosity: Verbosity) -> String {
        let mut bytes = Vec::new();
        report(summary, &mut bytes, Style::PLAIN, verbosity).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn five() -> Summary {
        let short = "too short, no padding";
        let mut probes = vec![
            probe(1, SiteState::Jump, ""),
            probe(2, SiteState::Trap, "branch from +0x4c into the window"),
            probe(3, SiteState::Trap, "branch from +0x5 into the window"),
            probe(4, SiteState::Trap, short),
            // An alias: the same site.
            probe(4, SiteState::Trap, short),
            probe(5, SiteState::Refused, "rseq critical section"),
        ];
        probes[1].missed.ring_full = 3;
        probes[2].missed.abandoned = 1;
        Summary {
            probes,
            armed: 4,
            jump: 1,
            trap: 3,
            notes: vec!["a\x1b[2J".into()],
            ..Summary::default()
        }
    }

    #[test]
    fn the_report_says_why_sites_are_no_jumps_and_what_was_missed() {
        assert_eq!(
            printed(&five(), Verbosity::Normal),
            "armed 4 sites: 1 jump, 3 traps (2 branch into the window; 1 too short, no padding)\n\
             not armed: 1 refused (1 rseq critical section)\n\
             missed 4 hits: 3 the ring was full, 1 the record was never finished\n\
             help: more --mem makes the rings larger; -c records nothing\n\
             note: a\\x1b[2J\n"
        );
    }

    #[test]
    fn quiet_keeps_what_went_wrong() {
        let text = printed(&five(), Verbosity::Quiet);
        assert!(
            text.starts_with("missed 4 hits: ") && text.contains("note: "),
            "{text}"
        );
        assert_eq!(printed(&Summary::default(), Verbosity::Quiet), "");
    }

    #[test]
    fn verbose_names_each_site() {
        let text = printed(&five(), Verbosity::Verbose);
        assert!(
            text.contains("\n  trap m:f2: branch from +0x4c into the window\n"),
            "{text}"
        );
    }

    #[test]
    fn many_reasons_are_cut() {
        let reasons = |n| probe(n, SiteState::Trap, &format!("reason {n}"));
        let summary = Summary {
            probes: (0..9).map(reasons).collect(),
            armed: 9,
            trap: 9,
            ..Summary::default()
        };
        let text = printed(&summary, Verbosity::Normal);
        assert!(
            text.contains("1 reason 5; 3 for other reasons (-v lists them))"),
            "{text}"
        );
    }

    #[test]
    fn nothing_armed_is_said_too() {
        assert_eq!(
            printed(&Summary::default(), Verbosity::Normal),
            "armed 0 sites\n"
        );
    }
}
