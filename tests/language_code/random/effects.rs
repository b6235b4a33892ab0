//! Random effects: what is written, read, compared, counted, left.

use std::sync::Arc;

use kptrace::program::{
    BinaryOp, Cell, Copy, Each, Effect, Field, FieldKind, Home, Inst, IntFormat, Key, KeyPart,
    Local, MapOp, Record, Table, Width,
};

use super::{FREE, Generator, NODES, Place, any};
use crate::support::Rng;

impl Generator<'_> {
    /// Writes every place once, in any order.
    pub(super) fn first(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for place in self.wides.clone().into_iter().flatten() {
            let bytes = (0..place.size).map(|_| self.rng.next() as u8).collect();
            effects.push(Effect::Literal(place.at, bytes));
        }
        let mut places = [self.words.clone(), self.strings.clone()].concat();
        while !places.is_empty() {
            let place = places.swap_remove(self.rng.below(places.len()));
            effects.push(if place.size == 8 {
                self.fill_word(place)
            } else {
                self.fill_string(place)
            });
        }
        effects
    }

    fn fill_word(&mut self, place: Place) -> Effect {
        match self.rng.below(4) {
            0 => {
                let len = 1 + self.rng.below(8);
                let bytes = (0..len).map(|_| self.rng.next() as u8).collect();
                Effect::Literal(place.at, bytes)
            }
            1 if self.written && self.words.len() > 1 => {
                let from = any(self.rng, &self.words);
                if from.at == place.at {
                    let value = self.value(4, NODES, false);
                    return Effect::Put(place.at, value);
                }
                Effect::Move(place.at, from.at, 8)
            }
            _ => {
                let value = self.value(4, NODES, false);
                Effect::Put(place.at, value)
            }
        }
    }

    fn fill_string(&mut self, place: Place) -> Effect {
        let max = place.size - 8;
        let fit = self.strings.iter().copied();
        let fit: Vec<Place> = fit
            .filter(|from| from.size <= place.size && from.at != place.at)
            .collect();
        match self.rng.below(5) {
            0 => {
                let len = self.rng.below(max as usize + 1).min(self.rng.below(140));
                let few = self.chance(2);
                let mut bytes = (len as u32).to_le_bytes().to_vec();
                bytes.extend((self.rng.below(3) as u32 & 1).to_le_bytes());
                let byte = |rng: &mut Rng| (rng.next() as u8).min(if few { 1 } else { 255 });
                bytes.extend((0..len).map(|_| byte(self.rng)));
                Effect::Literal(place.at, bytes)
            }
            1 if self.written && !fit.is_empty() => {
                let from = any(self.rng, &fit);
                Effect::Move(place.at, from.at, from.size)
            }
            _ => {
                let pointer = self.pointer(3, NODES / 2, false);
                let limit = match self.rng.below(4) {
                    0 => Some(self.value(3, NODES / 2, false)),
                    1 => {
                        let most = self.rng.below(max as usize + 3) as u64;
                        Some(self.constant(most))
                    }
                    _ => None,
                };
                Effect::Copy(Copy {
                    to: place.at,
                    pointer,
                    max: max as u16,
                    limit,
                    string: !self.chance(3),
                })
            }
        }
    }

    fn free_local(&mut self) -> Local {
        Local(self.rng.below(usize::from(FREE)) as u16)
    }

    pub(super) fn effects(&mut self, depth: usize, in_loop: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..1 + self.rng.below(if depth == 0 { 12 } else { 4 }) {
            if self.effects_left == 0 {
                break;
            }
            self.effects_left -= 1;
            effects.extend(self.effect(depth, in_loop));
        }
        effects
    }

    fn effect(&mut self, depth: usize, in_loop: bool) -> Option<Effect> {
        Some(match self.rng.below(20) {
            0 => Effect::Count,
            1 | 2 => Effect::Record(self.record()),
            3 | 4 => Effect::Set(self.free_local(), self.value(4, NODES, false)),
            5 if !self.words.is_empty() => {
                let place = any(self.rng, &self.words);
                self.fill_word(place)
            }
            6 | 7 if !self.strings.is_empty() => {
                let place = any(self.rng, &self.strings);
                self.fill_string(place)
            }
            8 if !self.strings.is_empty() => {
                let a = any(self.rng, &self.strings).at;
                let b = any(self.rng, &self.strings).at;
                if self.chance(3) {
                    return Some(Effect::Find(self.free_local(), a, b));
                }
                Effect::Compare(self.free_local(), a, b, self.rng.below(150) as u32)
            }
            9 | 10 if depth < 3 => {
                let value = self.value(4, NODES, false);
                let then = self.effects(depth + 1, in_loop);
                let otherwise = if self.chance(2) {
                    self.effects(depth + 1, in_loop)
                } else {
                    Vec::new()
                };
                Effect::If(value, then, otherwise)
            }
            11 if depth < 3 => self.turns(depth),
            12 if depth < 2 => self.each(depth)?,
            13 if in_loop => {
                if self.chance(2) {
                    Effect::Break
                } else {
                    Effect::Continue
                }
            }
            14 if depth > 0 && self.chance(2) => Effect::Return,
            _ => self.map()?,
        })
    }

    fn counter(&mut self) -> Local {
        self.program.locals += 1;
        Local(self.program.locals - 1)
    }

    fn turns(&mut self, depth: usize) -> Effect {
        let turns = self.counter();
        self.readable.push(turns);
        let mut body = Vec::new();
        // Ends after a few turns, whatever the rest does.
        let most = self.rng.below(5) as u64;
        let most = self.constant(most);
        let count = self.push(Inst::Local(turns), &[]);
        let enough = Inst::Binary(BinaryOp::Less, most, count);
        let enough = self.push(enough, &[most, count]);
        body.push(Effect::If(enough, vec![Effect::Break], Vec::new()));
        body.extend(self.effects(depth + 1, true));
        Effect::Loop(turns, body)
    }

    fn each(&mut self, depth: usize) -> Option<Effect> {
        let fits = |table: &&Arc<Table>| {
            table.is_keyed() && table.home == Home::Session && table.cell.words() <= 80
        };
        let tables: Vec<Arc<Table>> = self.tables.iter().filter(fits).cloned().collect();
        if tables.is_empty() {
            return None;
        }
        let table = tables[self.rng.below(tables.len())].clone();
        let key = self.place(table.key_size())?;
        let cell = self.place(8 * table.cell.words())?;
        let cursor = self.counter();
        let mut body = Vec::new();
        let mut fields = Vec::new();
        let mut at = key.at;
        for part in &table.key {
            fields.push(scratch(at, part.size()));
            at += part.size();
        }
        fields.push(scratch(cell.at, 8 * table.cell.words().min(100)));
        if self.chance(2) {
            let record = self.finish(fields);
            body.push(Effect::Record(record));
        }
        body.extend(self.effects(depth + 1, true));
        Some(Effect::Each(Each {
            table,
            key: key.at,
            cell: cell.at,
            cursor,
            body,
        }))
    }

    fn record(&mut self) -> Record {
        let mut fields = Vec::new();
        for _ in 0..self.rng.below(6) {
            let places = [&self.words[..], &self.strings[..]].concat();
            let kind = match self.rng.below(5) {
                0 => FieldKind::Str {
                    pointer: self.pointer(4, NODES, true),
                    max: any(self.rng, &[8, 16, 24, 64, 200]),
                },
                1 if !places.is_empty() => {
                    let place = any(self.rng, &places);
                    fields.push(scratch(place.at, place.size));
                    continue;
                }
                _ => FieldKind::Int {
                    value: self.value(4, NODES, true),
                    format: IntFormat::Hex(Width::W64),
                },
            };
            fields.push(Field {
                name: String::new(),
                kind,
            });
        }
        self.finish(fields)
    }

    fn finish(&mut self, fields: Vec<Field>) -> Record {
        self.actions += 1 + self.rng.below(90) as u16;
        Record {
            action: self.actions - 1,
            time: self.chance(2),
            fields,
        }
    }

    fn map(&mut self) -> Option<Effect> {
        let table = self.tables[self.rng.below(self.tables.len())].clone();
        let number = table.map as usize;
        let place = self.keys.get(number).copied().flatten();
        let wide = self.wides.get(number).copied().flatten();
        let key = match (&table.key[..], place) {
            ([], _) => Key::None,
            ([KeyPart::Word], _) if self.chance(2) || place.is_none() => {
                let value = self.value(4, NODES, false);
                // Few different ones, so that they are found again.
                let key = match self.rng.below(3) {
                    0 => value,
                    _ => {
                        let few = self.value(3, NODES, false);
                        let mask = self.constant(7);
                        self.push(Inst::Binary(BinaryOp::And, few, mask), &[few, mask])
                    }
                };
                Key::Word(key)
            }
            (_, Some(place)) => Key::Scratch(place.at),
            (_, None) => return None,
        };
        let value = self.value(4, NODES, false);
        let local = self.free_local();
        let op = match (self.rng.below(9), table.cell) {
            (0, _) => MapOp::Has(local),
            (1, _) => MapOp::Len(local),
            (2, _) => MapOp::Delete(self.chance(2).then_some(local)),
            (
                3 | 4,
                Cell::Count
                | Cell::Sum
                | Cell::Average
                | Cell::Least { .. }
                | Cell::Greatest { .. },
            ) => MapOp::Get(local),
            (3 | 4, Cell::Word) => MapOp::Get(local),
            (5 | 6, Cell::Word) => MapOp::Add(value, self.chance(2).then_some(local)),
            (_, Cell::Word) => MapOp::Set(value),
            (3 | 4, Cell::Wide(_)) => MapOp::GetScratch(wide?.at),
            (_, Cell::Wide(_)) => MapOp::SetScratch(wide?.at),
            (_, Cell::Count) => MapOp::Aggregate(None),
            _ => MapOp::Aggregate(Some(value)),
        };
        Some(Effect::Map(table, key, op))
    }
}

fn scratch(at: u32, size: u32) -> Field {
    Field {
        name: String::new(),
        kind: FieldKind::Scratch { at, size },
    }
}
