//! Any bytes as the memory that a target shares with its tracer: the drain comes to its end,
//! within bounds, and gives on no more than fits.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use kptrace::abi::{self, Layout};
use kptrace::base::{Addr, FeedId, Pid, ProbeId, Tid};
use kptrace::data::{
    ArgValue, Catalogue, Command, Decoder, Directory, Drain, Feed, Hit, Known, ProbeInfo,
    ProbeKind, Sink, Summary,
};
use kptrace::program::{Effect, Field, FieldKind, IntFormat, Program, Record, Value, Width};
use kptrace::sys::shm::Shared;

const LAYOUT: Layout = Layout {
    probes: 3,
    ring_size: 1 << 12,
    largest: 128,
    blocks: 4,
    tables: 0,
    scratch: 0,
    returns: false,
};
const STRING: u16 = 64;

/// Counts hits and holds their strings to their bound.
struct Bounded(Arc<Mutex<u64>>);

impl Sink for Bounded {
    fn armed(&mut self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        assert_eq!(hit.values.len(), hit.probe.args.len());
        for value in hit.values {
            if let ArgValue::Str(bytes, _) = value {
                assert!(bytes.len() <= usize::from(STRING));
            }
        }
        *self.0.lock().unwrap() += 1;
        Ok(())
    }
    fn lost(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A count, a number, a number and a string; the last also leaves a number alone, by another action.
fn programs() -> Vec<Program> {
    let value = Value(0);
    let number = FieldKind::Int {
        value,
        format: IntFormat::Hex(Width::W64),
    };
    let string = FieldKind::Str {
        pointer: value,
        max: STRING,
    };
    let record = |kinds: &[FieldKind], action| {
        let field = |&kind: &FieldKind| Field {
            name: "x".into(),
            kind,
        };
        Effect::Record(Record {
            action,
            time: true,
            fields: kinds.iter().map(field).collect(),
        })
    };
    let [mut one, mut two] = [Program::count(), Program::count()];
    one.effects.push(record(&[number], 0));
    let both = [record(&[number, string], 0), record(&[number, number], 3)];
    two.effects.extend(both);
    vec![Program::count(), one, two]
}

/// The words of a ring that holds sound records from position `tail` on, a multiple of 8.
pub fn records(block: u32, tail: u64, count: u64) -> Vec<(u32, u64)> {
    let size = u64::from(programs()[1].largest_record());
    let start = LAYOUT.block(block);
    let place = |offset: u64| ((start + offset) / 8) as u32;
    let position = |number: u64| tail.wrapping_add(number * size);
    let mut words = vec![
        (place(abi::HEAD.into()), position(count)),
        (place(abi::TAIL.into()), tail),
    ];
    for number in 0..count {
        let at = u64::from(LAYOUT.ring()) + position(number) % u64::from(LAYOUT.ring_size);
        words.push((place(at + u64::from(abi::REC_POSITION)), position(number)));
        words.push((place(at + u64::from(abi::REC_PROBE)), 1));
    }
    words
}

/// Words for the drain to find: each is `(place, value)`; places that fall together overwrite.
pub fn drain(words: &[(u32, u64)]) -> u64 {
    let object = nix::sys::memfd::memfd_create(
        c"hostile",
        nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING | nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
    )
    .unwrap();
    let shared = Shared::map(&File::from(object), LAYOUT.size()).unwrap();
    for &(place, value) in words {
        shared.store(u64::from(place) * 8 % LAYOUT.size(), value);
    }
    let directory = Arc::new(Directory::new(LAYOUT.blocks));
    let block = directory.take(Tid(11), |_| ()).unwrap();
    directory.take(Tid(12), |_| ()).unwrap();
    directory.learn(0x7000, Tid(11));
    let programs = programs();
    let probe = |number: usize| ProbeInfo {
        id: ProbeId(number as u32),
        name: format!("f{number}").into(),
        module: "m".to_owned(),
        address: Some(Addr(0x1000)),
        offset: None,
        args: vec!["x".to_owned(); number],
        kind: ProbeKind::Entry,
    };
    let catalogue = Arc::new(Catalogue::default());
    catalogue.extend(programs.iter().enumerate().map(|(number, program)| Known {
        info: probe(number).into(),
        decoders: Decoder::by_action(&program.records()),
    }));
    let feed = Feed {
        shared: Arc::new(shared),
        layout: LAYOUT,
        directory,
        catalogue,
        pid: Pid(11),
        comm: "target".to_owned(),
        durations: Arc::default(),
    };
    let hits = Arc::new(Mutex::new(0));
    let drain = Drain::start(Box::new(Bounded(Arc::clone(&hits))), None).unwrap();
    drain.tell(Command::Open(FeedId(0), feed));
    drain.tell(Command::Armed(programs.len()));
    drain.tell(Command::Retire(FeedId(0), block));
    let drained = drain.finish().expect("the drain does not panic");
    assert!(drained.error.is_none());
    let hits = *hits.lock().unwrap();
    let recorded = drained.recorded.iter().flat_map(|(_, probes)| probes);
    assert_eq!(recorded.map(|(_, count)| count).sum::<u64>(), hits);
    // A record has a header at least; no lap is read twice.
    let most = u64::from(LAYOUT.blocks * (LAYOUT.ring_size / abi::REC_FIELDS));
    assert!(hits <= most, "{hits} hits out of rings for {most}");
    hits
}

/// Where the words of a block's header and the start of its ring are: what is worth writing.
pub fn places() -> Vec<u32> {
    let mut places = Vec::new();
    for block in 0..LAYOUT.blocks {
        let start = (LAYOUT.block(block) / 8) as u32;
        places.extend([start + abi::HEAD / 8, start + abi::TAIL / 8]);
        places.extend((0..16).map(|word| start + LAYOUT.ring() / 8 + word));
    }
    places
}
