//! One run in several formats: everything that happens is told to each of them, in their order. Knows
//! no format.
//!
//! Invariant: a format that cannot write ends the run, and every other has been told the same by then.

use std::io;

use crate::data::{Cell, Datum, Feed, Hit, MapData, Sink, Summary};
use crate::language::typed::Piece;

/// Several sinks as one.
pub struct Several(Vec<Box<dyn Sink>>);

impl Several {
    /// All of these.
    pub fn new(sinks: Vec<Box<dyn Sink>>) -> Several {
        Several(sinks)
    }

    /// Tells all; the first that failed says so.
    fn each(&mut self, mut tell: impl FnMut(&mut dyn Sink) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        for sink in &mut self.0 {
            result = result.and(tell(sink.as_mut()));
        }
        result
    }
}

impl Sink for Several {
    fn armed(&mut self, probes: usize) -> io::Result<()> {
        self.each(|sink| sink.armed(probes))
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        self.each(|sink| sink.hit(hit))
    }

    fn printed(&mut self, format: &[Piece], args: &[Datum]) -> io::Result<()> {
        self.each(|sink| sink.printed(format, args))
    }

    fn map(&mut self, map: &MapData, top: u64, div: u64) -> io::Result<()> {
        self.each(|sink| sink.map(map, top, div))
    }

    fn value(&mut self, value: &Cell) -> io::Result<()> {
        self.each(|sink| sink.value(value))
    }

    fn time(&mut self, text: &str) -> io::Result<()> {
        self.each(|sink| sink.time(text))
    }

    fn join(&mut self, parts: &[Vec<u8>], separator: &str) -> io::Result<()> {
        self.each(|sink| sink.join(parts, separator))
    }

    fn cat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.each(|sink| sink.cat(bytes))
    }

    fn system(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.each(|sink| sink.system(bytes))
    }

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        self.each(|sink| sink.maps_at_end(maps))
    }

    fn lost(&mut self, events: u64) -> io::Result<()> {
        self.each(|sink| sink.lost(events))
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.each(|sink| sink.closed(feed))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.each(|sink| sink.summary(summary))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.each(|sink| sink.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::calls::testing::Events;
    use super::super::{CallFilter, Folded, Json};
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl io::Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_format_is_told_everything_though_another_cannot_write() {
        let mut events = Events::default();
        events.enter(10, "f", 1_000, &[]);
        events.leave(10, "f", 2_000, 900, &[]);
        let written = Written::default();
        let mut several = Several::new(vec![
            Box::new(Json::new(Broken)),
            Box::new(Folded::new(written.clone(), CallFilter::default())),
        ]);
        events.play(&mut several);
        let failed = several.summary(&Summary::default()).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(*written.0.lock().unwrap(), b"prog;f 900\n");
    }
}
