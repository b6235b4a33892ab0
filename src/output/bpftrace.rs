//! What `bpftrace` writes around what a program prints, for command lines that were written for it:
//! `Attaching N probes...` first, two empty lines on standard output before the maps, no summary.
//! What stands between is the format's own.

use std::io::{self, Write};

use super::language;
use crate::data::{Cell, Datum, Feed, Hit, MapData, Sink, Summary};
use crate::language::typed::Piece;

/// A format as bpftrace frames it.
pub struct Bpftrace {
    format: Box<dyn Sink>,
    gap: Box<dyn Write + Send>,
    json: bool,
    /// Whether it is left unsaid how many probes there are, or said already.
    told: bool,
    begun: bool,
    own: usize,
}

impl Bpftrace {
    /// `gap` is where the empty lines go. `own` blocks are no probes of the target, and counted with
    /// them. `quiet`: it is not said how many there are.
    pub fn new(
        (format, json): (Box<dyn Sink>, bool),
        gap: Box<dyn Write + Send>,
        own: usize,
        quiet: bool,
    ) -> Bpftrace {
        Bpftrace {
            format,
            gap,
            json,
            told: quiet,
            begun: false,
            own,
        }
    }

    fn say(&mut self, text: String) -> io::Result<()> {
        self.format.printed(&[Piece::Text(text)], &[])
    }
}

impl Sink for Bpftrace {
    fn armed(&mut self, probes: usize) -> io::Result<()> {
        self.begun = true;
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        let all = probes + self.own;
        if self.json {
            return self.format.armed(all);
        }
        let plural = if all == 1 { "" } else { "s" };
        self.say(format!("Attaching {all} probe{plural}...\n"))
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        self.format.hit(hit)
    }

    fn printed(&mut self, format: &[Piece], args: &[Datum]) -> io::Result<()> {
        self.format.printed(format, args)
    }

    fn map(&mut self, map: &MapData, top: u64, div: u64) -> io::Result<()> {
        self.format.map(map, top, div)
    }

    fn value(&mut self, value: &Cell) -> io::Result<()> {
        self.format.value(value)
    }

    fn time(&mut self, text: &str) -> io::Result<()> {
        self.format.time(text)
    }

    fn join(&mut self, parts: &[Vec<u8>], separator: &str) -> io::Result<()> {
        self.format.join(parts, separator)
    }

    fn cat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.format.cat(bytes)
    }

    fn system(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.format.system(bytes)
    }

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        // Where nothing could be traced, what is wrong is all there is to say.
        if self.begun {
            self.format.flush()?;
            self.gap.write_all(language::text::GAP)?;
            self.gap.flush()?;
        }
        self.format.maps_at_end(maps)
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        if self.json {
            return self.format.lost(events);
        }
        self.say(format!("Lost {events} events\n"))
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.format.closed(feed)
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        self.format.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.format.flush()
    }
}
