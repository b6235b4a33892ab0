//! Counts of own targets' calls are exact, however the target was built.

use super::support::*;

/// Every `NAME COUNT` that the target printed is what kptrace counted.
fn agree(ended: &Ended, summary: &serde_json::Value) {
    let own: Vec<(&str, u64)> = ended
        .out
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| !matches!(*name, "result" | "sum"))
        .map(|(name, count)| (name, count.parse().expect("a count")))
        .collect();
    assert_eq!(own.len(), 3, "{}", ended.out);
    for (name, calls) in own {
        assert!(calls > 0, "{name}");
        assert_eq!(json::count(summary, name), calls, "{name}");
    }
}

/// Builds with `flags`, traces with `options`; the summary.
fn exact(flags: &[&str], options: &[&str]) -> serde_json::Value {
    let flags = [&["-pthread", "-fno-optimize-sibling-calls"], flags].concat();
    let program = c("calls").flags(&flags).build();
    let program = program.to_str().expect("UTF-8");
    let untraced = start(command(program)).end().expect(7);
    let probes = ["fib", "in_thread", "twice", "never"].map(|name| ["-p", name]);
    let line = [
        &["run", "-c", "--format", "json"],
        options,
        probes.as_flattened(),
        &["--", program],
    ];
    let traced = kptrace(&line.concat()).expect(7);
    assert_eq!(traced.out, untraced.out);
    let summary = json::summary(&traced.err);
    agree(&traced, &summary);
    assert_eq!(json::count(&summary, "never"), 0);
    summary
}

#[test]
fn counts_are_exact_in_a_pie() {
    let summary = exact(&["-O2", "-pie", "-fPIE"], &[]);
    assert_eq!(summary["jump"], 4, "{summary}");
}

#[test]
fn counts_are_exact_in_a_position_dependent_program() {
    let summary = exact(&["-O2", "-no-pie", "-fno-pie"], &[]);
    assert_eq!(summary["jump"], 4, "{summary}");
}

#[test]
fn counts_are_exact_without_optimisation() {
    exact(&["-O0"], &[]);
}

#[test]
fn counts_are_exact_with_landing_pads_and_frame_pointers() {
    exact(
        &["-O2", "-fcf-protection=full", "-fno-omit-frame-pointer"],
        &[],
    );
}

#[test]
fn counts_are_exact_where_functions_have_no_padding() {
    exact(&["-Os", "-falign-functions=1"], &["--trap-limit", "0"]);
}

#[test]
fn counts_are_exact_without_frame_tables_and_with_a_stripped_debug_part() {
    exact(
        &[
            "-O2",
            "-fno-asynchronous-unwind-tables",
            "-Wl,--strip-debug",
        ],
        &[],
    );
}

#[test]
fn counts_are_exact_in_static_programs() {
    for flags in [["-O2", "-static"], ["-O2", "-static-pie"]] {
        let probe = c("calls").flags(&["-pthread", flags[0], flags[1]]);
        if probe.try_build().is_ok() {
            exact(&flags, &[]);
        }
    }
}

#[test]
fn breakpoints_and_jumps_count_the_same() {
    let jumps = exact(&["-O2"], &[]);
    let traps = exact(&["-O2"], &["--no-opt", "--trap-limit", "0"]);
    assert_eq!((&jumps["trap"], &traps["jump"]), (&0.into(), &0.into()));
    assert_eq!(traps["trap"], 4, "{traps}");
    for name in ["fib", "in_thread", "twice", "never"] {
        assert_eq!(json::count(&jumps, name), json::count(&traps, name));
    }
}

const CLASSES: &str = r#"
#include <cstdio>
#include <stdexcept>
#include <string>
namespace shop {
template <typename T> struct Box {
    T value;
    __attribute__((noinline)) T get(int times) const { asm volatile("" ::: "memory"); return value * times; }
};
__attribute__((noinline)) int price(int n, const char *) { asm volatile("" ::: "memory"); return n; }
__attribute__((noinline)) int price(double n) { asm volatile("" ::: "memory"); return (int)n; }
__attribute__((noinline)) int refuse(int n) { if (n % 2) throw std::runtime_error("odd"); return n; }
}
int main() {
    shop::Box<int> box{3};
    int sum = 0;
    for (int i = 0; i < 3; i++) sum += box.get(i);
    for (int i = 0; i < 4; i++) sum += shop::price(i, "x");
    for (int i = 0; i < 5; i++) sum += shop::price(i + 0.5);
    for (int i = 0; i < 6; i++) try { sum += shop::refuse(i); } catch (const std::exception &e) { sum += 100; }
    std::printf("%d\n", sum);
}
"#;

#[test]
fn cpp_names_match_demangled_and_mangled_and_exceptions_pass() {
    let source = build::Source::new("c++", "cc", "shop", CLASSES).flags(&["-O2"]);
    let Ok(program) = source.try_build() else {
        return;
    };
    let program = program.to_str().expect("UTF-8");
    for (probe, calls) in [
        ("shop::Box<int>::get", 3),
        ("'shop::Box<int>::get(int) const'", 3),
        ("\"shop::Box<int>::get(int) const\" n=%si:s32", 3),
        ("_ZNK4shop3BoxIiE3getEi", 3),
        ("\"shop::price(int, char const*)\"", 4),
        ("_ZN4shop5priceEd", 5),
        ("shop::price", 9),
        ("shop:shop::refuse", 6),
        ("/^shop::(price|refuse)/", 15),
        ("shop::*", 18),
    ] {
        let traced = kptrace(&["run", "-c", "--format", "json", "-p", probe, "--", program]);
        let summary = json::summary(&traced.expect(0).err);
        assert_eq!(summary["hits"], calls, "{probe}: {summary}");
    }
}
