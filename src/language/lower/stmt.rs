//! Statements. What prints leaves a record, with the number of what is to be done with it.

use super::{Action, Deed, FIRST_ACTION, Lowering, Operand, Result, Storage, unsupported};
use crate::abi;
use crate::language::layout::{is_word, size};
use crate::language::typed::{Expr, ExprKind, Local, MapId, Stmt, StmtKind, Type};
use crate::program::{
    BinaryOp, Cell, Each, Effect, Field, FieldKind, Inst, IntFormat, MAX_FIELDS, MapOp, Record,
    Value, Width,
};

/// Most strings of `join`, as in bpftrace.
const JOINED: u32 = 16;

impl Lowering<'_> {
    pub(super) fn statements(&mut self, body: &[Stmt], effects: &mut Vec<Effect>) -> Result<()> {
        for stmt in body {
            let (local, scratch) = (self.free_local, self.free_scratch);
            self.statement(stmt, effects)?;
            // What was computed for this statement is no longer needed.
            self.free_local = local;
            self.free_scratch = scratch;
        }
        Ok(())
    }

    fn statement(&mut self, stmt: &Stmt, effects: &mut Vec<Effect>) -> Result<()> {
        match &stmt.kind {
            StmtKind::Expr(e) => self.effects_of(e, effects)?,
            StmtKind::SetLocal(local, value) => self.set_local(*local, value, effects)?,
            StmtKind::SetMap(map, key, value) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                let ty = self.held(*map);
                let op = if let (Cell::Wide(size), Some(ty)) = (table.cell, ty) {
                    let at = self.scratch(size);
                    self.put(value, at, ty, effects)?;
                    MapOp::SetScratch(at)
                } else {
                    MapOp::Set(self.word(value, effects)?)
                };
                effects.push(Effect::Map(table, key, op));
            }
            StmtKind::Aggregate(map, key, value) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                let value = value.as_ref().map(|value| self.word(value, effects));
                let op = MapOp::Aggregate(value.transpose()?);
                effects.push(Effect::Map(table, key, op));
            }
            StmtKind::If(condition, then, otherwise) => {
                let condition = self.word(condition, effects)?;
                let (mut yes, mut no) = (Vec::new(), Vec::new());
                self.statements(then, &mut yes)?;
                self.statements(otherwise, &mut no)?;
                effects.push(Effect::If(condition, yes, no));
            }
            StmtKind::Range(local, from, to, body) => {
                self.range(*local, [from, to], body, effects)?;
            }
            StmtKind::Each(local, map, body) => self.entries(stmt, *local, *map, body, effects)?,
            StmtKind::While(condition, body) => {
                let turns = self.local();
                let mut inner = Vec::new();
                let condition = self.word(condition, &mut inner)?;
                inner.push(Effect::If(condition, Vec::new(), vec![Effect::Break]));
                self.statements(body, &mut inner)?;
                effects.push(Effect::Loop(turns, inner));
            }
            StmtKind::Break => effects.push(Effect::Break),
            StmtKind::Continue => effects.push(Effect::Continue),
            StmtKind::Return => effects.push(Effect::Return),
            StmtKind::Delete(map, key) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                effects.push(Effect::Map(table, key, MapOp::Delete(None)));
            }
            StmtKind::Printf(format, args) => {
                self.leave(stmt, Action::Printf(format.clone()), args, effects)?;
            }
            StmtKind::PrintMap { map, top, div } => {
                let action = Action::PrintMap {
                    map: *map,
                    top: *top,
                    div: *div,
                };
                self.leave(stmt, action, &[], effects)?;
            }
            StmtKind::PrintEntry(map, key) => {
                self.leave(stmt, Action::PrintEntry(*map), key, effects)?;
            }
            StmtKind::Print(value) => {
                self.leave(stmt, Action::Print, std::slice::from_ref(value), effects)?;
            }
            StmtKind::Clear(map) => self.leave(stmt, Action::Clear(*map), &[], effects)?,
            StmtKind::Zero(map) => self.leave(stmt, Action::Zero(*map), &[], effects)?,
            StmtKind::Exit(code) => {
                let code = code.as_ref().map_or(&[][..], std::slice::from_ref);
                self.leave(stmt, Action::Exit, code, effects)?;
                effects.push(Effect::Return);
            }
            StmtKind::Time(format) => {
                self.leave(stmt, Action::Time(format.clone()), &[], effects)?;
            }
            StmtKind::Join(array, separator) => self.join(stmt, array, separator, effects)?,
            StmtKind::Cat(path, args) => {
                self.leave(stmt, Action::Cat(path.clone()), args, effects)?;
            }
            StmtKind::System(command, args) => {
                self.leave(stmt, Action::System(command.clone()), args, effects)?;
            }
        }
        Ok(())
    }

    /// An expression whose value nobody reads.
    fn effects_of(&mut self, e: &Expr, effects: &mut Vec<Effect>) -> Result<()> {
        match &e.kind {
            ExprKind::StepMap(map, key, step) => {
                let table = self.tables[map.0 as usize].clone();
                let key = self.key(*map, key, effects)?;
                let by = self.constant(i64::from(step.by).cast_unsigned());
                effects.push(Effect::Map(table, key, MapOp::Add(by, None)));
            }
            ExprKind::StepLocal(local, step) => {
                let Some(Storage::Word(local)) = self.variables.get(local.0 as usize).copied()
                else {
                    return unsupported(&e.span, "only a number can be counted up");
                };
                let now = self.push(Inst::Local(local));
                let by = self.constant(i64::from(step.by).cast_unsigned());
                let new = self.push(Inst::Binary(BinaryOp::Add, now, by));
                effects.push(Effect::Set(local, new));
            }
            _ if e.kind.has_effects() => {
                for operand in e.kind.operands() {
                    self.effects_of(operand, effects)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set_local(&mut self, local: Local, value: &Expr, effects: &mut Vec<Effect>) -> Result<()> {
        let index = local.0 as usize;
        match self.variables.get(index).copied() {
            Some(Storage::Word(local)) => {
                let value = self.word(value, effects)?;
                effects.push(Effect::Set(local, value));
            }
            Some(Storage::Scratch(at)) => {
                let ty = self.block.locals.get(index).unwrap_or(&value.ty);
                if let ExprKind::Tuple(_) = value.kind {
                    // Its parts may be made of what the variable holds.
                    let new = self.scratch(size(ty));
                    self.put(value, new, ty, effects)?;
                    effects.push(Effect::Move(at, new, size(ty)));
                } else {
                    self.put(value, at, ty, effects)?;
                }
            }
            None => return unsupported(&value.span, "there is no such variable"),
        }
        Ok(())
    }

    fn range(
        &mut self,
        local: Local,
        [from, to]: [&Expr; 2],
        body: &[Stmt],
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let Some(Storage::Word(variable)) = self.variables.get(local.0 as usize).copied() else {
            return unsupported(&from.span, "a range counts numbers");
        };
        // The body may change the variable; the next turn does not care.
        let (turns, next, end) = (self.local(), self.local(), self.local());
        let from = self.word(from, effects)?;
        effects.push(Effect::Set(next, from));
        let to = self.word(to, effects)?;
        effects.push(Effect::Set(end, to));
        let (now, end) = (self.push(Inst::Local(next)), self.push(Inst::Local(end)));
        let more = self.push(Inst::Binary(BinaryOp::SignedLess, now, end));
        let one = self.constant(1);
        let after = self.push(Inst::Binary(BinaryOp::Add, now, one));
        let mut inner = vec![
            Effect::If(more, Vec::new(), vec![Effect::Break]),
            Effect::Set(variable, now),
            Effect::Set(next, after),
        ];
        self.statements(body, &mut inner)?;
        effects.push(Effect::Loop(turns, inner));
        Ok(())
    }

    fn entries(
        &mut self,
        stmt: &Stmt,
        local: Local,
        map: MapId,
        body: &[Stmt],
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let table = self.tables[map.0 as usize].clone();
        let (Some(Storage::Scratch(pair)), Some(Type::Tuple(types))) = (
            self.variables.get(local.0 as usize).copied(),
            self.block.locals.get(local.0 as usize),
        ) else {
            return unsupported(&stmt.span, "the entries of a map are pairs");
        };
        let [key, value] = types.as_slice() else {
            return unsupported(&stmt.span, "the entries of a map are pairs");
        };
        let key_at = self.scratch(table.key_size());
        let cell = self.scratch(8 * table.cell.words());
        let value_at = pair + size(key);
        let mut inner = vec![Effect::Move(pair, key_at, size(key))];
        match table.cell {
            Cell::Wide(_) => inner.push(Effect::Move(value_at, cell + 8, size(value))),
            Cell::Count => inner.push(Effect::Move(value_at, cell, 8)),
            Cell::Word | Cell::Sum => inner.push(Effect::Move(value_at, cell + 8, 8)),
            Cell::Average => {
                let (count, total) = (
                    self.push(Inst::Scratch(cell)),
                    self.push(Inst::Scratch(cell + 8)),
                );
                let mean = self.push(Inst::Binary(BinaryOp::SignedDiv, total, count));
                inner.push(Effect::Put(value_at, mean));
            }
            Cell::Least { .. } | Cell::Greatest { .. } => {
                // Asked for once more: only the map itself knows which half counts.
                let entry = match table.key.as_slice() {
                    [crate::program::KeyPart::Word] => {
                        crate::program::Key::Word(self.push(Inst::Scratch(key_at)))
                    }
                    _ => crate::program::Key::Scratch(key_at),
                };
                let value = self.local();
                inner.push(Effect::Map(table.clone(), entry, MapOp::Get(value)));
                let value = self.push(Inst::Local(value));
                inner.push(Effect::Put(value_at, value));
            }
            Cell::Powers { .. } | Cell::Steps { .. } => {
                return unsupported(&stmt.span, "histograms have no values to go over");
            }
        }
        let cursor = self.local();
        self.statements(body, &mut inner)?;
        effects.push(Effect::Each(Each {
            table,
            key: key_at,
            cell,
            cursor,
            body: inner,
        }));
        Ok(())
    }

    /// Leaves a record with these values.
    fn leave(
        &mut self,
        stmt: &Stmt,
        action: Action,
        args: &[Expr],
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        if args.len() > MAX_FIELDS {
            return unsupported(
                &stmt.span,
                format!("{} values, at most {MAX_FIELDS} fit a record", args.len()),
            );
        }
        let mut fields = Vec::with_capacity(args.len());
        for (index, e) in args.iter().enumerate() {
            let later = args.get(index + 1..).unwrap_or_default();
            let changes = later.iter().any(|e| e.kind.has_effects());
            let kind = self.field(e, changes, effects)?;
            fields.push(Field {
                name: index.to_string(),
                kind,
            });
        }
        let values = args.iter().map(|e| e.ty.clone()).collect();
        self.record(stmt, Deed { action, values }, fields, effects)
    }

    fn record(
        &mut self,
        stmt: &Stmt,
        deed: Deed,
        fields: Vec<Field>,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let number = match self.deeds.iter().position(|other| *other == deed) {
            Some(number) => number,
            None => {
                self.deeds.push(deed);
                self.deeds.len() - 1
            }
        };
        let most = (1 << (u32::BITS - abi::PROBE_BITS)) - usize::from(FIRST_ACTION);
        let Some(action) = u16::try_from(number).ok().filter(|_| number < most) else {
            return unsupported(&stmt.span, format!("it prints in more than {most} ways"));
        };
        let action = FIRST_ACTION + action;
        effects.push(Effect::Record(Record {
            action,
            time: true,
            fields,
        }));
        Ok(())
    }

    /// A value on its way into a record.
    fn field(&mut self, e: &Expr, changes: bool, effects: &mut Vec<Effect>) -> Result<FieldKind> {
        if let ExprKind::StrAt(pointer, limit) = &e.kind
            && self.limit_free(e, limit.as_deref())
            && let Type::Str { max } = e.ty
            && let Ok(max) = u16::try_from(max)
        {
            // Straight from the target into the ring.
            let pointer = self.word(pointer, effects)?;
            let pointer = self.simple(pointer, changes, effects);
            return Ok(FieldKind::Str { pointer, max });
        }
        Ok(match self.operand(e, effects)? {
            Operand::Word(value) => FieldKind::Int {
                value: self.simple(value, changes, effects),
                format: IntFormat::Hex(Width::W64),
            },
            Operand::Scratch(at) => FieldKind::Scratch {
                at,
                size: size(&e.ty),
            },
        })
    }

    fn operand(&mut self, e: &Expr, effects: &mut Vec<Effect>) -> Result<Operand> {
        if is_word(&e.ty) {
            return Ok(Operand::Word(self.word(e, effects)?));
        }
        Ok(Operand::Scratch(self.bytes(e, effects)?))
    }

    /// A value that can be computed while a record is filled: there are no registers for more than
    /// reading memory then. Such a read says in its field when it faults.
    fn simple(&mut self, value: Value, changes: bool, effects: &mut Vec<Effect>) -> Value {
        let plain = match self.program.inst(value) {
            Some(Inst::Load { base, .. }) => matches!(
                self.program.inst(base),
                Some(Inst::Arg(_) | Inst::Reg(_) | Inst::Const(_) | Inst::Local(_))
            ),
            Some(Inst::Local(_)) => !changes,
            Some(Inst::Arg(_) | Inst::Reg(_) | Inst::Const(_) | Inst::FloatArg(_)) => true,
            _ => false,
        };
        if plain {
            value
        } else {
            self.fix(value, effects)
        }
    }

    /// The strings of an array that a null pointer ends.
    fn join(
        &mut self,
        stmt: &Stmt,
        array: &Expr,
        separator: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<()> {
        let max = 128;
        let array = self.word(array, effects)?;
        let array = self.fix(array, effects);
        let mut fields = Vec::new();
        for index in 0..JOINED {
            let pointer = self.load(array, 8 * i64::from(index), Width::W64, false);
            let pointer = self.fix(pointer, effects);
            fields.push(Field {
                name: index.to_string(),
                kind: FieldKind::Str { pointer, max },
            });
        }
        let ty = Type::Str {
            max: u32::from(max),
        };
        let deed = Deed {
            action: Action::Join(separator.to_owned()),
            values: vec![ty; fields.len()],
        };
        self.record(stmt, deed, fields, effects)
    }
}
