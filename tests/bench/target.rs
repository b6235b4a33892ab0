//! A target that talks in lines: what it is told on its input, what it answers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

/// A running target, perhaps under a tracer that was started in its place.
pub struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Its process.
    pub pid: i32,
}

/// One pair of slices, in nanoseconds a call.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Processor time of the measured call beyond its twin's.
    pub cpu: f64,
    /// The same by the clock on the wall.
    pub wall: f64,
}

impl Target {
    /// Starts it and waits until it is ready.
    pub fn start(command: &mut Command) -> anyhow::Result<Target> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no output")?;
        let mut target = Target {
            child,
            input,
            output: BufReader::new(output),
            pid: 0,
        };
        let line = target.line("ready ")?;
        target.pid = line.trim().parse().context("its process id")?;
        Ok(target)
    }

    /// The started process: the tracer, if there is one.
    pub fn started(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Reads to the line with this beginning; gives its rest.
    fn line(&mut self, beginning: &str) -> anyhow::Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("it ended before it said \"{}\"", beginning.trim());
            }
            if let Some(rest) = line.strip_prefix(beginning) {
                return Ok(rest.trim_end().to_owned());
            }
        }
    }

    /// Tells it something.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Tells it something and reads the answer with this beginning.
    pub fn ask(&mut self, line: &str, beginning: &str) -> anyhow::Result<String> {
        self.tell(line)?;
        self.line(beginning)
    }

    /// Lets it run one pair of slices.
    pub fn pair(&mut self, line: &str) -> anyhow::Result<Pair> {
        self.tell(line)?;
        self.next_pair()
    }

    /// The next pair that it runs of its own accord.
    pub fn next_pair(&mut self) -> anyhow::Result<Pair> {
        let answer = self.line("pair ")?;
        let numbers: Vec<f64> = answer
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let &[twin, hot, twin_wall, hot_wall] = &numbers[..] else {
            bail!("a strange pair: {answer}");
        };
        Ok(Pair {
            cpu: hot - twin,
            wall: hot_wall - twin_wall,
        })
    }

    /// Closes its input and waits for its end.
    pub fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let mut rest = String::new();
        while self.output.read_line(&mut rest)? > 0 {}
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.input.is_some() {
            // Given up: a tracer that is killed lets go of its target, which ends with its input.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
