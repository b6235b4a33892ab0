//! Functions: the table of all of them, one entry a word, and those that have a value.

use super::expr::string;
use super::functions::{Call, Function, How, MANY, function, function_names};
use super::operators::name_test;
use super::{BOOL, Checker, I64, U64, bad, texts};
use crate::base::suggest;
use crate::language::builtins::{self, Word};
use crate::language::source::Span;
use crate::language::token::number as number_of;
use crate::language::tree::{self, ExprKind as Ast, Name};
use crate::language::typed::{Builtin, Expr, ExprKind, MapValue, Match, StmtKind, Type, Unary};

impl Checker<'_, '_> {
    /// Whether a statement is a call of a function that does something.
    pub(super) fn is_effect(&self, expr: &tree::Expr) -> bool {
        let name = match &expr.kind {
            Ast::Call(name, _) => name.text.as_str(),
            Ast::Ident(name) => name.as_str(),
            _ => return false,
        };
        function(name).is_some_and(|f| matches!(f.how, How::Effect(_) | How::Unsafe(_)))
    }

    /// A call as a statement, if it is one of a function that does something.
    pub(super) fn effect(
        &mut self,
        name: &Name,
        args: &[tree::Expr],
        span: &Span,
    ) -> Option<Option<StmtKind>> {
        let found = function(&name.text)?;
        let (How::Effect(run) | How::Unsafe(run)) = found.how else {
            return None;
        };
        if matches!(found.how, How::Unsafe(_)) && !self.given.allow_unsafe {
            self.error_help(
                &name.span,
                format!("`{}` takes --unsafe", name.text),
                "it acts outside of the target, with your rights",
            );
        }
        let call = Call { name, args, span };
        if !self.takes(found, &call) {
            return Some(None);
        }
        Some(run(self, &call))
    }

    fn takes(&mut self, found: &Function, call: &Call<'_>) -> bool {
        let (least, most) = found.takes;
        let given = call.args.len();
        if (least..=most).contains(&given) {
            return true;
        }
        let wanted = match (least, most) {
            (least, most) if least == most => super::formats::count(least, "argument"),
            (least, MANY) => format!("at least {}", super::formats::count(least, "argument")),
            (least, most) => format!("{least} to {most} arguments"),
        };
        let message = format!("`{}` takes {wanted}, not {given}", found.name);
        let at = match call.args.get(most) {
            Some(extra) => extra.span.clone(),
            None => call.span.clone(),
        };
        self.error_help(&at, message, format!("as in: {}", found.usage));
        false
    }

    /// A call as a value.
    pub(super) fn call(&mut self, name: &Name, args: &[tree::Expr], span: &Span) -> Expr {
        if args.is_empty()
            && let Some(word) = builtins::word(&name.text)
        {
            return self.word(&name.text, word, span);
        }
        let Some(found) = function(&name.text) else {
            return self.unknown_function(name, args, span);
        };
        let call = Call { name, args, span };
        match found.how {
            How::Value(run) => match self.takes(found, &call) {
                true => run(self, &call),
                false => bad(span),
            },
            How::Effect(_) if name.text == "delete" => self.delete_value(&call),
            How::Effect(_) | How::Unsafe(_) => {
                let message = format!("`{}` has no value", name.text);
                self.error_help(&name.span, message, "it is a statement of its own")
            }
            How::Aggregate => {
                let message = format!("`{}` stands alone, on the right of `@x =`", name.text);
                self.error_help(&name.span, message, format!("as in: {}", found.usage))
            }
            How::Refused(instead) => {
                let message = format!("`{}` is not available here", name.text);
                self.error_help(&name.span, message, instead)
            }
        }
    }

    fn unknown_function(&mut self, name: &Name, args: &[tree::Expr], span: &Span) -> Expr {
        match builtins::word(&name.text) {
            // `pid(init)`: there is one namespace.
            Some(word @ Word::Value(Builtin::Pid | Builtin::Tid, _)) => {
                if let [only] = args
                    && matches!(&only.kind, Ast::Ident(mode) if mode == "curr_ns" || mode == "init")
                {
                    return self.word(&name.text, word, span);
                }
                let message = format!("`{}` takes no arguments", name.text);
                return self.error(span, message);
            }
            Some(_) => {
                let message = format!("`{}` takes no arguments", name.text);
                return self.error(span, message);
            }
            None => {}
        }
        if matches!(name.text.as_str(), "if" | "for" | "while" | "unroll") {
            return self.error(&name.span, format!("`{}` is a statement", name.text));
        }
        let message = format!("there is no function `{}`", name.text);
        let help = match suggest::closest(&name.text, function_names()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!(
                "functions are {}",
                function_names().take(12).collect::<Vec<_>>().join(", ") + ", ..."
            ),
        };
        self.error_help(&name.span, message, help)
    }

    /// The right side of `@x = count()` and the like.
    pub(super) fn aggregate(
        &mut self,
        name: &Name,
        args: &[tree::Expr],
        span: &Span,
    ) -> Option<(MapValue, Option<Expr>)> {
        let found = function(&name.text)?;
        if !self.takes(found, &Call { name, args, span }) {
            return None;
        }
        let Some((first, rest)) = args.split_first() else {
            return Some((MapValue::Count, None));
        };
        let value = self.expr(first);
        let value = self.integer(value, &format!("what `{}` takes", name.text));
        let signed = match value.ty {
            Type::Int { signed, .. } => signed,
            _ => true,
        };
        let kind = match name.text.as_str() {
            "sum" => MapValue::Sum { signed },
            "avg" => MapValue::Avg { signed },
            "min" => MapValue::Min { signed },
            "max" => MapValue::Max { signed },
            "stats" => MapValue::Stats { signed },
            "hist" => {
                let bits = match rest {
                    [bits] => self.constant_between(bits, 0, 5, "the bits of a histogram")?,
                    _ => 0,
                };
                let bits = u8::try_from(bits).unwrap_or(0);
                MapValue::Hist { bits }
            }
            _ => self.lhist(rest, span)?,
        };
        if value.ty == Type::Void && matches!(kind, MapValue::Sum { .. }) {
            return None;
        }
        Some((kind, Some(value)))
    }

    fn lhist(&mut self, rest: &[tree::Expr], span: &Span) -> Option<MapValue> {
        let [min, max, step] = rest else { return None };
        let min = self.constant_between(min, 0, i64::MAX, "the start of the histogram")?;
        let max = self.constant_between(max, 1, i64::MAX, "the end of the histogram")?;
        let step = self.constant_between(step, 1, i64::MAX, "the step of the histogram")?;
        if max <= min {
            self.error(
                span,
                format!("the histogram ends at {max}, where it starts at {min}"),
            );
            return None;
        }
        let buckets = (max - min).checked_div(step).unwrap_or(i64::MAX);
        if !(1..=1000).contains(&buckets) {
            let message = format!("the histogram has {buckets} steps");
            self.error_help(
                span,
                message,
                "there are 1 to 1000: lhist(value, min, max, step)",
            );
            return None;
        }
        Some(MapValue::Lhist { min, max, step })
    }

    fn first(&mut self, call: &Call<'_>) -> Expr {
        match call.args.first() {
            Some(first) => self.expr(first),
            None => bad(call.span),
        }
    }

    /// `str(pointer)`, `str(pointer, length)`, `str($1)`
    pub(super) fn str(&mut self, call: &Call<'_>) -> Expr {
        let span = call.span;
        let Some((first, rest)) = call.args.split_first() else {
            return bad(span);
        };
        if let Some(text) = self.parameter_string(first) {
            let text = match rest.first().and_then(|len| self.constant(len)) {
                Some(len) => cut(&text, usize::try_from(len).unwrap_or(0)),
                None => text,
            };
            return string(&text, span);
        }
        let refs: Vec<&tree::Expr> = call.args.iter().collect();
        let mut list = self.list(&refs).into_iter();
        let (Some(pointer), length) = (list.next(), list.next()) else {
            return bad(span);
        };
        let length = length.map(|length| self.integer(length, "a length"));
        let max = match length.as_ref().and_then(super::expr::value_of) {
            Some(n) if n < 0 => {
                return self.error(span, "a length cannot be negative");
            }
            Some(n) => u32::try_from(n).unwrap_or(u32::MAX).min(self.max_strlen),
            None => self.max_strlen,
        };
        match &pointer.ty {
            Type::Void => return bad(span),
            Type::Int { .. } | Type::Pointer(_) => {}
            Type::Array { of, len } if matches!(**of, Type::Int { .. }) => {
                // The array's own length is a limit too.
                let most = u32::try_from(*len).unwrap_or(u32::MAX);
                let max = if most == 0 { max } else { max.min(most) };
                let length = length.unwrap_or_else(|| super::number(i64::from(max), span));
                return Expr {
                    kind: ExprKind::StrAt(Box::new(pointer), Some(Box::new(length))),
                    ty: Type::Str { max },
                    span: span.clone(),
                };
            }
            Type::Str { .. } => {
                self.reports.warn(
                    &first.span,
                    "this is a string already",
                    "str(...) reads the string at an address",
                );
                return pointer;
            }
            ty => {
                let message = format!("`str` takes a pointer, not {}", texts::a(ty));
                return self.error(&first.span, message);
            }
        }
        if matches!(pointer.kind, ExprKind::Int(n) if n != 0) {
            return self.error_help(
                &first.span,
                "a number is no string",
                "a parameter as a string is str($1)",
            );
        }
        Expr {
            kind: ExprKind::StrAt(Box::new(pointer), length.map(Box::new)),
            ty: Type::Str { max },
            span: span.clone(),
        }
    }

    /// `$1`, `$1 + 2`: the text of a parameter.
    fn parameter_string(&mut self, expr: &tree::Expr) -> Option<String> {
        match &expr.kind {
            Ast::Parameter(n) => Some(self.parameter_text(*n).unwrap_or_default().to_owned()),
            Ast::Binary("+", left, right) => {
                let Ast::Parameter(n) = left.kind else {
                    return None;
                };
                let skip = self.constant(right)?;
                let text = self.parameter_text(n).unwrap_or_default().to_owned();
                let from = usize::try_from(skip).ok().filter(|at| *at <= text.len());
                let Some(from) = from else {
                    let message = format!("`${n}` is shorter than that");
                    self.error(&expr.span, message);
                    return Some(String::new());
                };
                Some(text.get(from..).unwrap_or_default().to_owned())
            }
            _ => None,
        }
    }

    /// `buf(pointer, length)`
    pub(super) fn buf(&mut self, call: &Call<'_>) -> Expr {
        let span = call.span;
        let refs: Vec<&tree::Expr> = call.args.iter().collect();
        let mut list = self.list(&refs).into_iter();
        let (Some(pointer), length) = (list.next(), list.next()) else {
            return bad(span);
        };
        let length = length.map(|length| self.integer(length, "a length"));
        let own = match &pointer.ty {
            Type::Void => return bad(span),
            Type::Int { .. } | Type::Pointer(_) => None,
            Type::Array { .. } | Type::Struct(_) => {
                let probes = self.probes();
                let ty = pointer.ty.clone();
                self.structures.size(&ty, &probes).map(|(size, _)| size)
            }
            Type::Str { .. } => {
                return self.error_help(
                    span,
                    "`buf` takes a pointer, not a string",
                    "leave out str",
                );
            }
            ty => {
                let message = format!("`buf` takes a pointer, not {}", texts::a(ty));
                return self.error(span, message);
            }
        };
        if length.is_none() && own.is_none() {
            return self.error_help(
                span,
                "`buf` needs a length here",
                "only an array has one of its own: buf(pointer, length)",
            );
        }
        let given = length.as_ref().and_then(super::expr::value_of);
        if given.is_some_and(|n| n < 0) {
            return self.error(span, "a length cannot be negative");
        }
        let known = given.and_then(|n| u64::try_from(n).ok());
        let most = match length {
            Some(_) => known,
            None => own,
        };
        let max = most.and_then(|n| u32::try_from(n).ok());
        let max = max.unwrap_or(u32::MAX).min(self.max_strlen);
        let length = length.unwrap_or_else(|| super::number(i64::from(max), span));
        Expr {
            kind: ExprKind::BufAt(Box::new(pointer), Some(Box::new(length))),
            ty: Type::Buf { max },
            span: span.clone(),
        }
    }

    pub(super) fn usym(&mut self, call: &Call<'_>) -> Expr {
        let value = self.first(call);
        let value = self.integer(value, "what `usym` takes");
        if value.ty == Type::Void {
            return bad(call.span);
        }
        Expr {
            kind: ExprKind::Usym(Box::new(value)),
            ty: Type::Usym,
            span: call.span.clone(),
        }
    }

    pub(super) fn ustack_call(&mut self, call: &Call<'_>) -> Expr {
        self.ustack(call.args, call.span)
    }

    pub(super) fn ntop(&mut self, call: &Call<'_>) -> Expr {
        let refs: Vec<&tree::Expr> = call.args.iter().collect();
        let mut list = self.list(&refs);
        let Some(address) = list.pop() else {
            return bad(call.span);
        };
        let family = list.pop().map(|family| self.integer(family, "a family"));
        match &address.ty {
            Type::Void => return bad(call.span),
            Type::Int { .. } | Type::Pointer(_) => {}
            Type::Array { of, len: 4 | 16 } if matches!(**of, Type::Int { .. }) => {}
            Type::Struct(_) => {}
            ty => {
                let message = format!("`ntop` takes an address, not {}", texts::a(ty));
                return self.error_help(
                    &address.span.clone(),
                    message,
                    "an integer of 32 bits, or 4 or 16 bytes",
                );
            }
        }
        Expr {
            kind: ExprKind::Ntop(family.map(Box::new), Box::new(address)),
            ty: Type::Inet,
            span: call.span.clone(),
        }
    }

    pub(super) fn uptr(&mut self, call: &Call<'_>) -> Expr {
        let value = self.first(call);
        match value.ty {
            Type::Int { .. } | Type::Pointer(_) | Type::Void => value,
            ref ty => {
                let message = format!("`uptr` takes a pointer, not {}", texts::a(ty));
                self.error(call.span, message)
            }
        }
    }

    pub(super) fn strftime(&mut self, call: &Call<'_>) -> Expr {
        let [format, time] = call.args else {
            return bad(call.span);
        };
        let format = self.literal_text(format, "the format");
        let time = self.expr(time);
        let time = self.nanoseconds(time);
        let Some(format) = format.filter(|_| time.ty != Type::Void) else {
            return bad(call.span);
        };
        Expr {
            kind: ExprKind::Strftime(Box::new(time)),
            ty: Type::Time(format),
            span: call.span.clone(),
        }
    }

    fn two_strings(&mut self, call: &Call<'_>) -> Option<(Expr, Expr)> {
        let [a, b, ..] = call.args else { return None };
        let mut list = Vec::new();
        for value in self.list(&[a, b]) {
            list.push(self.decayed(value));
        }
        let mut list = list.into_iter();
        let (a, b) = (list.next()?, list.next()?);
        if name_test(&a, &b, Match::Contain).is_some() {
            return Some((a, b));
        }
        for value in [&a, &b] {
            match &value.ty {
                Type::Void => return None,
                Type::Str { .. } => {}
                ty => {
                    let message =
                        format!("`{}` takes strings, not {}", call.name.text, texts::a(ty));
                    let at = value.span.clone();
                    self.error_help(&at, message, "the string at an address is str(pointer)");
                    return None;
                }
            }
        }
        Some((a, b))
    }

    pub(super) fn strncmp(&mut self, call: &Call<'_>) -> Expr {
        let strings = self.two_strings(call);
        let Some(length) = call.args.get(2) else {
            return bad(call.span);
        };
        let most = i64::from(u32::MAX);
        let n = self.constant_between(length, 0, most, "the length");
        match (strings, n.and_then(|n| u32::try_from(n).ok())) {
            (Some((a, b)), Some(n)) => Expr {
                kind: match name_test(&a, &b, Match::Begin(n)) {
                    Some(test) => {
                        let called = Self::boolean(ExprKind::Called(test), call.span);
                        ExprKind::Unary(Unary::Not, Box::new(called))
                    }
                    None => ExprKind::Strncmp(Box::new(a), Box::new(b), n),
                },
                ty: I64,
                span: call.span.clone(),
            },
            _ => bad(call.span),
        }
    }

    pub(super) fn strcontains(&mut self, call: &Call<'_>) -> Expr {
        match self.two_strings(call) {
            Some((a, b)) => Expr {
                kind: match name_test(&a, &b, Match::Contain) {
                    Some(test) => ExprKind::Called(test),
                    None => ExprKind::Strcontains(Box::new(a), Box::new(b)),
                },
                ty: BOOL,
                span: call.span.clone(),
            },
            None => bad(call.span),
        }
    }

    pub(super) fn nsecs(&mut self, call: &Call<'_>) -> Expr {
        if let Some(mode) = call.args.first() {
            match &mode.kind {
                Ast::Ident(word) if matches!(word.as_str(), "monotonic" | "boot") => {}
                _ => {
                    return self.error_help(
                        &mode.span,
                        "there is no such clock",
                        "nsecs counts as CLOCK_MONOTONIC does: nsecs, nsecs(monotonic)",
                    );
                }
            }
        }
        Expr {
            kind: ExprKind::Builtin(Builtin::Nsecs),
            ty: U64,
            span: call.span.clone(),
        }
    }

    /// `getopt("name", default)`: from parameters `--name=value`.
    pub(super) fn getopt(&mut self, call: &Call<'_>) -> Expr {
        let Some((first, rest)) = call.args.split_first() else {
            return bad(call.span);
        };
        let Some(name) = self.literal_text(first, "the option's name") else {
            return bad(call.span);
        };
        let prefix = format!("--{name}");
        let given = self.given.parameters.iter().find_map(|parameter| {
            let rest = parameter.strip_prefix(&prefix)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None => rest.is_empty().then(|| "1".to_owned()),
            }
        });
        let flag = |text: &str| matches!(text, "1" | "true");
        let Some(default) = rest.first() else {
            let set = given.is_some_and(|text| flag(&text));
            return Expr {
                ty: BOOL,
                ..Self::flag(set, call.span)
            };
        };
        let default_value = self.expr(default);
        let Some(text) = given else {
            return default_value;
        };
        match default_value.ty {
            Type::Str { .. } => string(&text, call.span),
            Type::Int { .. } => {
                let (digits, negative) = match text.strip_prefix('-') {
                    Some(digits) => (digits, true),
                    None => (text.as_str(), false),
                };
                match number_of(digits) {
                    Ok(n) if n <= 1 << 63 => {
                        let n = n as i64;
                        super::number(if negative { n.wrapping_neg() } else { n }, call.span)
                    }
                    _ if matches!(text.as_str(), "true" | "false") => {
                        Self::flag(flag(&text), call.span)
                    }
                    _ => {
                        let message = format!("--{name}={text} is no number");
                        self.error(call.span, message)
                    }
                }
            }
            _ => self.error(&default.span, "the default is a number or a string"),
        }
    }

    pub(super) fn is_literal_call(&mut self, call: &Call<'_>) -> Expr {
        let literal = call
            .args
            .first()
            .is_some_and(|arg| matches!(arg.kind, Ast::Int(_) | Ast::Str(_) | Ast::Parameter(_)));
        Self::flag(literal, call.span)
    }
}

/// The first `len` bytes, at a character's end.
fn cut(text: &str, len: usize) -> String {
    let mut len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.get(..len).unwrap_or_default().to_owned()
}
