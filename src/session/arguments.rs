//! What a probe records at a place: its arguments, by register or by what debug information calls
//! them, and the program that reads them.

use super::module::Module;
use super::wanted::Wanted;
use crate::arch::native::regs;
use crate::base::LinkAddr;
use crate::program::{IntFormat, Moment, Program, Width};
use crate::spec::{ArgExpr, ArgSpec, Diagnostic, Format, Kind, ProbeSpec, lower};
use crate::symbols::{self, Param, ParamClass};

/// A place as far as arguments go.
pub(super) struct Entry<'a> {
    pub(super) at: LinkAddr,
    pub(super) name: &'a str,
    /// Whether it is the entry of a function.
    pub(super) entry: bool,
}

/// Integer arguments that are passed in registers (System V ABI AMD64, section 3.2.3).
const IN_REGISTERS: u32 = 6;

/// Bytes of the largest record that any of the probes may leave, wherever they turn out to be; 0
/// when none leaves any.
pub(super) fn largest_record(wanted: &Wanted) -> u32 {
    let registers = |name: &str| regs::parse(name).map(|named| named.id);
    let size = |spec: &ProbeSpec| {
        if wanted.count_only {
            return None;
        }
        let mut most = Vec::new();
        for arg in &spec.args {
            let by_number = |number| ArgSpec {
                name: format!("{}{}", arg.name, most.len()),
                value: ArgExpr::Arg(number),
                ..arg.clone()
            };
            match &arg.value {
                ArgExpr::AllArgs => {
                    let all: Vec<ArgSpec> = (1..=IN_REGISTERS).map(by_number).collect();
                    most.extend(all);
                }
                value if value.needs_debug_info() => {
                    let one = by_number(1);
                    most.push(one);
                }
                _ => most.push(arg.clone()),
            }
        }
        let halves = spec.halves().into_iter();
        let sizes = halves.filter_map(|half| {
            let program = lower(&half, &most, true, &registers).ok();
            program.map(|program| program.largest_record())
        });
        sizes.max().map(|size| size + wanted.stacks.size())
    };
    let number = |(number, spec)| match wanted.program(number) {
        Some(program) => {
            let copy = wanted.copy(number).map_or(0, Program::largest_record);
            Some(copy.max(program.largest_record()))
        }
        None => size(spec),
    };
    let sizes = wanted.specs.iter().enumerate().filter_map(number);
    sizes.max().unwrap_or(0)
}

/// The program of a probe at a place, and the names of its arguments.
pub(super) fn program(
    module: &Module,
    place: &Entry<'_>,
    (spec, number, wanted): (&ProbeSpec, usize, &Wanted),
    by_frame_pointers: bool,
    last: &mut Option<(Vec<ArgSpec>, Program)>,
) -> Result<(Program, Vec<String>), Diagnostic> {
    if let Some(program) = wanted.program(number) {
        let copy = wanted.copy(number).filter(|_| !by_frame_pointers);
        let program = copy.unwrap_or(program);
        return Ok((program.clone(), names(program)));
    }
    if spec.kind == Kind::Return && !place.entry {
        return Err(spec.error("a return probe needs the entry of a function"));
    }
    if wanted.count_only {
        let moment = match spec.kind {
            Kind::Return => Moment::Return {
                ends: false,
                from: None,
            },
            Kind::Entry | Kind::Stop | Kind::Call => Moment::Arrival,
        };
        let program = Program {
            moment,
            ..Program::count()
        };
        return Ok((program, Vec::new()));
    }
    let args = if spec.args.iter().any(|arg| arg.value.needs_debug_info()) {
        if !place.entry {
            return Err(spec.error("arguments by name are known at the entry of a function only"));
        }
        from_debug_info(module, place, spec)?
    } else {
        spec.args.clone()
    };
    let program = match last {
        Some((same, program)) if *same == args => program.clone(),
        _ => {
            let registers = |name: &str| regs::parse(name).map(|named| named.id);
            let program = lower(spec, &args, true, &registers)?;
            *last = Some((args, program.clone()));
            program
        }
    };
    let mut program = program;
    let mut names = names(&program);
    let on_top = place.entry || spec.kind == Kind::Return;
    wanted
        .stacks
        .record(&mut program, by_frame_pointers, on_top);
    if spec.kind == Kind::Return {
        // What every return tells follows them.
        names.truncate(names.len().saturating_sub(2));
    }
    Ok((program, names))
}

/// Names of what the first record of a program holds.
fn names(program: &Program) -> Vec<String> {
    let records = program.records();
    let fields = records.first().map(|record| record.fields.iter());
    let names = fields.into_iter().flatten();
    names.map(|field| field.name.clone()).collect()
}

/// Replaces `$args` and named parameters by registers, formats and names from DWARF.
fn from_debug_info(
    module: &Module,
    place: &Entry<'_>,
    spec: &ProbeSpec,
) -> Result<Vec<ArgSpec>, Diagnostic> {
    let params = symbols::params(module.image(), module.debug(), place.at);
    let mut out = Vec::new();
    for arg in &spec.args {
        match &arg.value {
            ArgExpr::AllArgs => {
                // Without debug information there is nothing to show; for a pattern that is no
                // reason to refuse the functions that have it.
                let Some(params) = &params else {
                    if spec.is_pattern() {
                        continue;
                    }
                    let name = &place.name;
                    return Err(spec.error_at(
                        arg.span.clone(),
                        format!("no debug information for {name}: its arguments have no names"),
                    ));
                };
                for (number, param) in integer_params(params) {
                    out.push(by_number(arg, param, number));
                }
            }
            ArgExpr::Named(name) => {
                let known = params.as_deref().unwrap_or_default();
                let found = integer_params(known).find(|(_, param)| param.name == *name);
                let Some((number, param)) = found else {
                    return Err(unknown_param(spec, arg, name, known));
                };
                out.push(by_number(arg, param, number));
            }
            _ if arg.value.needs_debug_info() => {
                let message = "memory behind a named argument is not read yet; use +OFFSET($argN)";
                return Err(spec.error_at(arg.span.clone(), message));
            }
            _ => out.push(arg.clone()),
        }
    }
    Ok(out)
}

fn unknown_param(spec: &ProbeSpec, arg: &ArgSpec, name: &str, known: &[Param]) -> Diagnostic {
    let names: Vec<&str> = known.iter().map(|param| param.name.as_str()).collect();
    let error = spec.error_at(
        arg.span.clone(),
        format!("no parameter {name} in its debug information"),
    );
    if names.is_empty() {
        error.help("it has none; registers and $arg1, $arg2... need no debug information")
    } else {
        error.help(format!("its parameters are {}", names.join(", ")))
    }
}

/// Parameters passed in integer registers, each with its number among these. What follows one
/// whose place is not certain is left out (System V ABI AMD64, section 3.2.3).
fn integer_params(params: &[Param]) -> impl Iterator<Item = (u32, &Param)> {
    let mut next = 0;
    let mut certain = true;
    params.iter().filter_map(move |param| match param.class {
        ParamClass::Int { width, .. } if certain && width <= 8 => {
            next += 1;
            Some((next, param))
        }
        ParamClass::Float { .. } => None,
        _ => {
            certain = false;
            None
        }
    })
}

fn by_number(arg: &ArgSpec, param: &Param, number: u32) -> ArgSpec {
    let format = match (arg.format, &param.class) {
        (
            Format::Default,
            ParamClass::Int {
                width,
                signed,
                is_char,
                is_bool,
                is_pointer,
                ..
            },
        ) => {
            let width = match width {
                1 => Width::W8,
                2 => Width::W16,
                4 => Width::W32,
                _ => Width::W64,
            };
            Format::Int(match (is_char, is_bool, is_pointer, signed) {
                (true, ..) => IntFormat::Char,
                (_, true, ..) => IntFormat::Bool,
                (.., true, _) => IntFormat::Hex(width),
                (.., true) => IntFormat::Signed(width),
                _ => IntFormat::Unsigned(width),
            })
        }
        (format, _) => format,
    };
    let name = if arg.name.is_empty() || arg.value == ArgExpr::AllArgs {
        if param.name.is_empty() {
            format!("arg{number}")
        } else {
            param.name.clone()
        }
    } else {
        arg.name.clone()
    };
    ArgSpec {
        name,
        value: ArgExpr::Arg(number),
        format,
        span: arg.span.clone(),
    }
}
