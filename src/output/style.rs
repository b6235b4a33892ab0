//! Colour: whether, and which. Decides from what it is given; reads neither environment nor
//! streams.

use std::ffi::OsString;

/// What `--color` said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// As the environment and the stream say.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How text is set off. The default is plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    on: bool,
}

impl Style {
    /// No colour.
    pub const PLAIN: Style = Style { on: false };
    /// Colour.
    pub const COLOR: Style = Style { on: true };

    /// Decides. `--color` beats the environment; `NO_COLOR` (not empty) beats `CLICOLOR_FORCE`
    /// (neither empty nor 0), which beats `TERM=dumb` and a stream that is no terminal
    /// (no-color.org, bixense.com/clicolors).
    pub fn decide(
        choice: ColorChoice,
        env: impl Fn(&str) -> Option<OsString>,
        is_terminal: bool,
    ) -> Style {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let on = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR").is_some() => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE").is_some_and(|v| v != "0") => true,
            ColorChoice::Auto => is_terminal && set("TERM").is_some_and(|term| term != "dumb"),
        };
        Style { on }
    }

    /// Unimportant: the time.
    pub(super) fn dim(self) -> &'static str {
        self.code("\x1b[2m")
    }

    /// What the eye looks for: the probe.
    pub(super) fn strong(self) -> &'static str {
        self.code("\x1b[1m")
    }

    /// What is well.
    pub(super) fn good(self) -> &'static str {
        self.code("\x1b[32m")
    }

    /// What is less than hoped for.
    pub(super) fn warn(self) -> &'static str {
        self.code("\x1b[33m")
    }

    /// Back to plain.
    pub(super) fn end(self) -> &'static str {
        self.code("\x1b[0m")
    }

    fn code(self, code: &'static str) -> &'static str {
        if self.on { code } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(choice: ColorChoice, env: &[(&str, &str)], terminal: bool) -> bool {
        let env = |name: &str| {
            let found = env.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Style::decide(choice, env, terminal).on
    }

    #[test]
    fn the_option_beats_the_environment_beats_the_stream() {
        use ColorChoice::{Always, Auto, Never};
        let xterm = ("TERM", "xterm");
        assert!(decide(Auto, &[xterm], true));
        assert!(!decide(Auto, &[xterm], false));
        assert!(!decide(Auto, &[("TERM", "dumb")], true));
        assert!(!decide(Auto, &[xterm, ("NO_COLOR", "1")], true));
        assert!(decide(Auto, &[xterm, ("NO_COLOR", "")], true));
        assert!(decide(Auto, &[("CLICOLOR_FORCE", "1")], false));
        assert!(!decide(Auto, &[("CLICOLOR_FORCE", "0")], false));
        assert!(decide(
            Always,
            &[("NO_COLOR", "1"), ("TERM", "dumb")],
            false
        ));
        assert!(!decide(Never, &[xterm, ("CLICOLOR_FORCE", "1")], true));
    }
}
