//! Random programs, in generated code and in the evaluator: whatever a hit leaves behind is the same.
//!
//! `KPTRACE_SEED` sets the first seed, `KPTRACE_CASES` multiplies the cases. A failure names its
//! seed, and is cut down to the effects that it takes.

use kptrace::program::{Each, Effect, Program};

use crate::native::{Arena, Case, ONE_AT_A_TIME, Outcome, case};
use crate::support::Rng;

/// Cases of a usual run.
const CASES: u64 = 6000;

/// The program without its n-th effect, counted through all blocks.
fn without(program: &Program, mut n: usize) -> Option<Program> {
    fn cut(effects: &mut Vec<Effect>, n: &mut usize) -> bool {
        for index in 0..effects.len() {
            if *n == 0 {
                effects.remove(index);
                return true;
            }
            *n -= 1;
            let done = match &mut effects[index] {
                Effect::If(_, then, otherwise) => cut(then, n) || cut(otherwise, n),
                Effect::Loop(_, body) | Effect::Each(Each { body, .. }) => cut(body, n),
                _ => false,
            };
            if done {
                return true;
            }
        }
        false
    }
    let mut program = program.clone();
    cut(&mut program.effects, &mut n).then_some(program)
}

/// The smallest case that still fails, and how.
fn shrink(arena: &mut Arena, mut case: Case, mut why: String) -> (Case, String) {
    let fails = |arena: &mut Arena, case: &Case| arena.run(case).err();
    for hits in 1..case.hits {
        let fewer = Case {
            hits,
            ..case.clone()
        };
        if let Some(other) = fails(arena, &fewer) {
            (case, why) = (fewer, other);
            break;
        }
    }
    for index in (0..case.programs.len()).rev() {
        let mut n = 0;
        while let Some(program) = without(&case.programs[index], n) {
            let mut smaller = case.clone();
            smaller.programs[index] = program;
            match fails(arena, &smaller) {
                Some(other) => (case, why) = (smaller, other),
                None => n += 1,
            }
        }
    }
    (case, why)
}

fn describe(case: &Case, why: &str) -> String {
    let mut text = format!(
        "KPTRACE_SEED={} differs: {why}\n{:?}, loads {}, flags live {}, {} hits\n",
        case.seed, case.mode, case.loads, case.flags_live, case.hits
    );
    for table in &case.tables {
        text += &format!("{table:?}\n");
    }
    for program in &case.programs {
        text += &format!("scratch {}:\n{program}", program.scratch);
        text += &format!("{:?}\n", program.effects);
    }
    text
}

#[test]
fn generated_code_does_what_the_evaluator_does() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut arena = Arena::new();
    let mut rng = Rng::seeded(1);
    let times = std::env::var("KPTRACE_CASES").ok();
    let times: u64 = times.map_or(1, |n| n.parse().expect("KPTRACE_CASES is a number"));
    let (mut same, mut refused) = (0_u64, std::collections::BTreeMap::new());
    let first = rng.0;
    let target = arena.target();
    for number in 0..CASES * times {
        // The first seed is the one that is given: a failing case comes first when it is named.
        let seed = if number == 0 { first } else { rng.next() };
        let case = case(seed, target);
        match arena.run(&case) {
            Ok(Outcome::Same) => same += 1,
            Ok(Outcome::Refused(why)) => *refused.entry(why).or_insert(0_u64) += 1,
            Err(why) => {
                let (case, why) = shrink(&mut arena, case, why);
                panic!("{}", describe(&case, &why));
            }
        }
    }
    println!("{same} the same, refused: {refused:?}");
    assert!(same > CASES * times / 2, "most can be compared");
    // All there is: what each of these sets can hold at most.
    let seen = &arena.seen;
    assert_eq!(seen.effects.len(), 16);
    assert_eq!(seen.values.len(), 11);
    assert_eq!(seen.binary.len(), 19);
    assert_eq!(seen.known.len(), 13);
    // Of nine cells: three operations on each, seven aggregations, six of a word's worth, the store and
    // the addition; a store of and a look at a large one.
    assert_eq!(seen.maps.len(), 9 * 3 + 7 + 6 + 2 + 2);
}
