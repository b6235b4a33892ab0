//! Arguments to a [`Program`]: count the hit, record the values. The only front end of `-p`;
//! knows a machine only by the numbers `regs` gives for its register names.
//! Invariant: what it returns passes [`Program::check`].

use super::arg::number_duplicates;
use super::diagnostic::Diagnostic;
use super::tree::{ArgExpr, ArgSpec, Format, Kind, ProbeSpec};
use crate::program::{
    BinaryOp, Effect, Field, FieldKind, Inst, IntFormat, Moment, Program, Record, RegId, Value,
    Width,
};

/// Most bytes of a string that a hit records.
pub const STRING_MAX: u16 = 256;
/// Integer arguments in registers; the others follow the return address on the stack (System V
/// ABI, AMD64, 3.2.3).
const REGISTER_ARGS: u32 = 6;
/// The register of the value that a function returns, by its DWARF number (System V ABI AMD64, 3.2.3).
const RETURN_VALUE: RegId = RegId(0);
/// Most fields of a record; its fault bits are 32.
const MAX_FIELDS: usize = 32;
/// How many a return has of its own.
const ENDS: usize = 2;

/// Lowers the probe's arguments to a program that counts and records. `args` are those of `spec`,
/// with [`ArgExpr::Named`] and [`ArgExpr::AllArgs`] replaced by what the debug information says;
/// each keeps the span it came from. `time`: whether the record carries a time. `regs` gives the
/// number of a register named without `%`; `sp` is the stack pointer.
pub fn lower(
    spec: &ProbeSpec,
    args: &[ArgSpec],
    time: bool,
    regs: &dyn Fn(&str) -> Option<RegId>,
) -> Result<Program, Diagnostic> {
    let most = match spec.kind {
        Kind::Return => MAX_FIELDS - ENDS,
        Kind::Entry | Kind::Call | Kind::Stop => MAX_FIELDS,
    };
    if let Some(first) = args.get(most) {
        return Err(spec.error_at(
            first.span.clone(),
            format!("{} arguments, at most {most} fit a record", args.len()),
        ));
    }
    let mut args = args.to_vec();
    number_duplicates(&mut args);
    let mut lowering = Lowering {
        spec,
        regs,
        program: Program::count(),
    };
    let mut fields = Vec::with_capacity(args.len());
    for arg in &args {
        let kind = lowering.field(arg)?;
        fields.push(Field {
            name: arg.name.clone(),
            kind,
        });
    }
    let mut program = lowering.program;
    if spec.kind == Kind::Return {
        program.moment = Moment::Return {
            ends: true,
            from: None,
        };
        for (name, inst) in [("ret", Inst::Reg(RETURN_VALUE)), ("began", Inst::Began)] {
            let value = program.push(inst);
            let format = IntFormat::Hex(Width::W64);
            fields.push(Field {
                name: name.to_owned(),
                kind: FieldKind::Int { value, format },
            });
        }
    }
    program.effects.push(Effect::Record(Record {
        action: 0,
        time,
        fields,
    }));
    match program.check() {
        Ok(()) => Ok(program),
        Err(message) => Err(spec.error_at(0..spec.text.len(), message)),
    }
}

struct Lowering<'a> {
    spec: &'a ProbeSpec,
    regs: &'a dyn Fn(&str) -> Option<RegId>,
    program: Program,
}

impl Lowering<'_> {
    fn field(&mut self, arg: &ArgSpec) -> Result<FieldKind, Diagnostic> {
        let integer = |value, format| FieldKind::Int { value, format };
        Ok(match arg.format {
            Format::Default => {
                let value = self.read(arg, &arg.value, Width::W64, false)?;
                integer(value, IntFormat::Hex(Width::W64))
            }
            Format::Int(format) => {
                let (width, signed) = shape(format);
                integer(self.read(arg, &arg.value, width, signed)?, format)
            }
            Format::Bits {
                width,
                offset,
                container,
            } => {
                let container = match container {
                    8 => Width::W8,
                    16 => Width::W16,
                    32 => Width::W32,
                    _ => Width::W64,
                };
                let mut value = self.read(arg, &arg.value, container, false)?;
                if offset > 0 {
                    let by = self.shared(Inst::Const(u64::from(offset)));
                    value = self.program.push(Inst::Binary(BinaryOp::Shr, value, by));
                }
                if width < 64 {
                    let mask = self.shared(Inst::Const((1_u64 << width) - 1));
                    value = self.program.push(Inst::Binary(BinaryOp::And, value, mask));
                }
                integer(value, IntFormat::Unsigned(container))
            }
            Format::Str => {
                let pointer = match &arg.value {
                    ArgExpr::Deref { offset, inner } => {
                        let base = self.read(arg, inner, Width::W64, false)?;
                        self.add(base, *offset)
                    }
                    other => self.read(arg, other, Width::W64, false)?,
                };
                FieldKind::Str {
                    pointer,
                    max: STRING_MAX,
                }
            }
        })
    }

    /// The value of `expr`; memory of the outermost dereference is read in this shape, pointers
    /// on the way in 64 bits.
    fn read(
        &mut self,
        arg: &ArgSpec,
        expr: &ArgExpr,
        width: Width,
        signed: bool,
    ) -> Result<Value, Diagnostic> {
        let error = |message: String| self.spec.error_at(arg.span.clone(), message);
        match expr {
            ArgExpr::Reg(name) => match (self.regs)(name) {
                Some(reg) => Ok(self.shared(Inst::Reg(reg))),
                None => Err(error(format!("there is no register `%{name}`"))
                    .help("they are %ax %bx %cx %dx %si %di %bp %sp %r8 to %r15")),
            },
            ArgExpr::Arg(_) if self.spec.kind == Kind::Return => Err(error(
                "arguments are gone when a function returns".to_owned(),
            )
            .help("probe the entry, too")),
            ArgExpr::Arg(n @ 1..=REGISTER_ARGS) => {
                let index = u8::try_from(n - 1).unwrap_or(u8::MAX);
                Ok(self.shared(Inst::Arg(index)))
            }
            ArgExpr::Arg(n) => self.stack(arg, n.saturating_sub(REGISTER_ARGS)),
            ArgExpr::RetVal if self.spec.kind != Kind::Return => {
                Err(error("there is no return value at an entry".to_owned())
                    .help("as in -p 'malloc%return $retval'"))
            }
            ArgExpr::RetVal => Ok(self.shared(Inst::Reg(RETURN_VALUE))),
            ArgExpr::StackPointer => match (self.regs)("sp") {
                Some(reg) => Ok(self.shared(Inst::Reg(reg))),
                None => Err(error("this machine has no stack pointer".to_owned())),
            },
            ArgExpr::Stack(n) => self.stack(arg, *n),
            ArgExpr::Const(n) => Ok(self.shared(Inst::Const(*n))),
            ArgExpr::Deref { offset, inner } => {
                let base = self.read(arg, inner, Width::W64, false)?;
                Ok(self.load(base, *offset, width, signed))
            }
            ArgExpr::Named(name) => Err(error(format!(
                "no debug information says where `{name}` is here"
            ))
            .help("name a register, as in x=%di, or an argument, as in x=$arg1")),
            ArgExpr::AllArgs => Err(error(
                "no debug information says what the arguments are here".to_owned(),
            )
            .help("name registers, as in x=%di, or arguments, as in x=$arg1")),
        }
    }

    fn stack(&mut self, arg: &ArgSpec, n: u32) -> Result<Value, Diagnostic> {
        let sp = self.read(arg, &ArgExpr::StackPointer, Width::W64, false)?;
        Ok(self.load(sp, 8 * i64::from(n), Width::W64, false))
    }

    fn load(&mut self, base: Value, offset: i64, width: Width, signed: bool) -> Value {
        let (base, offset) = match i32::try_from(offset) {
            Ok(offset) => (base, offset),
            Err(_) => (self.add(base, offset), 0),
        };
        self.program.push(Inst::Load {
            base,
            offset,
            width,
            signed,
        })
    }

    fn add(&mut self, base: Value, offset: i64) -> Value {
        if offset == 0 {
            return base;
        }
        let offset = self.shared(Inst::Const(offset.cast_unsigned()));
        self.program.push(Inst::Binary(BinaryOp::Add, base, offset))
    }

    /// A value that cannot fault, made once. Loads are not shared: each argument has its own fault.
    fn shared(&mut self, inst: Inst) -> Value {
        let found = self.program.values.iter().position(|v| *v == inst);
        match found.and_then(|index| u16::try_from(index).ok()) {
            Some(index) => Value(index),
            None => self.program.push(inst),
        }
    }
}

fn shape(format: IntFormat) -> (Width, bool) {
    match format {
        IntFormat::Hex(width) | IntFormat::Unsigned(width) => (width, false),
        IntFormat::Signed(width) => (width, true),
        IntFormat::Char | IntFormat::Bool => (Width::W8, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse_probe;

    /// DWARF numbers of a few registers.
    fn regs(name: &str) -> Option<RegId> {
        let names = ["ax", "dx", "cx", "bx", "si", "di", "bp", "sp"];
        let index = names.iter().position(|n| *n == name)?;
        u8::try_from(index).ok().map(RegId)
    }

    fn lowered(text: &str) -> String {
        let spec = parse_probe(text).unwrap();
        match lower(&spec, &spec.args, true, &regs) {
            Ok(program) => program.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_probe_without_arguments_records_the_hit() {
        assert_eq!(lowered("malloc"), "count\nrecord time\n");
    }

    #[test]
    fn typed_memory_is_read_in_its_width() {
        assert_eq!(
            lowered("f a=+4(%di):s16 b=%di b2=+8(+0(%di))"),
            "v0 = reg 5\nv1 = load.s16 [v0+4]\nv2 = load.u64 [v0+0]\nv3 = load.u64 [v2+8]\n\
             count\nrecord time a=v1 b=v0 b2=v3\n"
        );
    }

    #[test]
    fn a_string_is_where_its_dereference_points() {
        assert_eq!(
            lowered("f a=+0(%di):string b=+16(%di):string c=%di:string d=+0(+8(%si)):string"),
            "v0 = reg 5\nv1 = const 0x10\nv2 = add v0, v1\nv3 = reg 4\nv4 = load.u64 [v3+8]\n\
             count\nrecord time a=str(v0, 256) b=str(v2, 256) c=str(v0, 256) d=str(v4, 256)\n"
        );
    }

    #[test]
    fn arguments_beyond_the_sixth_are_on_the_stack() {
        assert_eq!(
            lowered("f $arg6 $arg7 $stack $stack2"),
            "v0 = arg 5\nv1 = reg 7\nv2 = load.u64 [v1+8]\nv3 = load.u64 [v1+16]\n\
             count\nrecord time arg6=v0 arg7=v2 stack=v1 stack2=v3\n"
        );
    }

    #[test]
    fn bits_are_shifted_and_masked() {
        assert_eq!(
            lowered("f x=%ax:b4@3/8 y=+0(%ax):b64@0/64"),
            "v0 = reg 0\nv1 = const 0x3\nv2 = shr v0, v1\nv3 = const 0xf\nv4 = and v2, v3\n\
             v5 = load.u64 [v0+0]\ncount\nrecord time x=v4 y=v5\n"
        );
    }

    #[test]
    fn a_far_displacement_is_added_first() {
        let text = "v0 = reg 5\nv1 = const 0x80000000\nv2 = add v0, v1\nv3 = load.u64 [v2+0]\n\
                    count\nrecord time di=v3\n";
        assert_eq!(lowered("f +0x80000000(%di)"), text);
    }

    #[test]
    fn what_is_unknown_is_named_with_its_place() {
        assert!(
            lowered("f x=%foo")
                .starts_with("error: there is no register `%foo`\n  f x=%foo\n    ^^^^^^")
        );
        assert!(lowered("f size").contains("no debug information says where `size` is"));
        let many = format!("f{}", " %di".repeat(33));
        assert!(lowered(&many).contains("33 arguments, at most 32 fit a record"));
    }
}
