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

#[test]
fn branches_into_the_window_refuse_it_and_one_behind_it_does_not() {
    let entries = entries(&build(c("window_branches")), "at_*");
    for name in ["at_1", "at_2", "at_4"] {
        refused(&entries, name, "into the window");
    }
    accepted(&entries, "at_5");
}

#[test]
fn a_jump_table_that_leads_into_the_window_refuses_it() {
    for flags in [&[][..], &["-no-pie"]] {
        let entries = entries(&build(c("jump_tables").flags(flags)), "*");
        for name in ["offsets", "addresses"] {
            refused(&entries, name, "jump table or pointer leads to +0x2");
        }
    }
}

#[test]
fn a_label_whose_address_is_taken_refuses_the_window() {
    let entries = entries(&build(c("computed_goto")), "*");
    refused(&entries, "labelled", "jump table or pointer leads to +0x2");
    accepted(&entries, "threaded");
}

#[test]
fn a_branch_over_a_prefix_refuses_the_window_only_inside_it() {
    let entries = entries(&build(c("lock_prefix")), "*");
    refused(&entries, "inside", "into the window");
    accepted(&entries, "behind");
}

#[test]
fn padding_makes_short_functions_long_enough_and_neighbours_do_not() {
    let entries = entries(&build(c("short_functions")), "*");
    for name in ["padded_1", "padded_3", "padded_4"] {
        accepted(&entries, name);
    }
    for name in ["tight_1", "tight_2", "tight_3", "tight_4"] {
        refused(&entries, name, "too short, no padding");
    }
    for (name, distance) in [("apart_0", 1), ("apart_1", 2), ("apart_3", 3), ("apart_6", 4)] {
        let why = format!("another function starts at +0x{distance:x}");
        refused(&entries, name, &why);
    }
}

#[test]
fn a_jump_away_inside_the_window_refuses_it() {
    let entries = entries(&build(c("mid_window")), "jumps");
    refused(&entries, "jumps", "inside the window, code behind it");
}

#[test]
fn endbr_and_nops_and_calls_at_the_entry_take_a_jump() {
    let entries = entries(&build(c("entries").flags(&["-fcf-protection=full"])), "*");
    for name in ["nop5", "fentry", "patchable", "in_c", "tail"] {
        accepted(&entries, name);
    }
}
