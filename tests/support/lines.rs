//! The lines of a pipe as they come, read on a thread of its own so that whoever writes never
//! waits for a test.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::LIMIT;

/// What came from a pipe, and what will.
pub struct Lines {
    from: Receiver<Vec<u8>>,
    /// All that was received.
    text: Vec<u8>,
}

impl Lines {
    /// Reads `pipe` to its end.
    pub fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (to, from) = channel();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            loop {
                let mut line = Vec::new();
                match pipe.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        if to.send(line).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Lines {
            from,
            text: Vec::new(),
        }
    }

    /// The next line that has `part` in it.
    pub fn wait_for(&mut self, part: &str) -> String {
        self.wait_within(part, LIMIT)
            .unwrap_or_else(|| panic!("no {part:?} in:\n{}", self.so_far()))
    }

    /// The same, or nothing if it does not come in this time or the pipe is closed.
    pub fn wait_within(&mut self, part: &str, time: Duration) -> Option<String> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.from.recv_timeout(left).ok()?;
            self.text.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line);
            if line.contains(part) {
                return Some(line.trim_end().to_owned());
            }
        }
    }

    /// Everything, when the pipe is closed.
    pub fn into_rest(mut self) -> Vec<u8> {
        let end = Instant::now() + LIMIT;
        loop {
            match self
                .from
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.text.extend_from_slice(&line),
                Err(RecvTimeoutError::Disconnected) => return self.text,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("a pipe is not closed:\n{}", self.so_far())
                }
            }
        }
    }

    /// What came so far, for messages.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}
