//! Probes at a function's entry and at the instructions behind it, in random subsets and orders:
//! every hit is counted, sites in each other's way are breakpoints and say so, the others jump, and
//! the program does not notice.
//!
//! `KPTRACE_SEED` sets the seed, which is printed, or is `random`; `KPTRACE_CASES` the number of runs.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed step of a test is a failed test"
)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use kptrace::arch::native::relocate::instruction_len;
use kptrace::base::LinkAddr;
use kptrace::session::Module;
use support::{Ended, Rng, Source};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

const FUNCTIONS: usize = 24;
/// What functions are made of. Every instruction runs once in a call, whatever branches do.
const PIECES: [&str; 22] = [
    "nop",
    "inc %eax",
    "add $3, %eax",
    "xor $0x1234567, %eax",
    "imul $0x1010101, %eax, %eax",
    "lea 7(%rax,%rdi,4), %eax",
    "mov %rax, %rcx",
    "add seed(%rip), %eax",
    "lea seed(%rip), %rdx",
    "push %rbx; pop %rbx",
    "push %r12; mov %eax, %r12d; pop %r12",
    "movabs $0x123456789abcdef, %rdx",
    "endbr64",
    "nopl 0(%rax,%rax,1)",
    "nopw %cs:0(%rax,%rax,1)",
    "call leaf",
    "call *leaf_at(%rip)",
    "jmp 9f; 9:",
    "jz 9f; 9:",
    "jmp 9f; .p2align 4; 9:",
    "xor %ecx, %ecx; jrcxz 9f; 9:",
    "adc $0, %eax; lahf; movzbl %ah, %esi; add %esi, %eax",
];

/// A program that calls each function some times, and the numbers of calls.
fn program(rng: &mut Rng) -> (Source, Vec<u64>) {
    let mut asm = String::from(
        ".data\nseed: .long 77\nleaf_at: .quad leaf\n.text\n\
         .type leaf, @function\nleaf: add $1, %eax\nret\n.size leaf, . - leaf\n",
    );
    let (mut calls, mut main) = (Vec::new(), String::new());
    for f in 0..FUNCTIONS {
        let align = [0, 4, 4][rng.below(3)];
        writeln!(
            asm,
            ".p2align {align}\n.globl f{f}\n.type f{f}, @function\nf{f}:"
        )
        .unwrap();
        for _ in 0..rng.below(9) {
            writeln!(asm, "{}", PIECES[rng.below(PIECES.len())]).unwrap();
        }
        writeln!(asm, "ret\n.size f{f}, . - f{f}").unwrap();
        let count = 1 + rng.below(9) as u64;
        writeln!(
            main,
            "for (unsigned i = 0; i < {count}; i++) sum = CALL(f{f}, sum, i);"
        )
        .unwrap();
        calls.push(count);
    }
    let asm: String = asm
        .split('\n')
        .fold(String::new(), |text, line| text + "\"" + line + "\\n\"\n");
    // Registers and flags are as they were at each call, whatever the compiler does.
    let text = format!(
        "#include <stdio.h>\n__asm__({asm});\n\
         #define CALL(f, a, b) ({{ unsigned out; __asm__ volatile(\
         \"sub $128, %%rsp; test %%eax, %%eax; call \" #f \"; add $128, %%rsp\"\
         : \"=a\"(out) : \"a\"(a), \"D\"(b) : \"rcx\", \"rdx\", \"rsi\", \"cc\", \"memory\"); out; }})\n\
         int main(void) {{\nunsigned sum = 0;\n{main}\nprintf(\"sum %u\\n\", sum);\n\
         return (int)(sum & 63);\n}}\n"
    );
    (Source::new("cc", "c", "collisions", text), calls)
}

/// One probed instruction.
struct Site {
    name: String,
    addr: u64,
    hits: u64,
    /// Bytes that its jump concerns, or why it has none.
    window: Result<u64, String>,
}

impl Site {
    fn collides(&self, other: &Site) -> bool {
        let end = |site: &Site| site.addr + site.window.as_ref().map_or(1, |&len| len);
        self.addr < end(other) && other.addr < end(self)
    }
}

/// Every instruction of every function before its return, as far as control comes to it.
fn sites(module: &Module, calls: &[u64]) -> Vec<Site> {
    let symbols = module.symbols();
    let starts: HashMap<&str, (LinkAddr, u64)> = symbols
        .entries()
        .iter()
        .map(|entry| (symbols.name(entry), (entry.at, entry.size)))
        .collect();
    module.with_text(|text| {
        let mut sites = Vec::new();
        for (f, &hits) in calls.iter().enumerate() {
            let (start, size) = starts[format!("f{f}").as_str()];
            let bytes = module.image().bytes_at(start, size as usize).unwrap();
            let mut offset = 0;
            while offset < bytes.len() {
                let len = instruction_len(&bytes[offset..]).unwrap();
                let addr = start.0 + offset as u64;
                let name = match offset {
                    0 => format!("f{f}"),
                    _ => format!("f{f}+{offset:#x}"),
                };
                // Only entries go through padding.
                let entry = module.file(None).at(LinkAddr(addr));
                let window = entry.map_or_else(|| text.window_at(addr), |entry| entry.verdict);
                let window = window.map(|w| u64::from(w.patched().max(w.len)));
                sites.push(Site {
                    name,
                    addr,
                    hits,
                    window: window.map_err(|refusal| refusal.to_string()),
                });
                // What fills the gap behind a jump to an aligned place is not run.
                let short_jump = bytes[offset] == 0xeb;
                offset += len;
                if short_jump {
                    offset += usize::from(bytes[offset - 1]);
                }
            }
        }
        sites
    })
}

fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below(last + 1));
    }
}

fn run(program: &str, sites: &[Site], no_opt: bool) -> Ended {
    let mut args = vec![
        "run".to_owned(),
        "--format=json".to_owned(),
        "-c".to_owned(),
    ];
    if no_opt {
        args.push("--no-opt".to_owned());
    }
    for site in sites {
        args.extend(["-p".to_owned(), site.name.clone()]);
    }
    args.extend(["--".to_owned(), program.to_owned()]);
    support::kptrace(&args)
}

/// Holds a summary against the rules.
fn judge(sites: &[Site], ended: &Ended, no_opt: bool, seen: &mut BTreeMap<&'static str, u64>) {
    let summary = support::summary(&ended.err);
    assert_eq!(summary["probes"].as_array().unwrap().len(), sites.len());
    for site in sites {
        let found = support::probe(&summary, &site.name);
        assert_eq!(found["hits"], site.hits, "{found}");
        let (state, reason) = (&found["state"], found["reason"].as_str());
        let blockers: Vec<String> = sites
            .iter()
            .filter(|other| other.addr != site.addr && other.collides(site))
            .map(|other| format!("blocked by collisions:{}", other.name))
            .collect();
        let mut count = |what| *seen.entry(what).or_default() += 1;
        match &site.window {
            _ if no_opt => assert_eq!(state, "trap", "{found}"),
            Err(why) => {
                count("refused");
                assert_eq!(state, "trap", "{found}");
                assert_eq!(reason, Some(why.as_str()), "{found}");
            }
            Ok(_) if blockers.is_empty() => {
                count("jump");
                assert_eq!(state, "jump", "{found}");
                assert_eq!(reason, None, "{found}");
            }
            Ok(_) => {
                count("blocked");
                assert_eq!(state, "trap", "{found}");
                let named = blockers.iter().any(|b| reason == Some(b.as_str()));
                assert!(named, "{found} is not {blockers:?}");
            }
        }
    }
}

#[test]
fn every_hit_is_counted_and_sites_in_each_others_way_say_so() {
    let mut rng = Rng::seeded(0x6b70_7472_6163_6500);
    let mut seen = BTreeMap::new();
    for case in 0..number("KPTRACE_CASES").unwrap_or(6) {
        let (source, calls) = program(&mut rng);
        let path = source.build();
        let alone = support::start(support::command(&path)).end();
        let module = Module::of_file(&path).unwrap();
        let mut all = sites(&module, &calls);
        shuffle(&mut rng, &mut all);
        // Few sites seldom collide, many always do.
        all.truncate([15, 40, 90][rng.below(3)]);
        let no_opt = case % 3 == 2;
        let ended = run(path.to_str().unwrap(), &all, no_opt);
        assert_eq!(ended.out, alone.out, "{}", ended.err);
        assert_eq!(ended.status.code(), alone.status.code(), "{}", ended.err);
        judge(&all, &ended, no_opt, &mut seen);
    }
    println!("{seen:?}");
    for what in ["jump", "blocked", "refused"] {
        assert!(seen.get(what).is_some_and(|&n| n > 0), "{what}: {seen:?}");
    }
}
