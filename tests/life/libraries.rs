//! Libraries that are opened and closed, again and in namespaces of their own.

use super::support::*;

fn plugin() -> String {
    let text = "int calls; __attribute__((noinline)) int plugged(int n) { calls++; return n + 1; }\n\
                __attribute__((constructor)) static void opened(void) { plugged(1); }\n";
    let source = Source::new("cc", "c", "libplugin.so", text).flags(&["-shared", "-fPIC"]);
    source.build().to_str().expect("UTF-8").to_owned()
}

fn program(body: &str) -> String {
    let text = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
         #include <sys/mman.h>\n\
         static int (*find(void *l))(int) {{ return (int (*)(int))dlsym(l, \"plugged\"); }}\n\
         int main(int argc, char **argv) {{ (void)argc; {body} return 0; }}\n"
    );
    let source = Source::new("cc", "c", "opens", text).flags(&["-ldl"]);
    source.build().to_str().expect("UTF-8").to_owned()
}

fn count(program: &str, rounds: &str, more: &[&str]) -> serde_json::Value {
    let plugin = plugin();
    let mut line = vec![
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "libplugin.so:plugged",
    ];
    line.extend(more);
    line.extend(["--pending", "ignore", "--", program, &plugin, rounds]);
    let ended = kptrace(&line).expect(0);
    json::summary(&ended.err)
}

#[test]
fn a_library_that_comes_and_goes_is_one_probe_and_no_call_is_missed() {
    let program = program(
        "for (int i = 0; i < atoi(argv[2]); i++) { void *l = dlopen(argv[1], RTLD_NOW); \
         if (find(l)(1) != 2) return 1; dlclose(l); }",
    );
    for way in [&[][..], &["--no-opt"], &["-p", "libc:*"]] {
        let summary = count(&program, "1000", way);
        assert_eq!(json::count(&summary, "plugged"), 2000, "{way:?}");
        let plugged = json::probe(&summary, "plugged");
        assert_eq!(plugged["state"], "gone");
        assert_eq!(summary["notes"], serde_json::json!([]));
    }
}

#[test]
fn with_jumps_alone_a_library_is_armed_before_its_code_runs() {
    let program = program(
        "for (int i = 0; i < atoi(argv[2]); i++) { void *l = dlopen(argv[1], RTLD_NOW); \
         if (find(l)(1) != 2) return 1; dlclose(l); }",
    );
    for way in [&[][..], &["-p", "libc:*"], &["-p", "*:_dl_*"]] {
        let summary = count(&program, "30", &[&["--trap", "never"], way].concat());
        assert_eq!(json::count(&summary, "plugged"), 60, "{way:?}");
        assert_eq!(summary["notes"], serde_json::json!([]));
        assert_eq!(summary["trap"], 0, "{summary}");
    }
}

#[test]
fn a_library_that_comes_to_another_place_each_time_is_followed() {
    // What is left where it was keeps it from coming there again.
    let program = program(
        "for (int i = 0; i < atoi(argv[2]); i++) { void *l = dlopen(argv[1], RTLD_NOW); \
         char *at = (char *)((unsigned long)find(l) & ~4095UL); if (find(l)(1) != 2) return 1; \
         dlclose(l); if (mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) \
         != at) return 2; }",
    );
    let summary = count(&program, "100", &[]);
    assert_eq!(json::count(&summary, "plugged"), 200);
}

#[test]
fn the_same_library_in_several_namespaces_is_counted_in_each() {
    let program = program(
        "void *a = dlopen(argv[1], RTLD_NOW), *b = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW); \
         if (!a || !b || find(a) == find(b)) return 1; \
         for (int i = 0; i < atoi(argv[2]); i++) { find(a)(1); find(b)(1); }",
    );
    let summary = count(&program, "500", &[]);
    let probes = summary["probes"].as_array().expect("probes").iter();
    let hits: u64 = probes
        .map(|probe| probe["hits"].as_u64().expect("hits"))
        .sum();
    assert_eq!(hits, 2 + 2 * 500, "{summary}");
}

#[test]
fn a_probe_whose_library_never_came_is_named_at_the_end() {
    let line = [
        "run",
        "-c",
        "--format",
        "json",
        "-p",
        "libc:malloc",
        "-p",
        "libnever.so:f",
        "--",
        "true",
    ];
    let ended = kptrace(&line).expect(0);
    let summary = json::summary(&ended.err);
    let pending = json::probe(&summary, "f");
    assert_eq!(pending["state"], "pending");
    assert_eq!(pending["module"], "libnever.so");
    assert!(
        pending["reason"].to_string().contains("no such module"),
        "{pending}"
    );
    assert!(ended.err.contains("1 pending"), "{}", ended.err);
    let refused = |pending: &str| {
        let mut line = line.to_vec();
        line.splice(1..1, ["--pending", pending]);
        kptrace(&line)
    };
    let error = refused("error").expect(3);
    assert!(
        error.err.contains("libnever.so:f: no such module"),
        "{}",
        error.err
    );
    let ignored = refused("ignore").expect(0);
    assert!(!ignored.err.contains("libnever"), "{}", ignored.err);
}
