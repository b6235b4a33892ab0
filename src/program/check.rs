//! What the back end relies on, checked: values refer backwards, variables and scratch memory exist,
//! records fit, loops are left inside loops only, keys are those of their maps.

use super::ir::{Copy, MAX_FIELDS, MAX_LOCALS, MAX_SCRATCH};
use super::table::{Cell, Home, KeyPart, Table};
use super::{Effect, FieldKind, Inst, Key, Local, MapOp, Program, Record, Value};
use crate::abi;

/// Most levels of nested effects.
const MAX_DEPTH: usize = 64;
/// Most bytes that one string takes.
const MAX_STRING: u16 = 4096;

type Check = Result<(), String>;

impl Program {
    /// Checks what the back end relies on; says in words what does not hold.
    pub fn check(&self) -> Check {
        if self.locals > MAX_LOCALS {
            return Err(format!(
                "{} variables, at most {MAX_LOCALS} fit",
                self.locals
            ));
        }
        if self.scratch > MAX_SCRATCH || !self.scratch.is_multiple_of(8) {
            return Err(format!(
                "strings and keys of {} bytes, at most {MAX_SCRATCH} fit",
                self.scratch
            ));
        }
        for (index, inst) in self.values.iter().enumerate() {
            let earlier = |v: Value| usize::from(v.0) < index;
            let ok = match *inst {
                Inst::Const(_) | Inst::Reg(_) | Inst::Arg(_) | Inst::Known(_) => true,
                Inst::FloatArg(n) => n < 8,
                Inst::Began => self.at_return(),
                Inst::Local(local) => local.0 < self.locals,
                Inst::Scratch(at) => self.is_scratch(at, 8),
                Inst::Binary(_, a, b) => earlier(a) && earlier(b),
                Inst::Unary(_, a) | Inst::Extend { value: a, .. } => earlier(a),
                Inst::Load { base, .. } => earlier(base),
            };
            if !ok {
                return Err(format!("value {index} refers to a later one"));
            }
        }
        self.effects(&self.effects, 0, false)
    }

    fn is_scratch(&self, at: u32, size: u32) -> bool {
        let end = at.checked_add(size);
        at.is_multiple_of(8) && end.is_some_and(|end| end <= self.scratch)
    }

    fn scratch(&self, at: u32, size: u32) -> Check {
        if self.is_scratch(at, size) {
            Ok(())
        } else {
            Err(format!("scratch memory {at}+{size} of {}", self.scratch))
        }
    }

    fn value(&self, value: Value) -> Check {
        if usize::from(value.0) < self.values.len() {
            Ok(())
        } else {
            Err(format!("there is no value {}", value.0))
        }
    }

    fn local(&self, local: Local) -> Check {
        if local.0 < self.locals {
            Ok(())
        } else {
            Err(format!("there is no variable {}", local.0))
        }
    }

    fn effects(&self, effects: &[Effect], depth: usize, in_loop: bool) -> Check {
        if depth > MAX_DEPTH {
            return Err("blocks are nested too deep".to_owned());
        }
        let block = |body, in_loop| self.effects(body, depth + 1, in_loop);
        for effect in effects {
            match effect {
                Effect::Count | Effect::Ask | Effect::Answer(_) | Effect::Return => {}
                Effect::Record(record) => self.record(record)?,
                Effect::Set(local, value) => {
                    self.local(*local)?;
                    self.value(*value)?;
                }
                Effect::Put(at, value) => {
                    self.scratch(*at, 8)?;
                    self.value(*value)?;
                }
                Effect::Copy(copy) => self.copy(copy)?,
                Effect::Literal(at, bytes) => {
                    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    self.scratch(*at, size.saturating_add(7) / 8 * 8)?;
                }
                Effect::Move(to, from, size) => {
                    self.scratch(*to, *size)?;
                    self.scratch(*from, *size)?;
                }
                Effect::Walk(at, frames, _) => {
                    self.scratch(*at, frames.saturating_mul(8).saturating_add(8))?;
                }
                Effect::Compare(local, a, b, _) | Effect::Find(local, a, b) => {
                    self.local(*local)?;
                    self.scratch(*a, abi::STR_BYTES)?;
                    self.scratch(*b, abi::STR_BYTES)?;
                }
                Effect::Map(table, key, op) => self.map(table, *key, op)?,
                Effect::If(value, then, otherwise) => {
                    self.value(*value)?;
                    block(then, in_loop)?;
                    block(otherwise, in_loop)?;
                }
                Effect::Loop(turns, body) => {
                    self.local(*turns)?;
                    block(body, true)?;
                }
                Effect::Each(each) => {
                    let table = &each.table;
                    if !table.is_keyed() || table.home != Home::Session {
                        return Err(format!("map {} has no entries to go over", table.map));
                    }
                    self.local(each.cursor)?;
                    self.scratch(each.key, table.key_size())?;
                    self.scratch(each.cell, 8 * table.cell.words())?;
                    block(&each.body, true)?;
                }
                Effect::Break | Effect::Continue if in_loop => {}
                Effect::Break | Effect::Continue => return Err("no loop to leave".to_owned()),
            }
        }
        Ok(())
    }

    fn copy(&self, copy: &Copy) -> Check {
        self.value(copy.pointer)?;
        copy.limit.map_or(Ok(()), |limit| self.value(limit))?;
        if copy.max == 0 || !copy.max.is_multiple_of(8) || copy.max > MAX_STRING {
            return Err(format!("a string of {} bytes", copy.max));
        }
        self.scratch(copy.to, abi::STR_BYTES + u32::from(copy.max))
    }

    fn map(&self, table: &Table, key: Key, op: &MapOp) -> Check {
        match (key, table.key.as_slice()) {
            (Key::None, []) => {}
            (Key::Word(value), [KeyPart::Word]) => self.value(value)?,
            (Key::Scratch(at), [_, ..]) => {
                let size = table.key.iter().map(|part| part.size()).sum();
                self.scratch(at, size)?;
            }
            _ if matches!(op, MapOp::Len(_)) => {}
            _ => return Err(format!("a key that map {} does not have", table.map)),
        }
        let fits = match op {
            MapOp::Aggregate(value) => {
                value.map_or(Ok(()), |value| self.value(value))?;
                table.cell.is_aggregation() && value.is_none() == (table.cell == Cell::Count)
            }
            MapOp::Get(local) => {
                self.local(*local)?;
                !matches!(
                    table.cell,
                    Cell::Wide(_) | Cell::Powers { .. } | Cell::Steps { .. }
                )
            }
            MapOp::GetScratch(at) | MapOp::SetScratch(at) => match table.cell {
                Cell::Wide(size) => {
                    self.scratch(*at, size)?;
                    true
                }
                _ => false,
            },
            MapOp::Set(value) => {
                self.value(*value)?;
                table.cell == Cell::Word
            }
            MapOp::Add(value, old) => {
                self.value(*value)?;
                old.map_or(Ok(()), |old| self.local(old))?;
                table.cell == Cell::Word
            }
            MapOp::Has(local) | MapOp::Len(local) => {
                self.local(*local)?;
                true
            }
            MapOp::Delete(existed) => {
                existed.map_or(Ok(()), |local| self.local(local))?;
                true
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("map {} has no such operation", table.map))
        }
    }

    fn record(&self, record: &Record) -> Check {
        if record.fields.len() > MAX_FIELDS {
            return Err(format!(
                "{} arguments, at most {MAX_FIELDS} fit a record",
                record.fields.len()
            ));
        }
        for field in &record.fields {
            match field.kind {
                FieldKind::Int { value, .. } => self.value(value)?,
                FieldKind::Str { pointer, max } => {
                    if max == 0 || !max.is_multiple_of(8) || max > MAX_STRING {
                        return Err(format!("string {} of {max} bytes", field.name));
                    }
                    self.value(pointer)?;
                }
                FieldKind::Stack { most, .. } => {
                    if most == 0 || !most.is_multiple_of(8) {
                        return Err(format!("{most} bytes of the stack"));
                    }
                }
                FieldKind::Frames { .. } => {}
                FieldKind::Scratch { at, size } => {
                    if !size.is_multiple_of(8) {
                        return Err(format!("argument {} of {size} bytes", field.name));
                    }
                    self.scratch(at, size)?;
                }
            }
        }
        let (_, size) = record.layout();
        if size > abi::MAX_RECORD {
            return Err(format!(
                "a record of {size} bytes, at most {} fit",
                abi::MAX_RECORD
            ));
        }
        Ok(())
    }
}
