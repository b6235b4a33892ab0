//! Any text as a program of the probe language, through every pass: tokens, tree, macros, types, IR,
//! code. What is wrong with a program is found by the checker, in the text's own words: a pass behind
//! it that meets what it does not know is a fault.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kptrace::abi::{Activations, Layout};
use kptrace::arch::x86_64::emit::{Environment, Template};
use kptrace::language::{Source, Warning, compile};
use kptrace::session::lowered;

#[path = "../language/fake.rs"]
mod fake;

/// What the passes behind the checker may say of a program that it has passed: limits, and what is
/// not there yet.
const SAID_LATER: [&str; 12] = [
    "its variables and strings take more than ",
    "it is too long",
    "blocks are nested too deep",
    "there is no register `",
    "there is no stack of the target here",
    "strcontains is not compiled yet",
    "return values are not there before return probes are",
    " fit a record",
    "it prints in more than ",
    " is no argument that can be read",
    "histograms have no values to go over",
    "a record of ",
];

/// Where a target might have its memory.
fn environment(tables: u32, scratch: u32, largest: u32) -> Environment {
    Environment {
        shared_block: 0x1000_0000,
        alive: 0x0fff_f000,
        layout: Layout {
            probes: 8,
            ring_size: Layout::smallest_ring(largest),
            largest,
            blocks: 2,
            tables: tables.next_multiple_of(64),
            scratch: scratch.next_multiple_of(64),
            returns: true,
        },
        own_blocks: true,
        loads: true,
        maps: 0x0800_0000,
        activations: Some(Activations {
            thunks: 0x0400_0000,
            words: 0x0200_0000,
            pools: 1,
            pool_size: 1 << 16,
            unwind: 0x0100_0000,
        }),
    }
}

/// What a text came to.
pub struct Outcome {
    /// Whether it is a program.
    pub compiled: bool,
    /// What was seen on the way, by numbers: kinds of messages, of nodes, of operations.
    pub seen: HashSet<u64>,
}

impl Outcome {
    /// A line, but for what stands in backticks and for numbers.
    fn see(&mut self, line: &str) {
        let mut hasher = DefaultHasher::new();
        for part in line.split('`').step_by(2) {
            let letters = part.bytes().filter(|b| !b.is_ascii_digit());
            letters.for_each(|b| b.hash(&mut hasher));
        }
        self.seen.insert(hasher.finish());
    }
}

/// Compiles it; messages, the tree, the IR and the code are made.
pub fn program(text: &str) -> Outcome {
    let source = Source::new("file", text);
    let parameters = ["1".to_owned(), "text".to_owned()];
    let mut outcome = Outcome {
        compiled: false,
        seen: HashSet::new(),
    };
    match compile(&source, &parameters, true, &fake::Fake) {
        Ok((checked, warnings)) => {
            assert!(warnings.iter().all(|w| !Warning(w).to_string().is_empty()));
            warnings.iter().for_each(|w| outcome.see(&w.message));
            assert!(
                !checked.blocks.is_empty() || text.contains("missing_probes"),
                "{text:?}"
            );
            for line in checked.to_string().lines() {
                outcome.see(line);
            }
            outcome.compiled = true;
            match lowered(&checked) {
                Ok(lowered) => {
                    let memory = lowered.memory;
                    for program in &lowered.blocks {
                        assert_eq!(program.check(), Ok(()), "{text:?}");
                        for line in program.to_string().lines() {
                            outcome.see(line);
                        }
                        let largest = program.largest_record();
                        let environment = environment(memory.thread, memory.scratch, largest);
                        let all = [program.clone()];
                        if let Err(why) = Template::new(&all, &environment, true, None) {
                            panic!("no code: {why:?}: {text:?}");
                        }
                    }
                }
                Err(wrong) => {
                    for why in wrong {
                        let said = SAID_LATER.iter().any(|said| why.message.contains(said));
                        assert!(said, "{}: {text:?}", why.message);
                        outcome.see(&why.message);
                        let shown = source.diagnostic(&why.span, why.message).to_string();
                        assert!(!shown.is_empty());
                    }
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= 50, "{text:?}");
            for error in errors {
                outcome.see(&error.message);
                assert!(!error.to_string().is_empty());
            }
        }
    }
    outcome
}
