//! Any text as a program of the probe language.

use kptrace::language::debug::Nothing;
use kptrace::language::{Source, Warning, compile};

/// Compiles it; messages and the tree are made. True if it is a program.
pub fn program(text: &str) -> bool {
    let source = Source::new("file", text);
    let parameters = ["1".to_owned(), "text".to_owned()];
    match compile(&source, &parameters, true, &Nothing) {
        Ok((checked, warnings)) => {
            assert!(warnings.iter().all(|w| !Warning(w).to_string().is_empty()));
            assert!(
                !checked.blocks.is_empty() || text.contains("missing_probes"),
                "{text:?}"
            );
            let _ = checked.to_string();
            true
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.len() <= 50, "{text:?}");
            assert!(errors.iter().all(|e| !e.to_string().is_empty()));
            false
        }
    }
}
