//! The readable form of a program, for `check -v` and for golden tests.

use std::fmt;

use super::{BinaryOp, Effect, FieldKind, Inst, Program, Width};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, inst) in self.values.iter().enumerate() {
            write!(f, "v{index} = ")?;
            match *inst {
                Inst::Const(n) => writeln!(f, "const {n:#x}")?,
                Inst::Reg(reg) => writeln!(f, "reg {}", reg.0)?,
                Inst::Arg(n) => writeln!(f, "arg {n}")?,
                Inst::Binary(op, a, b) => writeln!(f, "{} v{}, v{}", name(op), a.0, b.0)?,
                Inst::Load {
                    base,
                    offset,
                    width,
                    signed,
                } => {
                    let kind = if signed { 's' } else { 'u' };
                    writeln!(f, "load.{kind}{} [v{}{offset:+}]", width.bits(), base.0)?;
                }
            }
        }
        for effect in &self.effects {
            match effect {
                Effect::Count => writeln!(f, "count")?,
                Effect::Ask => writeln!(f, "ask")?,
                Effect::Record(record) => {
                    write!(f, "record{}", if record.time { " time" } else { "" })?;
                    for field in &record.fields {
                        match field.kind {
                            FieldKind::Int { value, .. } => {
                                write!(f, " {}=v{}", field.name, value.0)?
                            }
                            FieldKind::Str { pointer, max } => {
                                write!(f, " {}=str(v{}, {max})", field.name, pointer.0)?;
                            }
                        }
                    }
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

fn name(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "add",
        BinaryOp::Sub => "sub",
        BinaryOp::And => "and",
        BinaryOp::Shr => "shr",
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
            time: true,
            fields: vec![field],
        }));
        assert_eq!(
            program.to_string(),
            "v0 = arg 0\nv1 = load.s32 [v0-8]\ncount\nrecord time n=v1\n"
        );
    }
}
