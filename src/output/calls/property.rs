//! Random programs: their calls are put together right, also when records are missing, and filters
//! show what filtering all of them shows.

use proptest::prelude::*;

use super::testing::Events;
use super::{Call, CallFilter, Calls, Ended, Fate, Functions, Reader, Thread};
use crate::data::{End, Hit};

/// A call as it was, or as it was put together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    tid: i32,
    start: u64,
    end: u64,
    duration: u64,
    own: u64,
    level: u32,
    name: String,
}

/// A program's doings, each with a pause before.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(usize),
    Leave,
    Tail(usize),
    Unwind(usize),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const END: u64 = u64::MAX;

fn steps() -> impl Strategy<Value = Vec<(i32, u64, Step)>> {
    let step = prop_oneof![
        5 => (0..NAMES.len()).prop_map(Step::Enter),
        5 => Just(Step::Leave),
        1 => (0..NAMES.len()).prop_map(Step::Tail),
        1 => (1_usize..4).prop_map(Step::Unwind),
    ];
    // From a few nanoseconds to what lies beyond all slack.
    let pause = prop_oneof![2_u64..200, 2_u64..200_000];
    prop::collection::vec((10_i32..12, pause, step), 0..120)
}

/// A call, by the number of the one around it.
#[derive(Clone, Debug)]
struct Made {
    tid: i32,
    name: &'static str,
    parent: Option<usize>,
    start: u64,
    end: u64,
}

/// The calls of a program and their records.
fn run(steps: &[(i32, u64, Step)]) -> (Vec<Made>, Events) {
    let (mut made, mut events, mut now) = (Vec::<Made>::new(), Events::default(), 1_000_000_u64);
    let mut stacks = std::collections::BTreeMap::<i32, Vec<usize>>::new();
    for &(tid, pause, step) in steps {
        now += pause;
        let stack = stacks.entry(tid).or_default();
        let close = |made: &mut Vec<Made>, events: &mut Events, at: usize, end| {
            let call = &mut made[at];
            call.end = now + 1;
            events.end(tid, call.name, call.end, call.end - call.start, end);
        };
        let begin = |made: &mut Vec<Made>, parent: Option<usize>, name, start| {
            made.push(Made {
                tid,
                name,
                parent,
                start,
                end: END,
            });
            made.len() - 1
        };
        match step {
            Step::Enter(name) => {
                events.enter(tid, NAMES[name], now, &[]);
                let parent = stack.last().copied();
                stack.push(begin(&mut made, parent, NAMES[name], now + 1));
            }
            Step::Leave => {
                if let Some(at) = stack.pop() {
                    close(&mut made, &mut events, at, End::Returned(0));
                }
            }
            Step::Tail(name) => {
                if let Some(at) = stack.pop() {
                    events.enter(tid, NAMES[name], now, &[]);
                    close(&mut made, &mut events, at, End::Tail);
                    let parent = stack.last().copied();
                    stack.push(begin(&mut made, parent, NAMES[name], now + 2));
                }
            }
            Step::Unwind(most) => {
                for _ in 0..most {
                    if let Some(at) = stack.pop() {
                        close(&mut made, &mut events, at, End::Unwound);
                    }
                }
            }
        }
        now += 2;
    }
    (made, events)
}

/// Those of the calls that ended and that a filter shows.
fn filtered(made: &[Made], depth: Option<u32>, at_least: u64, within: Option<&str>) -> Vec<Known> {
    let level = |mut at: usize| {
        let mut path = vec![made[at].name];
        while let Some(parent) = made[at].parent {
            at = parent;
            path.push(made[at].name);
        }
        let outermost = path
            .iter()
            .rposition(|name| within.is_none_or(|within| within == *name))?;
        u32::try_from(outermost).ok()
    };
    let shown: Vec<usize> = (0..made.len())
        .filter(|&at| made[at].end != END && made[at].end - made[at].start >= at_least)
        .filter(|&at| level(at).is_some_and(|level| depth.is_none_or(|depth| level < depth)))
        .collect();
    let took = |at: usize| made[at].end - made[at].start;
    let mut known: Vec<Known> = shown
        .iter()
        .map(|&at| {
            let inner = shown
                .iter()
                .filter(|&&other| made[other].parent == Some(at));
            Known {
                tid: made[at].tid,
                start: made[at].start,
                end: made[at].end,
                duration: took(at),
                own: took(at) - inner.map(|&other| took(other)).sum::<u64>(),
                level: level(at).unwrap(),
                name: made[at].name.to_owned(),
            }
        })
        .collect();
    known.sort();
    known
}

#[derive(Default)]
struct Recorder {
    ended: Vec<Known>,
    /// Of calls whose end has no record: who, start, end.
    others: Vec<(i32, u64, u64, Fate)>,
}

impl Reader for Recorder {
    fn values(&self, _out: &mut Vec<u8>, _hit: &Hit<'_>) {}

    fn entered(&mut self, _functions: &Functions, _thread: Thread, stack: &mut [Call]) {
        assert!(!stack.is_empty());
    }

    fn ended(&mut self, functions: &Functions, _stack: &mut [Call], ended: &Ended<'_>) {
        let tid = ended.thread.number();
        match ended.duration {
            Some(duration) => self.ended.push(Known {
                tid,
                start: ended.start,
                end: ended.end,
                duration,
                own: ended.own,
                level: ended.call.level.unwrap(),
                name: functions.get(ended.call.function).name.clone(),
            }),
            None => self.others.push((tid, ended.start, ended.end, ended.fate)),
        }
    }
}

fn put_together(events: &Events, filter: CallFilter) -> Recorder {
    let mut calls = Calls::new(filter);
    let mut recorder = Recorder::default();
    for event in &events.0 {
        event.with(|hit| calls.hit(hit, &mut recorder));
    }
    calls.finish(None, &mut recorder);
    recorder.ended.sort();
    recorder
}

proptest! {
    #[test]
    fn calls_are_what_they_were(steps in steps()) {
        let (made, events) = run(&steps);
        let told = put_together(&events, CallFilter::default());
        prop_assert_eq!(&told.ended, &filtered(&made, None, 0, None));
        prop_assert_eq!(told.others.len(), made.iter().filter(|call| call.end == END).count());
        prop_assert!(told.others.iter().all(|other| other.3 == Fate::Inside));
        // Self times are what the outermost calls that ended took.
        let ended = |at: usize| made[at].end != END;
        let outermost = (0..made.len()).filter(|&at| ended(at) && !made[at].parent.is_some_and(ended));
        let total: u64 = outermost.map(|at| made[at].end - made[at].start).sum();
        prop_assert_eq!(told.ended.iter().map(|call| call.own).sum::<u64>(), total);
    }

    #[test]
    fn filters_show_what_filtering_everything_shows(
        steps in steps(),
        depth in prop::option::of(0_u32..5),
        at_least in prop_oneof![Just(0_u64), 1_u64..1_000, 1_u64..300_000],
        within in prop::option::of(0..NAMES.len()),
    ) {
        let (made, events) = run(&steps);
        let within = within.map(|within| NAMES[within]);
        let filter = CallFilter {
            depth,
            at_least,
            within: within.map(|within| -> super::Within {
                Box::new(move |name, _| name == within)
            }),
        };
        let told = put_together(&events, filter);
        prop_assert_eq!(told.ended, filtered(&made, depth, at_least, within));
    }

    #[test]
    fn when_records_are_missing_the_others_are_told(
        steps in steps(),
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (_, mut events) = run(&steps);
        for index in missing {
            if !events.0.is_empty() {
                events.0.remove(index.index(events.0.len()));
            }
        }
        let told = put_together(&events, CallFilter::default());
        let mut durations: Vec<(i32, u64)> = events
            .0
            .iter()
            .filter_map(|event| Some((event.tid, event.end?.duration?)))
            .collect();
        durations.sort_unstable();
        let mut found: Vec<(i32, u64)> = told.ended.iter().map(|c| (c.tid, c.duration)).collect();
        found.sort_unstable();
        prop_assert_eq!(found, durations);
        let mut spans: Vec<(i32, u64, u64)> =
            told.ended.iter().map(|c| (c.tid, c.start, c.end)).collect();
        spans.extend(told.others.iter().map(|&(tid, start, end, _)| (tid, start, end)));
        for (index, a) in spans.iter().enumerate() {
            for b in spans.iter().skip(index + 1).filter(|b| b.0 == a.0) {
                let nests = |a: &(i32, u64, u64), b: &(i32, u64, u64)| a.1 <= b.1 && b.2 <= a.2;
                let apart = a.2 <= b.1 || b.2 <= a.1;
                prop_assert!(apart || nests(a, b) || nests(b, a), "{:?} {:?}", a, b);
            }
        }
    }
}
