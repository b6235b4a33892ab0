//! Any text as a probe.

use kptrace::arch::native::regs;
use kptrace::spec::{self, Pattern, ProbeSpec};

/// The tree without what depends on how it was written.
fn bare(mut probe: ProbeSpec) -> ProbeSpec {
    probe.text.clear();
    probe.span = 0..0;
    probe.args.iter_mut().for_each(|arg| arg.span = 0..0);
    probe
}

/// Parses, prints, parses again, lowers; messages are made. True if it is a probe.
pub fn probe(text: &str) -> bool {
    if let Err(messages) = spec::parse_file("file", text) {
        assert!(messages.iter().all(|m| !m.to_string().is_empty()));
    }
    if let Ok((_, name)) = spec::parse_pattern(text)
        && let Ok(pattern) = Pattern::new(&name)
    {
        let _ = pattern.matches("malloc");
    }
    let Ok(probe) = spec::parse_probe(text) else {
        return false;
    };
    let register = |name: &str| regs::parse(name).map(|named| named.id);
    if let Ok(program) = spec::lower(&probe, &probe.args, true, &register) {
        assert_eq!(program.check(), Ok(()), "{text:?}");
    }
    let printed = probe.to_string();
    match spec::parse_probe(&printed) {
        Ok(again) => assert_eq!(bare(again), bare(probe), "{text:?} -> {printed:?}"),
        Err(error) => panic!("{text:?} -> {printed:?}: {error}"),
    }
    true
}
