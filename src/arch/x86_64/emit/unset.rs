//! Which variables a program may read before it has set them: those are 0 at first, and only those
//! must be made so.

use crate::program::{Each, Effect, FieldKind, Inst, Key, Local, MapOp, Program, Record, Value};

/// A set of variables; there are at most 64.
type Set = u64;

fn bit(local: Local) -> Set {
    1_u64.checked_shl(local.0.into()).unwrap_or(0)
}

struct Unset {
    /// The variables that each value reads.
    reads: Vec<Set>,
    found: Set,
}

/// Variables that may be read before they are set.
pub(super) fn unset(program: &Program) -> Vec<Local> {
    let mut reads: Vec<Set> = Vec::with_capacity(program.values.len());
    for inst in &program.values {
        let of = |value: Value| reads.get(usize::from(value.0)).copied().unwrap_or(0);
        reads.push(match *inst {
            Inst::Local(local) => bit(local),
            Inst::Binary(_, a, b) => of(a) | of(b),
            Inst::Unary(_, value) | Inst::Extend { value, .. } | Inst::Load { base: value, .. } => {
                of(value)
            }
            _ => 0,
        });
    }
    let mut unset = Unset { reads, found: 0 };
    unset.effects(&program.effects, 0);
    let locals = (0..program.locals).map(Local);
    locals
        .filter(|local| unset.found & bit(*local) != 0)
        .collect()
}

impl Unset {
    fn read(&mut self, value: Value, set: Set) {
        let reads = self.reads.get(usize::from(value.0)).copied().unwrap_or(0);
        self.found |= reads & !set;
    }

    /// What is set behind these effects, given what is set before.
    fn effects(&mut self, effects: &[Effect], mut set: Set) -> Set {
        for effect in effects {
            set = self.effect(effect, set);
        }
        set
    }

    fn effect(&mut self, effect: &Effect, set: Set) -> Set {
        match effect {
            Effect::Set(local, value) => {
                self.read(*value, set);
                set | bit(*local)
            }
            Effect::Put(_, value) => {
                self.read(*value, set);
                set
            }
            Effect::Record(record) => {
                self.record(record, set);
                set
            }
            Effect::Copy(copy) => {
                self.read(copy.pointer, set);
                if let Some(limit) = copy.limit {
                    self.read(limit, set);
                }
                set
            }
            Effect::Compare(local, ..) | Effect::Find(local, ..) => set | bit(*local),
            Effect::Map(_, key, op) => {
                if let Key::Word(value) = key {
                    self.read(*value, set);
                }
                set | self.map(op, set)
            }
            Effect::If(value, then, otherwise) => {
                self.read(*value, set);
                self.effects(then, set) & self.effects(otherwise, set)
            }
            Effect::Loop(turns, body) => {
                let set = set | bit(*turns);
                self.effects(body, set);
                set
            }
            Effect::Each(Each { cursor, body, .. }) => {
                let set = set | bit(*cursor);
                self.effects(body, set);
                set
            }
            // Nothing behind it is reached from here.
            Effect::Break | Effect::Continue | Effect::Return => Set::MAX,
            Effect::Count
            | Effect::Answer(_)
            | Effect::Ask
            | Effect::Walk(..)
            | Effect::Literal(..)
            | Effect::Move(..) => set,
        }
    }

    fn record(&mut self, record: &Record, set: Set) {
        for field in &record.fields {
            match field.kind {
                FieldKind::Int { value, .. } | FieldKind::Str { pointer: value, .. } => {
                    self.read(value, set);
                }
                FieldKind::Stack { .. } | FieldKind::Frames { .. } | FieldKind::Scratch { .. } => {}
            }
        }
    }

    /// What an operation sets.
    fn map(&mut self, op: &MapOp, set: Set) -> Set {
        match *op {
            MapOp::Aggregate(Some(value)) | MapOp::Set(value) | MapOp::Add(value, None) => {
                self.read(value, set);
                0
            }
            MapOp::Add(value, Some(old)) => {
                self.read(value, set);
                bit(old)
            }
            MapOp::Get(local)
            | MapOp::Has(local)
            | MapOp::Len(local)
            | MapOp::Delete(Some(local)) => bit(local),
            MapOp::Aggregate(None)
            | MapOp::GetScratch(_)
            | MapOp::SetScratch(_)
            | MapOp::Delete(None) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables 0 and 1, of which the first is read by the only value.
    fn of(effects: Vec<Effect>) -> Vec<Local> {
        let values = vec![Inst::Local(Local(0)), Inst::Const(1)];
        unset(&Program {
            moment: crate::program::Moment::Arrival,
            values,
            effects,
            locals: 2,
            scratch: 0,
        })
    }

    fn set() -> Effect {
        Effect::Set(Local(0), Value(1))
    }

    fn read() -> Effect {
        Effect::Set(Local(1), Value(0))
    }

    #[test]
    fn what_is_set_on_all_ways_is_not_read_unset() {
        assert_eq!(of(vec![set(), read()]), []);
        let both = Effect::If(Value(1), vec![set()], vec![Effect::Return]);
        assert_eq!(of(vec![both, read()]), []);
        let turns = Effect::Loop(Local(1), vec![set(), read()]);
        assert_eq!(of(vec![turns]), []);
    }

    #[test]
    fn what_is_set_on_one_way_only_is() {
        let one = Effect::If(Value(1), vec![set()], vec![]);
        assert_eq!(of(vec![one, read()]), [Local(0)]);
        let turns = Effect::Loop(Local(1), vec![Effect::Break, set()]);
        assert_eq!(of(vec![turns, read()]), [Local(0)]);
        let later = Effect::Loop(Local(1), vec![read(), set()]);
        assert_eq!(of(vec![later]), [Local(0)]);
    }
}
