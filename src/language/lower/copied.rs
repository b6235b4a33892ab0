//! The other form of a program that takes stacks: where they cannot be walked at the hit, records hold
//! what they are walked by later. A stack is then a mark, which whoever reads a record puts the frames in
//! the place of; what is done to maps that hold stacks, as keys or values, is left as a record, too, and
//! done by the reader.
//!
//! Invariant: nothing reads such a map at a hit: it is not there. A program that does has no other form.

use super::{Action, Change, Deed, FIRST_ACTION};
use crate::abi;
use crate::language::layout;
use crate::language::typed::{Checked, Map, MapValue, Type};
use crate::program::{
    Cell, Each, Effect, Field, FieldKind, Inst, IntFormat, Key, Local, MAX_LOCALS, MapOp, Program,
    Record, Table, Value, Width,
};

/// Why a program has no other form.
type Result<T> = std::result::Result<T, String>;

/// The other forms of blocks, `None` for those that need none. `own` says which blocks do not run at
/// hits.
pub(super) fn copies(
    checked: &Checked,
    blocks: &[Program],
    deeds: &mut Vec<Deed>,
) -> Result<Vec<Option<Program>>> {
    let mut copies = Vec::with_capacity(blocks.len());
    for (block, program) in checked.blocks.iter().zip(blocks) {
        let own = !block.attach.iter().all(|attach| attach.is_in_target());
        let mut entry = None;
        let mut touches = false;
        program.visit(|effect| match effect {
            Effect::Walk(_, _, on_top) => entry = Some(*on_top),
            Effect::Map(table, ..) | Effect::Each(Each { table, .. }) => {
                touches |= is_of_stacks(&checked.maps, table);
            }
            _ => {}
        });
        if own && touches {
            return Err("END, BEGIN or interval go over a map of stacks".to_owned());
        }
        if entry.is_none() && !touches {
            copies.push(None);
            continue;
        }
        let mut copying = Copying {
            maps: &checked.maps,
            deeds,
            program: program.clone(),
            entry,
            locals: 0,
        };
        let effects = copying.effects(&program.effects)?;
        let mut copy = copying.program;
        copy.locals += copying.locals;
        if copy.locals + 1 >= MAX_LOCALS {
            return Err("there are too many variables".to_owned());
        }
        copy.effects = effects;
        copy.check()?;
        copies.push(Some(copy));
    }
    Ok(copies)
}

/// Whether there is a stack in a value of this type.
fn holds_stack(ty: &Type) -> bool {
    match ty {
        Type::Ustack { .. } => true,
        Type::Tuple(parts) => parts.iter().any(holds_stack),
        _ => false,
    }
}

fn is_of_stacks(maps: &[Map], table: &Table) -> bool {
    maps.get(table.map as usize).is_some_and(|map| {
        let value = matches!(&map.value, MapValue::Plain(ty) if holds_stack(ty));
        value || map.key.iter().any(holds_stack)
    })
}

struct Copying<'a> {
    maps: &'a [Map],
    deeds: &'a mut Vec<Deed>,
    program: Program,
    /// Whether the caller's address is on top of the stack; nothing in a program that takes none.
    entry: Option<bool>,
    /// Variables of our own; values are there while a record is filled.
    locals: u16,
}

impl Copying<'_> {
    fn effects(&mut self, effects: &[Effect]) -> Result<Vec<Effect>> {
        let mut out = Vec::with_capacity(effects.len());
        for effect in effects {
            self.effect(effect, &mut out)?;
        }
        Ok(out)
    }

    fn effect(&mut self, effect: &Effect, out: &mut Vec<Effect>) -> Result<()> {
        match effect {
            Effect::Walk(at, ..) => {
                let mark = self.program.push(Inst::Const(abi::STACK_MARK));
                out.push(Effect::Put(*at, mark));
            }
            Effect::Record(record) => {
                let deed = record.action.checked_sub(FIRST_ACTION);
                let deed = deed.and_then(|number| self.deeds.get(usize::from(number)));
                let mut record = record.clone();
                if deed.is_some_and(|deed| deed.values.iter().any(holds_stack)) {
                    self.with_stack(&mut record.fields);
                }
                out.push(Effect::Record(record));
            }
            Effect::Map(table, key, op) if is_of_stacks(self.maps, table) => {
                self.change(table, *key, op, out)?;
            }
            Effect::Each(Each { table, .. }) if is_of_stacks(self.maps, table) => {
                return Err("it goes over a map of stacks".to_owned());
            }
            Effect::If(value, then, otherwise) => {
                let (then, otherwise) = (self.effects(then)?, self.effects(otherwise)?);
                out.push(Effect::If(*value, then, otherwise));
            }
            Effect::Loop(turns, body) => {
                let body = self.effects(body)?;
                out.push(Effect::Loop(*turns, body));
            }
            Effect::Each(each) => {
                let body = self.effects(&each.body)?;
                out.push(Effect::Each(Each {
                    body,
                    ..each.clone()
                }));
            }
            other => out.push(other.clone()),
        }
        Ok(())
    }

    /// What the frames are found by. How much of it there is, is said where a probe is armed.
    fn with_stack(&self, fields: &mut Vec<Field>) {
        if let Some(entry) = self.entry {
            fields.push(Field {
                name: "stack".to_owned(),
                kind: FieldKind::Stack { most: 8, entry },
            });
        }
    }

    /// A record of what is done to a map.
    fn change(&mut self, table: &Table, key: Key, op: &MapOp, out: &mut Vec<Effect>) -> Result<()> {
        let maps = self.maps;
        let Some(map) = maps.get(table.map as usize) else {
            return Err("a map that is not there".to_owned());
        };
        let number = Type::Int {
            width: Width::W64,
            signed: false,
        };
        let mut values = map.key.clone();
        let mut fields = Vec::new();
        self.locals = self.locals.max(2);
        match key {
            Key::None => {}
            Key::Word(value) => fields.push(self.fixed(value, 0, out)),
            Key::Scratch(at) => {
                let size = map.key.iter().map(layout::size).sum();
                fields.push(FieldKind::Scratch { at, size });
            }
        }
        let change = match *op {
            MapOp::Aggregate(value) => {
                if let Some(value) = value {
                    fields.push(self.fixed(value, 1, out));
                    values.push(number);
                }
                Change::Aggregate
            }
            MapOp::Set(value) => {
                fields.push(self.fixed(value, 1, out));
                values.push(number);
                Change::Set
            }
            MapOp::SetScratch(at) => {
                let (Cell::Wide(size), MapValue::Plain(ty)) = (table.cell, &map.value) else {
                    return Err("a value that a map does not have".to_owned());
                };
                fields.push(FieldKind::Scratch { at, size });
                values.push(ty.clone());
                Change::Set
            }
            MapOp::Add(value, None) => {
                fields.push(self.fixed(value, 1, out));
                values.push(number);
                Change::Add
            }
            MapOp::Delete(None) => Change::Delete,
            MapOp::Add(_, Some(_))
            | MapOp::Delete(Some(_))
            | MapOp::Get(_)
            | MapOp::GetScratch(_)
            | MapOp::Has(_)
            | MapOp::Len(_) => {
                return Err(format!("{} is read at a hit", map.name));
            }
        };
        let field = |(index, kind): (usize, FieldKind)| Field {
            name: index.to_string(),
            kind,
        };
        let mut fields: Vec<Field> = fields.into_iter().enumerate().map(field).collect();
        if values.iter().any(holds_stack) {
            self.with_stack(&mut fields);
        }
        let action = Action::Change {
            map: super::MapId(table.map),
            change,
        };
        out.push(Effect::Record(Record {
            action: self.action(Deed { action, values })?,
            time: true,
            fields,
        }));
        Ok(())
    }

    /// A value in a variable of our own.
    fn fixed(&mut self, value: Value, number: u16, out: &mut Vec<Effect>) -> FieldKind {
        let local = Local(self.program.locals + number);
        out.push(Effect::Set(local, value));
        FieldKind::Int {
            value: self.program.push(Inst::Local(local)),
            format: IntFormat::Hex(Width::W64),
        }
    }

    fn action(&mut self, deed: Deed) -> Result<u16> {
        let number = self.deeds.iter().position(|other| *other == deed);
        let number = number.unwrap_or_else(|| {
            self.deeds.push(deed);
            self.deeds.len() - 1
        });
        let most = (1 << (u32::BITS - abi::PROBE_BITS)) - usize::from(FIRST_ACTION);
        let number = u16::try_from(number)
            .ok()
            .filter(|&n| usize::from(n) < most);
        let number = number.ok_or_else(|| "it leaves too many kinds of records".to_owned())?;
        Ok(FIRST_ACTION + number)
    }
}
