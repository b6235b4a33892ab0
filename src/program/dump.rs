//! The readable form of a program, for `check -v`, `--dump ir` and golden tests.

use std::fmt;

use super::{BinaryOp, Cell, Effect, FieldKind, Home, Inst, Key, MapOp, Program, Record, Table};
use super::{UnaryOp, Width};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at_return() {
            writeln!(f, "at return")?;
        }
        for (index, inst) in self.values.iter().enumerate() {
            writeln!(f, "v{index} = {inst}")?;
        }
        effects(f, &self.effects, 0)
    }
}

impl fmt::Display for Inst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |signed| if signed { 's' } else { 'u' };
        match *self {
            Inst::Const(n) => write!(f, "const {n:#x}"),
            Inst::Reg(reg) => write!(f, "reg {}", reg.0),
            Inst::Arg(n) => write!(f, "arg {n}"),
            Inst::FloatArg(n) => write!(f, "farg {n}"),
            Inst::Began => write!(f, "began"),
            Inst::Known(known) => write!(f, "{}", format!("{known:?}").to_lowercase()),
            Inst::Local(local) => write!(f, "${}", local.0),
            Inst::Scratch(at) => write!(f, "scratch[{at}]"),
            Inst::Binary(op, a, b) => write!(f, "{} v{}, v{}", name(op), a.0, b.0),
            Inst::Unary(op, a) => {
                let name = match op {
                    UnaryOp::Negate => "neg",
                    UnaryOp::Invert => "inv",
                    UnaryOp::Not => "not",
                };
                write!(f, "{name} v{}", a.0)
            }
            Inst::Extend {
                value,
                width,
                signed,
            } => write!(f, "extend.{}{} v{}", kind(signed), width, value.0),
            Inst::Load {
                base,
                offset,
                width,
                signed,
            } => write!(f, "load.{}{width} [v{}{offset:+}]", kind(signed), base.0),
        }
    }
}

fn effects(f: &mut fmt::Formatter<'_>, body: &[Effect], depth: usize) -> fmt::Result {
    let inner = |f: &mut fmt::Formatter<'_>, body: &[Effect]| effects(f, body, depth + 1);
    for effect in body {
        write!(f, "{:1$}", "", 2 * depth)?;
        match effect {
            Effect::Count => writeln!(f, "count")?,
            Effect::Ask => writeln!(f, "ask")?,
            Effect::Answer(slot) => writeln!(f, "answer unwinder {slot}")?,
            Effect::Record(record) => {
                leave(f, record)?;
                writeln!(f)?;
            }
            Effect::Set(local, value) => writeln!(f, "${} = v{}", local.0, value.0)?,
            Effect::Put(at, value) => writeln!(f, "scratch[{at}] = v{}", value.0)?,
            Effect::Copy(copy) => {
                let kind = if copy.string { "str" } else { "buf" };
                write!(
                    f,
                    "scratch[{}] = {kind}(v{}, {}",
                    copy.to, copy.pointer.0, copy.max
                )?;
                match copy.limit {
                    Some(limit) => writeln!(f, ", v{})", limit.0)?,
                    None => writeln!(f, ")")?,
                }
            }
            Effect::Literal(at, bytes) => {
                writeln!(f, "scratch[{at}] = \"{}\"", bytes.escape_ascii())?;
            }
            Effect::Move(to, from, size) => {
                writeln!(f, "scratch[{to}] = scratch[{from}], {size} bytes")?;
            }
            Effect::Walk(at, frames, entry) => {
                let from = if *entry { " from an entry" } else { "" };
                writeln!(f, "scratch[{at}] = stack of {frames}{from}")?;
            }
            Effect::Compare(local, a, b, most) => writeln!(
                f,
                "${} = compare scratch[{a}], scratch[{b}], {most}",
                local.0
            )?,
            Effect::Find(local, a, b) => {
                writeln!(f, "${} = find scratch[{b}] in scratch[{a}]", local.0)?;
            }
            Effect::Map(table, key, op) => map(f, table, *key, op)?,
            Effect::If(value, then, otherwise) => {
                writeln!(f, "if v{}", value.0)?;
                inner(f, then)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{:1$}else", "", 2 * depth)?;
                    inner(f, otherwise)?;
                }
            }
            Effect::Loop(turns, body) => {
                writeln!(f, "loop ${}", turns.0)?;
                inner(f, body)?;
            }
            Effect::Each(each) => {
                let (map, key, cell) = (each.table.map, each.key, each.cell);
                writeln!(
                    f,
                    "each ${} of m{map}: scratch[{key}], scratch[{cell}]",
                    each.cursor.0
                )?;
                inner(f, &each.body)?;
            }
            Effect::Break => writeln!(f, "break")?,
            Effect::Continue => writeln!(f, "continue")?,
            Effect::Return => writeln!(f, "return")?,
        }
    }
    Ok(())
}

fn leave(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    write!(f, "record")?;
    if record.action != 0 {
        write!(f, " {}", record.action)?;
    }
    if record.time {
        write!(f, " time")?;
    }
    for field in &record.fields {
        let name = &field.name;
        match field.kind {
            FieldKind::Int { value, .. } => write!(f, " {name}=v{}", value.0)?,
            FieldKind::Str { pointer, max } => write!(f, " {name}=str(v{}, {max})", pointer.0)?,
            FieldKind::Stack { most, entry } => {
                let from = if entry { " from an entry" } else { "" };
                write!(f, " {name}=stack({most}){from}")?;
            }
            FieldKind::Frames { most, entry } => {
                let from = if entry { " from an entry" } else { "" };
                write!(f, " {name}=stack of {most}{from}")?;
            }
            FieldKind::Scratch { at, size } => write!(f, " {name}=scratch[{at}; {size}]")?,
        }
    }
    Ok(())
}

fn map(f: &mut fmt::Formatter<'_>, table: &Table, key: Key, op: &MapOp) -> fmt::Result {
    let home = match table.home {
        Home::Thread => "",
        Home::Session => "shared ",
    };
    write!(f, "{home}m{}", table.map)?;
    match key {
        Key::None => {}
        Key::Word(value) => write!(f, "[v{}]", value.0)?,
        Key::Scratch(at) => write!(f, "[scratch[{at}]]")?,
    }
    match op {
        MapOp::Aggregate(value) => {
            write!(f, " {}", aggregation(table.cell))?;
            value.map_or(Ok(()), |value| write!(f, " v{}", value.0))?;
        }
        MapOp::Get(local) => write!(f, " -> ${}", local.0)?,
        MapOp::GetScratch(at) => write!(f, " -> scratch[{at}]")?,
        MapOp::Has(local) => write!(f, " has -> ${}", local.0)?,
        MapOp::Set(value) => write!(f, " = v{}", value.0)?,
        MapOp::SetScratch(at) => write!(f, " = scratch[{at}]")?,
        MapOp::Add(value, old) => {
            write!(f, " += v{}", value.0)?;
            old.map_or(Ok(()), |old| write!(f, ", before -> ${}", old.0))?;
        }
        MapOp::Delete(existed) => {
            write!(f, " delete")?;
            existed.map_or(Ok(()), |local| write!(f, " -> ${}", local.0))?;
        }
        MapOp::Len(local) => write!(f, " len -> ${}", local.0)?,
    }
    writeln!(f)
}

fn aggregation(cell: Cell) -> &'static str {
    match cell {
        Cell::Count => "count",
        Cell::Sum => "sum",
        Cell::Average => "average",
        Cell::Least { .. } => "least",
        Cell::Greatest { .. } => "greatest",
        Cell::Powers { .. } => "powers",
        Cell::Steps { .. } => "steps",
        Cell::Word | Cell::Wide(_) => "store",
    }
}

fn name(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "add",
        BinaryOp::Sub => "sub",
        BinaryOp::Mul => "mul",
        BinaryOp::Div => "div",
        BinaryOp::SignedDiv => "sdiv",
        BinaryOp::Rem => "rem",
        BinaryOp::SignedRem => "srem",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Xor => "xor",
        BinaryOp::Shl => "shl",
        BinaryOp::Shr => "shr",
        BinaryOp::Sar => "sar",
        BinaryOp::Equal => "eq",
        BinaryOp::NotEqual => "ne",
        BinaryOp::Less => "lt",
        BinaryOp::SignedLess => "slt",
        BinaryOp::LessEqual => "le",
        BinaryOp::SignedLessEqual => "sle",
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bits())
    }
}

#[cfg(test)]
mod tests {
    use crate::program::{Effect, Field, FieldKind, Inst, Program, Record, Width};

    #[test]
    fn a_program_reads_as_it_runs() {
        let mut program = Program::count();
        let base = program.push(Inst::Arg(0));
        let value = program.push(Inst::Load {
            base,
            offset: -8,
            width: Width::W32,
            signed: true,
        });
        let format = crate::program::IntFormat::Signed(Width::W32);
        let field = Field {
            name: "n".into(),
            kind: FieldKind::Int { value, format },
        };
        program.effects.push(Effect::Record(Record {
            action: 0,
            time: true,
            fields: vec![field],
        }));
        assert_eq!(
            program.to_string(),
            "v0 = arg 0\nv1 = load.s32 [v0-8]\ncount\nrecord time n=v1\n"
        );
    }
}
