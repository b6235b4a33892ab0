//! What is known at a hit: arguments, the returned value, registers, the stack; and where.

use super::functions::Call;
use super::{Checker, I64, U64, bad, texts};
use crate::base::suggest;
use crate::language::source::Span;
use crate::language::tree;
use crate::language::typed::{Attach, Expr, ExprKind, StackMode, Type};
use crate::program::Width;

/// Most frames of a stack; bpftrace's default and limit.
const MAX_FRAMES: u32 = 127;

impl Checker<'_, '_> {
    fn attach(&self) -> &[Attach] {
        self.group
            .as_ref()
            .map_or(&[], |group| group.attach.as_slice())
    }

    /// Whether every probe of the block is in the target; says so where not.
    pub(super) fn at_probe(&mut self, name: &str, span: &Span) -> bool {
        let other = self.attach().iter().find_map(|attach| match attach {
            Attach::Begin => Some("BEGIN"),
            Attach::End => Some("END"),
            Attach::Interval(_) => Some("an interval"),
            _ => None,
        });
        if let Some(other) = other {
            self.error_help(
                span,
                format!("`{name}` is not known in {other}"),
                "no thread of the target is at a probe there",
            );
        }
        other.is_none()
    }

    /// Whether every probe of the block is at an entry.
    pub(super) fn at_entry(&mut self, name: &str, span: &Span) -> bool {
        if !self.at_probe(name, span) {
            return false;
        }
        let returns = |attach: &Attach| matches!(attach, Attach::Return(_));
        if self.attach().iter().any(returns) {
            let map = name.rsplit('.').next().unwrap_or(name);
            self.error_help(
                span,
                format!("`{name}` is not known when a function returns"),
                format!("keep it at the entry: uprobe:... {{ @{map}[tid] = {name}; }}"),
            );
            return false;
        }
        let inside = self.group.as_ref().and_then(|group| {
            let mut points = group.points();
            points.find(|p| {
                matches!(p.spec.location, crate::spec::Location::Symbol { offset, .. } if offset != 0)
            })
        });
        if let Some(point) = inside {
            let text = point.text.clone();
            self.reports.warn(
                span,
                format!("`{name}` may be gone at {text}"),
                "arguments are known at a function's first instruction; a register is reg(\"ax\")",
            );
        }
        true
    }

    /// `argN`
    pub(super) fn argument(&mut self, n: u8, span: &Span) -> Expr {
        let name = format!("arg{n}");
        if !self.at_entry(&name, span) {
            return bad(span);
        }
        let has_usdt = self.attach().iter().any(|a| matches!(a, Attach::Usdt(_)));
        if has_usdt {
            return self.noted_argument(n, span);
        }
        Expr {
            kind: ExprKind::Arg(n),
            ty: U64,
            span: span.clone(),
        }
    }

    fn noted_argument(&mut self, n: u8, span: &Span) -> Expr {
        let group = self.group.as_ref();
        let noted = group.and_then(|g| g.arguments.noted.get(&n).cloned());
        match noted {
            Some(Ok(text)) => Expr {
                ty: usdt_type(&text),
                kind: ExprKind::Usdt(text),
                span: span.clone(),
            },
            Some(Err(why)) => {
                let point = group.and_then(|g| g.points().next());
                let mut at = point.map_or(String::new(), |p| p.text.clone());
                let short = group.and_then(|g| g.arguments.short.as_ref());
                if let (Some(name), true) = (short, at.contains(['*', '?'])) {
                    at.push_str(&format!(" ({name})"));
                }
                let message = format!("`arg{n}` of {at} is not known: {why}");
                self.error(span, message)
            }
            None => bad(span),
        }
    }

    /// `args.NAME`
    pub(super) fn named_argument(&mut self, name: &tree::Name, span: &Span) -> Expr {
        let shown = format!("args.{}", name.text);
        if !self.at_entry(&shown, span) {
            return bad(span);
        }
        if self.attach().iter().any(|a| matches!(a, Attach::Usdt(_))) {
            return self.error_help(
                span,
                "the arguments of a USDT probe have no names",
                "they are arg0, arg1, ...",
            );
        }
        let Some(group) = self.group.clone() else {
            return bad(span);
        };
        let at = group
            .points()
            .next()
            .map_or(String::new(), |p| p.text.clone());
        match group.arguments.named.get(&name.text) {
            Some(Ok((ty, Some(n)))) => self.passed(ty.clone(), *n, span),
            Some(Ok((ty, None))) => {
                let message = format!(
                    "`{shown}` is {} and not passed in one register",
                    texts::a(ty)
                );
                self.error_help(
                    span,
                    message,
                    "floating-point arguments are farg0, farg1, ...; words on the stack sarg0, sarg1, ...",
                )
            }
            Some(Err(why)) if why.is_empty() => {
                let message = format!("{at} has no parameter `{}`", name.text);
                let names = &group.arguments.names;
                let close = suggest::closest(&name.text, names.iter().map(String::as_str));
                let help = match (close, names.is_empty()) {
                    (Some(close), _) => format!("did you mean `args.{close}`?"),
                    (None, true) => "it has none".to_owned(),
                    (None, false) => format!("it has {}", names.join(", ")),
                };
                self.error_help(&name.span, message, help)
            }
            Some(Err(why)) => {
                let message = format!("the parameters of {at} are not known: {why}");
                self.error_help(
                    span,
                    message,
                    "arguments by number are arg0, arg1, ...; a cast gives a type: (struct name *)arg0",
                )
            }
            None => bad(span),
        }
    }

    /// An argument in its type.
    fn passed(&mut self, ty: Type, n: u8, span: &Span) -> Expr {
        if let Type::Float | Type::Single = ty {
            return Expr {
                kind: ExprKind::FloatArg(n),
                ty,
                span: span.clone(),
            };
        }
        let argument = Expr {
            kind: ExprKind::Arg(n),
            ty: U64,
            span: span.clone(),
        };
        match &ty {
            Type::Int {
                width: Width::W64,
                signed: false,
            } => argument,
            Type::Int { .. } | Type::Pointer(_) => Expr {
                kind: ExprKind::Cast(Box::new(argument)),
                ty,
                span: span.clone(),
            },
            // An array that is passed is its address.
            Type::Array { of, .. } => Expr {
                ty: Type::Pointer(of.clone()),
                kind: ExprKind::Cast(Box::new(argument)),
                span: span.clone(),
            },
            Type::Void => argument,
            ty => {
                let message = format!("{} is not passed as one argument", texts::a(ty));
                self.error_help(span, message, "its words are arg0, arg1, ...")
            }
        }
    }

    pub(super) fn retval(&mut self, span: &Span) -> Expr {
        if !self.at_probe("retval", span) {
            return bad(span);
        }
        let elsewhere = self.attach().iter().find_map(|attach| match attach {
            Attach::Entry(point) | Attach::Usdt(point) => Some(point.text.clone()),
            _ => None,
        });
        if let Some(text) = elsewhere {
            let help = match text.strip_prefix("uprobe:") {
                Some(rest) => format!("it is known in uretprobe:{rest}"),
                None => "it is known in a uretprobe".to_owned(),
            };
            return self.error_help(span, format!("`retval` is not known at {text}"), help);
        }
        Expr {
            kind: ExprKind::Builtin(crate::language::typed::Builtin::Retval),
            ty: U64,
            span: span.clone(),
        }
    }

    /// `reg("ax")`
    pub(super) fn reg(&mut self, call: &Call<'_>) -> Expr {
        if !self.at_probe("reg", call.span) {
            return bad(call.span);
        }
        let Some(first) = call.args.first() else {
            return bad(call.span);
        };
        let Some(name) = self.literal_text(first, "the register") else {
            return bad(call.span);
        };
        const KNOWN: &[&str] = &[
            "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags", "r8", "r9", "r10",
            "r11", "r12", "r13", "r14", "r15",
        ];
        let plain = name.strip_prefix('%').unwrap_or(&name);
        let short = plain.strip_prefix('r').filter(|rest| KNOWN.contains(rest));
        let short = short.unwrap_or(plain);
        if !KNOWN.contains(&short) {
            let message = format!("there is no register `{name}`");
            let help = format!("there are {}", KNOWN.join(", "));
            return self.error_help(&first.span, message, help);
        }
        Expr {
            kind: ExprKind::Reg(short.to_owned()),
            ty: U64,
            span: call.span.clone(),
        }
    }

    /// `ustack`, `ustack(n)`, `ustack(perf)`, `ustack(perf, n)`
    pub(super) fn ustack(&mut self, args: &[tree::Expr], span: &Span) -> Expr {
        if !self.at_probe("ustack", span) {
            return bad(span);
        }
        let mut mode = self.stack_mode;
        let mut rest = args;
        if let Some((first, others)) = args.split_first()
            && let tree::ExprKind::Ident(word) = &first.kind
        {
            mode = match stack_mode(word) {
                Some(mode) => mode,
                None => {
                    let message = format!("there is no stack mode `{word}`");
                    return self.error_help(&first.span, message, "there are bpftrace, perf, raw");
                }
            };
            rest = others;
        }
        let frames = match rest {
            [] => i64::from(MAX_FRAMES),
            [n] => {
                let most = i64::from(MAX_FRAMES);
                match self.constant_between(n, 1, most, "the number of frames") {
                    Some(n) => n,
                    None => return bad(span),
                }
            }
            [_, extra, ..] => {
                return self.error_help(
                    &extra.span,
                    "`ustack` takes a mode and a number of frames",
                    "as in: ustack, ustack(5), ustack(perf), ustack(perf, 5)",
                );
            }
        };
        Expr {
            kind: ExprKind::Ustack,
            ty: Type::Ustack {
                frames: u32::try_from(frames).unwrap_or(MAX_FRAMES),
                mode,
            },
            span: span.clone(),
        }
    }

    /// `probetype`
    pub(super) fn probe_type(&mut self, span: &Span) -> Expr {
        let mut names = self.attach().iter().map(|attach| match attach {
            Attach::Begin | Attach::End => "special",
            Attach::Interval(_) => "interval",
            Attach::Entry(_) => "uprobe",
            Attach::Return(_) => "uretprobe",
            Attach::Usdt(_) => "usdt",
        });
        let first = names.next().unwrap_or("special");
        if names.any(|name| name != first) {
            return self.error_help(
                span,
                "the probes of this block are of several types",
                "give each type a block of its own",
            );
        }
        super::expr::string(first, span)
    }

    /// Whether the block's time of day is its own: `I64` of nanoseconds.
    pub(super) fn nanoseconds(&mut self, value: Expr) -> Expr {
        let value = self.integer(value, "a time");
        match value.ty {
            Type::Int { .. } => value,
            _ => Expr { ty: I64, ..value },
        }
    }
}

/// A stack mode by its name.
pub(in crate::language) fn stack_mode(word: &str) -> Option<StackMode> {
    Some(match word {
        "bpftrace" => StackMode::Bpftrace,
        "perf" => StackMode::Perf,
        "raw" => StackMode::Raw,
        _ => return None,
    })
}

/// The type of a USDT argument: `-4@%edi` is a signed integer of four bytes.
fn usdt_type(text: &str) -> Type {
    let size = text.split('@').next().unwrap_or_default();
    let signed = size.starts_with('-');
    let width = match size.trim_start_matches('-') {
        "1" => Width::W8,
        "2" => Width::W16,
        "4" => Width::W32,
        _ => Width::W64,
    };
    Type::Int { width, signed }
}
