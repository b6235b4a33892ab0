//! `top`: the probes of a traced process, live. Asks the kptrace that traces it, as `ctl` does, and has the
//! terminal while it shows what came.
//!
//! Invariant: nothing waits for the tracer but the thread that asks it: keys and signals are answered
//! also when it does not answer.

mod draw;
mod table;
mod terminal;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::{Value, json};

use super::args::Color;
use super::complain;
use super::ctl::{ask, call};
use super::exit::Exit;
use super::values::{process, seconds};
use crate::base::Pid;
use crate::output::Style;
use crate::sys::errno::sig;
use crate::sys::local::Stream;
use crate::sys::poll::{self, Signals};
use draw::Look;
use table::{Table, Wish};
use terminal::{Screen, leave_at_panic};

/// How long the tracer may take before that is said.
const PATIENCE: Duration = Duration::from_secs(3);

/// `top`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Top {
    /// Look every SECS seconds
    #[arg(short = 'd', long = "interval", value_name = "SECS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,
    /// Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) says
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// The traced process
    #[arg(value_name = "PID", value_parser = process)]
    pub pid: Pid,
}

/// What happens.
enum Came {
    /// On the terminal; or it is gone.
    Terminal(io::Result<Event>),
    /// A signal.
    Signal(i32),
    /// An answer of the tracer, and what was asked.
    Answer(Value, Result<Value, String>),
}

/// How it ends.
enum End {
    /// The user has seen enough.
    Quit,
    /// A signal ends it.
    Killed(i32),
    /// The tracer has ended, or let go of the process.
    Over(String),
}

/// `kptrace top`.
pub(super) fn run(top: &Top) -> Exit {
    let stream = match call(top.pid) {
        Ok(stream) => stream,
        Err(why) => {
            complain(format_args!("{why}"));
            return Exit::Failure;
        }
    };
    match show(top, stream) {
        Ok(End::Quit) => Exit::Success,
        Ok(End::Killed(signal)) => {
            poll::die_by(signal);
            Exit::Failure
        }
        Ok(End::Over(why)) => {
            complain(format_args!("{why}"));
            Exit::Success
        }
        Err(error) => {
            complain(format_args!("{error:#}"));
            Exit::Failure
        }
    }
}

fn show(top: &Top, stream: Stream) -> anyhow::Result<End> {
    // Before there is a second thread: one that does not block a signal would end us by it.
    let signals = Signals::collect()?;
    leave_at_panic();
    let mut screen = Screen::take()?;
    let (came, comes) = channel();
    let (asked, asks) = channel();
    start("signals", signals_of(signals, came.clone()))?;
    start("keys", events(came.clone()))?;
    start("asks", answers(stream, asks, came))?;
    let env = |name: &str| std::env::var_os(name);
    let colours = Style::decide(top.color.choice(), env, true) != Style::PLAIN;
    let mut shown = Shown {
        table: Table::new(),
        asked,
        waits: None,
        due: Instant::now(),
        interval: top.interval,
    };
    let look = Look { colours };
    loop {
        screen.draw(&mut shown.table, look)?;
        if let Some(end) = shown.next(&comes, &mut screen)? {
            return Ok(end);
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(drop)
}

fn signals_of(signals: Signals, came: Sender<Came>) -> impl FnOnce() {
    move || {
        while let Ok(arrived) = signals.wait(None) {
            for arrived in arrived {
                if came.send(Came::Signal(arrived.signal)).is_err() {
                    return;
                }
            }
        }
    }
}

fn events(came: Sender<Came>) -> impl FnOnce() {
    move || {
        loop {
            let event = event::read();
            let gone = event.is_err();
            if came.send(Came::Terminal(event)).is_err() || gone {
                return;
            }
        }
    }
}

fn answers(stream: Stream, asks: Receiver<Value>, came: Sender<Came>) -> impl FnOnce() {
    move || {
        for request in asks {
            let answer = ask(&stream, &request);
            if came.send(Came::Answer(request, answer)).is_err() {
                return;
            }
        }
    }
}

/// The table, and what is waited for.
struct Shown {
    table: Table,
    asked: Sender<Value>,
    /// Since when an answer with the probes is waited for.
    waits: Option<Instant>,
    /// When they are asked for next.
    due: Instant,
    interval: Duration,
}

impl Shown {
    /// Waits until there may be something new to show; says when it is over.
    fn next(&mut self, comes: &Receiver<Came>, screen: &mut Screen) -> io::Result<Option<End>> {
        let now = Instant::now();
        if self.waits.is_none() && !self.table.is_paused() && now >= self.due {
            self.look(now);
        }
        let until = match self.waits {
            Some(since) if now >= since + PATIENCE => {
                self.table.say("the kptrace that traces it does not answer");
                now + PATIENCE
            }
            Some(since) => since + PATIENCE,
            None => self.due.max(now),
        };
        let came = match self.waits.is_none() && self.table.is_paused() {
            true => comes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => comes.recv_timeout(until.saturating_duration_since(now)),
        };
        match came {
            Ok(came) => self.deal(came, screen),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(End::Quit)),
        }
    }

    fn deal(&mut self, came: Came, screen: &mut Screen) -> io::Result<Option<End>> {
        match came {
            Came::Terminal(event) => match event? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let wish = self.table.key(key);
                    return self.grant(wish, screen);
                }
                // Resized: it is drawn anew anyway.
                _ => {}
            },
            Came::Signal(sig::TSTP) => screen.without(poll::stop_self)?,
            Came::Signal(signal @ (sig::INT | sig::QUIT | sig::TERM | sig::HUP)) => {
                return Ok(Some(End::Killed(signal)));
            }
            Came::Signal(_) => {}
            Came::Answer(request, answer) => return Ok(self.answered(&request, answer)),
        }
        Ok(None)
    }

    fn grant(&mut self, wish: Wish, screen: &mut Screen) -> io::Result<Option<End>> {
        match wish {
            Wish::Nothing => {}
            Wish::Quit => return Ok(Some(End::Quit)),
            Wish::Stop => screen.without(poll::stop_self)?,
            Wish::Repaint => screen.repaint()?,
            Wish::Look => self.due = Instant::now(),
            Wish::Ask(request) => {
                let _ = self.asked.send(request);
            }
        }
        Ok(None)
    }

    /// Asks for the probes.
    fn look(&mut self, now: Instant) {
        self.waits = Some(now);
        self.due = now + self.interval;
        let _ = self.asked.send(json!({ "do": "list" }));
    }

    fn answered(&mut self, request: &Value, answer: Result<Value, String>) -> Option<End> {
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(why) => return Some(End::Over(why)),
        };
        let lists = request["do"] == "list";
        let error = answer["error"].as_str().map(str::to_owned);
        match (lists, error) {
            // It is not traced any more.
            (true, Some(why)) => return Some(End::Over(why)),
            (false, Some(why)) => self.table.say(why),
            // What it changed is to be seen.
            (false, None) => self.due = Instant::now(),
            (true, None) => {
                self.waits = None;
                match serde_json::from_value(answer.take()) {
                    Ok(listing) if !self.table.is_paused() => {
                        self.table.take(listing, crate::sys::clock::monotonic());
                    }
                    Ok(_) => {}
                    Err(error) => self.table.say(format!("the answer is no list: {error}")),
                }
            }
        }
        None
    }
}
