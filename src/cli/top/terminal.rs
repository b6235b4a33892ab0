//! The terminal while `top` has it: another screen, no echo, keys as they are pressed; and as it was
//! afterwards, however `top` ends.
//!
//! Invariant: whoever changes the terminal is a [`Screen`]; when it is dropped, or the program panics,
//! the terminal is as it was.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::{Position, Rect};

use super::draw::{Look, draw};
use super::table::Table;

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Screen> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err(io::Error::other("top needs a terminal"));
        }
        enter()?;
        match Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout()))) {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws what has changed; a terminal that can shows it in one piece.
    pub(super) fn draw(&mut self, table: &mut Table, look: Look) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.draw(|frame| draw(frame, table, look))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// Draws everything anew next time.
    pub(super) fn repaint(&mut self) -> io::Result<()> {
        // `clear` asks the terminal where the cursor is, and keys are read elsewhere.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives the terminal back while `other` runs.
    pub(super) fn without(&mut self, other: impl FnOnce()) -> io::Result<()> {
        leave();
        other();
        enter()?;
        self.repaint()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let entered = execute!(io::stdout(), EnterAlternateScreen, Hide);
    if entered.is_err() {
        leave();
    }
    entered
}

/// Gives the terminal back, once. If it is gone there is nothing to be done.
fn leave() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = execute!(out, EndSynchronizedUpdate, LeaveAlternateScreen, Show);
        let _ = out.flush();
        let _ = disable_raw_mode();
    }
}

/// From here on a panic gives the terminal back before it says anything.
pub(super) fn leave_at_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        leave();
        before(panic);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set where the test runs itself on a terminal.
    const ITSELF: &str = "KPTRACE_TOP_ITSELF";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_anything() {
        if std::env::var_os(ITSELF).is_some() {
            leave_at_panic();
            let mut screen = Screen::take().unwrap();
            let look = Look { colours: false };
            screen.draw(&mut Table::new(), look).unwrap();
            panic!("on purpose");
        }
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!("no script(1) here: not tested");
            return;
        }
        let own = std::env::current_exe().unwrap();
        let test = "a_panic_gives_the_terminal_back_before_it_says_anything";
        let line = format!(
            "stty rows 24 cols 80; stty -a; '{}' --nocapture {test}; stty -a",
            own.display()
        );
        let mut command = Command::new("script");
        let ran = command.args(["-qec", &line, "/dev/null"]).env(ITSELF, "1");
        let ran = ran.env("TERM", "xterm").output().unwrap();
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        let place = |text: &str| {
            out.find(text)
                .unwrap_or_else(|| panic!("no {text:?}: {out}"))
        };
        assert!(place("\u{1b}[?1049h") < place("HITS/S"));
        assert!(place("HITS/S") < place("\u{1b}[?1049l"));
        assert!(place("\u{1b}[?1049l") < place("panicked at"));
        let modes = |part: &str| part[part.find("speed").unwrap()..].to_owned();
        let (before, rest) = out.split_at(place("\u{1b}[?1049h"));
        let before = modes(before);
        let before = before.split("\r\n\r\n").next().unwrap();
        let after = modes(&rest[rest.find("panicked at").unwrap()..]);
        let echo = |text: &str| {
            let words = text.split_whitespace().map(|w| w.trim_end_matches(';'));
            let modes = words.filter(|w| ["echo", "-echo", "icanon", "-icanon"].contains(w));
            modes.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(echo(before), ["icanon", "echo"], "{out}");
        assert_eq!(echo(&after), ["icanon", "echo"], "{out}");
    }
}
