//! What `list` says of windows that take a jump, and of those that must not.

use super::support::*;
use serde_json::Value;

fn entries(program: &str, pattern: &str) -> Vec<Value> {
    let listed = kptrace(&["list", "--json", program, pattern]).expect(0);
    objects(&listed.out)
}

fn verdict<'a>(entries: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let found = entries.iter().find(|entry| entry["name"] == name);
    let entry = found.unwrap_or_else(|| panic!("no {name} in {entries:?}"));
    let text = |key: &str| entry[key].as_str().unwrap_or("");
    (text("verdict"), text("reason"))
}

fn build(source: Source) -> String {
    source.build().to_str().expect("UTF-8").to_owned()
}

fn refused(entries: &[Value], name: &str, why: &str) {
    let (verdict, reason) = verdict(entries, name);
    assert_eq!(verdict, "trap", "{name}");
    assert!(reason.contains(why), "{name}: {reason}");
}

fn accepted(entries: &[Value], name: &str) {
    assert_eq!(verdict(entries, name), ("jump", ""), "{name}");
}

/// Five bytes cannot be displaced, two can.
fn springs(entries: &[Value], name: &str) {
    windows(entries, name, "springboard");
}

fn windows(entries: &[Value], name: &str, window: &str) {
    accepted(entries, name);
    let entry = entries.iter().find(|entry| entry["name"] == name);
    assert_eq!(entry.expect("it is there")["window"], window, "{name}");
}

#[test]
fn branches_into_the_window_leave_room_for_a_short_jump_or_none() {
    let entries = entries(&build(c("window_branches")), "at_*");
    refused(&entries, "at_1", "into the window");
    springs(&entries, "at_2");
    springs(&entries, "at_4");
    windows(&entries, "at_5", "plain");
}

#[test]
fn a_jump_table_that_leads_into_the_window_leaves_room_for_a_short_jump() {
    for flags in [&[][..], &["-no-pie"]] {
        let entries = entries(&build(c("jump_tables").flags(flags)), "*");
        for name in ["offsets", "addresses"] {
            springs(&entries, name);
        }
    }
}

#[test]
fn a_label_whose_address_is_taken_leaves_room_for_a_short_jump() {
    let entries = entries(&build(c("computed_goto")), "*");
    springs(&entries, "labelled");
    accepted(&entries, "threaded");
}

#[test]
fn a_branch_over_a_prefix_matters_only_inside_the_window() {
    let entries = entries(&build(c("lock_prefix")), "*");
    springs(&entries, "inside");
    windows(&entries, "behind", "plain");
}

#[test]
fn padding_makes_short_functions_long_enough_and_neighbours_do_not() {
    let entries = entries(&build(c("short_functions")), "*");
    for name in ["padded_1", "padded_3", "padded_4", "tight_end"] {
        windows(&entries, name, "padding");
    }
    for name in ["tight_2", "tight_3", "tight_4"] {
        springs(&entries, name);
    }
    for name in ["padded_2", "apart_1", "apart_3", "apart_6"] {
        springs(&entries, name);
    }
    refused(&entries, "tight_1", "too short, no padding");
    refused(&entries, "apart_0", "another function starts at +0x1");
}

#[test]
fn a_jump_away_inside_the_window_leaves_room_for_a_short_one() {
    let entries = entries(&build(c("mid_window")), "jumps");
    springs(&entries, "jumps");
}

#[test]
fn endbr_and_nops_and_calls_at_the_entry_take_a_jump() {
    let entries = entries(&build(c("entries").flags(&["-fcf-protection=full"])), "*");
    windows(&entries, "nop5", "nop");
    windows(&entries, "patchable", "nop");
    windows(&entries, "fentry", "plain");
    windows(&entries, "in_c", "plain");
    // What is behind it belongs to `patchable`.
    springs(&entries, "tail");
}

#[test]
fn padding_in_reach_makes_springboards_and_none_makes_none() {
    let entries = entries(&build(c("springboards").flags(&["-pthread"])), "*");
    let names = ["label_3", "pushes", "sums", "calls", "returns", "close_by"];
    for name in names {
        springs(&entries, name);
    }
    windows(&entries, "neighbour", "plain");
    refused(&entries, "walled", "branch from +0xa into the window");
    refused(&entries, "label_1", "branch from +0x9 into the window");
}

#[test]
fn no_ops_for_other_tools_are_used_where_they_are_and_never_as_padding() {
    for free in [false, true] {
        let flags: &[&str] = if free { &["-DNO_TABLES"] } else { &[] };
        let entries = entries(&build(c("sleds").flags(flags)), "*");
        for name in [
            "nop5",
            "nops",
            "endbr_nops",
            "endbr_sled",
            "patchable",
            "sled",
        ] {
            windows(&entries, name, "nop");
        }
        for name in ["wants_nops", "wants_sled"] {
            if free {
                springs(&entries, name);
            } else {
                refused(&entries, name, "branch from +0xa into the window");
            }
        }
    }
}

#[test]
fn a_restartable_sequence_that_the_file_names_is_kept_clear() {
    let text = "int sequence(int);\n__asm__(\".text\\n.globl sequence\\n.type sequence,@function\\n\
                sequence:\\npush %rbx\\n1: mov %edi,%eax\\nadd $1,%eax\\n2: pop %rbx\\nret\\n\
                .size sequence,.-sequence\\n.section __rseq_cs,\\\"aw\\\"\\n.balign 32\\n\
                .long 0,0\\n.quad 1b,2b-1b,2b\\n.previous\\n\");\n\
                int main(void) { return sequence(-1); }\n";
    for flags in [&[][..], &["-no-pie", "-fno-pie"]] {
        let program = build(Source::new("cc", "c", "sequence", text).flags(flags));
        refused(&entries(&program, "sequence"), "sequence", "pointer");
    }
}
