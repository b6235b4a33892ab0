//! `completions/` holds what `kptrace completions` and `kptrace man` print. After a change of the
//! options: `KPTRACE_WRITE=1 cargo test --test generated`.

use std::path::Path;

use kptrace::cli::args::Shell;
use kptrace::cli::pages;

fn check(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("completions")
        .join(name);
    if std::env::var_os("KPTRACE_WRITE").is_some() {
        std::fs::write(&path, text).expect("completions/ can be written");
    }
    let stored = std::fs::read(&path).unwrap_or_default();
    assert!(
        stored == text,
        "completions/{name} is stale; KPTRACE_WRITE=1 cargo test --test generated writes it"
    );
}

#[test]
fn the_completions_are_those_of_the_options() {
    for (shell, name) in [
        (Shell::Bash, "kptrace.bash"),
        (Shell::Zsh, "_kptrace"),
        (Shell::Fish, "kptrace.fish"),
    ] {
        let mut text = Vec::new();
        pages::completions(shell, &mut text).unwrap();
        check(name, &text);
    }
}

#[test]
fn the_manual_page_is_that_of_the_options() {
    let mut text = Vec::new();
    pages::man(&mut text).unwrap();
    check("kptrace.1", &text);
}
