//! Operators: which operands they take, and whether they work signed. C's rules on 64 bits, but
//! for two of bpftrace's: a number that is written takes the sign of what it meets, and a
//! difference is signed.

use super::expr::is_negative;
use super::state::{is_literal, merge};
use super::{BOOL, Checker, I64, U64, bad, number, texts};
use crate::language::source::Span;
use crate::language::tree;
use crate::language::typed::{Binary, Expr, ExprKind, Match, NameTest, Type, Unary};
use crate::program::Width;

impl Checker<'_, '_> {
    pub(super) fn unary(
        &mut self,
        operator: &'static str,
        inner: &tree::Expr,
        span: &Span,
    ) -> Expr {
        // `-9223372036854775808`
        if operator == "-"
            && let tree::ExprKind::Int(n) = &inner.kind
            && *n <= 1 << 63
        {
            return number((*n as i64).wrapping_neg(), span);
        }
        let inner = self.expr(inner);
        if operator == "!" {
            let inner = self.truth(inner);
            if inner.ty == Type::Void {
                return bad(span);
            }
            return Self::boolean(ExprKind::Unary(Unary::Not, Box::new(inner)), span);
        }
        let inner = self.integer(inner, &format!("what `{operator}` takes"));
        let signed = match inner.ty {
            Type::Int { signed, .. } => signed,
            _ => return bad(span),
        };
        let (kind, ty) = match operator {
            "-" => (Unary::Negate, I64),
            _ if signed => (Unary::Invert, I64),
            _ => (Unary::Invert, U64),
        };
        Expr {
            kind: ExprKind::Unary(kind, Box::new(inner)),
            ty,
            span: span.clone(),
        }
    }

    /// `&&` and `||`: what the second needs before it is computed only when it matters.
    pub(super) fn logical(
        &mut self,
        operator: &'static str,
        left: &tree::Expr,
        right: &tree::Expr,
        span: &Span,
    ) -> Expr {
        let left = self.condition(left);
        let (right, before) = self.captured(|c| c.condition(right));
        if left.ty == Type::Void || right.ty == Type::Void {
            return bad(span);
        }
        let is_and = operator == "&&";
        if before.is_empty() {
            let (left, right) = (Box::new(left), Box::new(right));
            let kind = match is_and {
                true => ExprKind::And(left, right),
                false => ExprKind::Or(left, right),
            };
            return Self::boolean(kind, span);
        }
        let right_span = right.span.clone();
        let zero = number(0, &right_span);
        let kind = ExprKind::Binary(Binary::NotEqual, Box::new(right), Box::new(zero));
        let right = (Self::boolean(kind, &right_span), before);
        let fixed = Expr {
            ty: BOOL,
            ..number(i64::from(!is_and), span)
        };
        let fixed = (fixed, Vec::new());
        match is_and {
            true => self.branched(left, right, fixed, &BOOL, span),
            false => self.branched(left, fixed, right, &BOOL, span),
        }
    }

    pub(super) fn ternary(
        &mut self,
        condition: &tree::Expr,
        then: &tree::Expr,
        otherwise: &tree::Expr,
        span: &Span,
    ) -> Expr {
        let condition = self.condition(condition);
        let branch = |c: &mut Self, e: &tree::Expr| {
            let made = c.expr(e);
            c.decayed(made)
        };
        let (then, then_before) = self.captured(|c| branch(c, then));
        let (otherwise, other_before) = self.captured(|c| branch(c, otherwise));
        let seen = |e: &Expr| (e.ty.clone(), is_literal(e));
        let Some((ty, _)) = merge(&seen(&then), &seen(&otherwise)) else {
            let message = format!(
                "the values of `?` differ: {} and {}",
                texts::a(&then.ty),
                texts::a(&otherwise.ty)
            );
            return self.error_help(span, message, "both have to be of one type");
        };
        if [&condition.ty, &then.ty, &otherwise.ty].contains(&&Type::Void) {
            return bad(span);
        }
        if then_before.is_empty() && other_before.is_empty() {
            return Expr {
                kind: ExprKind::Ternary(Box::new(condition), Box::new(then), Box::new(otherwise)),
                ty,
                span: span.clone(),
            };
        }
        self.branched(
            condition,
            (then, then_before),
            (otherwise, other_before),
            &ty,
            span,
        )
    }

    pub(super) fn binary(
        &mut self,
        operator: &'static str,
        left: Expr,
        right: Expr,
        span: &Span,
    ) -> Expr {
        let (left, right) = (self.decayed(left), self.decayed(right));
        if left.ty == Type::Void || right.ty == Type::Void {
            return bad(span);
        }
        match operator {
            "==" | "!=" | "<" | "<=" | ">" | ">=" => self.compare(operator, left, right, span),
            _ => self.arithmetic(operator, left, right, span),
        }
    }

    fn arithmetic(&mut self, operator: &'static str, left: Expr, right: Expr, span: &Span) -> Expr {
        match (&left.ty, &right.ty) {
            (Type::Int { .. }, Type::Int { .. }) => {}
            (Type::Pointer(_), Type::Int { .. }) if matches!(operator, "+" | "-") => {
                return self.pointer_sum(operator, left, right, span);
            }
            (Type::Int { .. }, Type::Pointer(_)) if operator == "+" => {
                return self.pointer_sum(operator, right, left, span);
            }
            (Type::Pointer(_), Type::Int { .. } | Type::Pointer(_))
            | (Type::Int { .. }, Type::Pointer(_)) => {
                let left = self.integer(left, "an operand");
                let right = self.integer(right, "an operand");
                return self.arithmetic(operator, left, right, span);
            }
            (Type::Str { .. }, _) | (_, Type::Str { .. }) => {
                return self.error_help(
                    span,
                    format!("`{operator}` takes integers, not strings"),
                    "strings are put together by printf(\"%s%s\", a, b)",
                );
            }
            (Type::Float | Type::Single, _) | (_, Type::Float | Type::Single) => {
                return self.error_help(
                    span,
                    "there is no arithmetic on floating-point numbers",
                    "print them with %f, or cast: (int64)farg0",
                );
            }
            (a, b) => {
                let other = if matches!(a, Type::Int { .. }) { b } else { a };
                let message = format!("`{operator}` takes integers, not {}", texts::a(other));
                return self.error(span, message);
            }
        }
        let signed = both_signed(&left, &right);
        let left_signed = match left.ty {
            Type::Int { signed, .. } => signed,
            _ => false,
        };
        let zero = matches!(right.kind, ExprKind::Int(0));
        let mut ty = if signed { I64 } else { U64 };
        let kind = match operator {
            "+" => Binary::Add,
            "-" => {
                ty = I64;
                Binary::Sub
            }
            "*" => Binary::Mul,
            "/" | "%" if zero => {
                return self.error(span, "this divides by zero");
            }
            "/" => Binary::Div { signed },
            "%" => Binary::Rem { signed },
            "&" => Binary::And,
            "|" => Binary::Or,
            "^" => Binary::Xor,
            "<<" | ">>" => {
                if super::expr::value_of(&right).is_some_and(|n| !(0..64).contains(&n)) {
                    let help = "integers have 64 bits: a shift is from 0 to 63";
                    self.reports
                        .warn(&right.span, "this shift is too far", help);
                }
                ty = if left_signed { I64 } else { U64 };
                match operator {
                    "<<" => Binary::Shl,
                    _ => Binary::Shr {
                        signed: left_signed,
                    },
                }
            }
            _ => return bad(span),
        };
        Expr {
            kind: ExprKind::Binary(kind, Box::new(left), Box::new(right)),
            ty,
            span: span.clone(),
        }
    }

    /// `pointer + n`: n elements further.
    pub(super) fn pointer_sum(
        &mut self,
        operator: &'static str,
        pointer: Expr,
        count: Expr,
        span: &Span,
    ) -> Expr {
        let Type::Pointer(to) = &pointer.ty else {
            return bad(span);
        };
        let probes = self.probes();
        let size = match &**to {
            Type::Void => 1,
            to => match self.structures.size(to, &probes) {
                Some((size, _)) => size,
                None => {
                    let message = format!("the size of {} is not known", texts::name(to));
                    let help = "write `struct NAME { ... }`, or cast to (char *)";
                    return self.error_help(span, message, help);
                }
            },
        };
        let at = count.span.clone();
        let count = match (&count.kind, size) {
            (_, 1) => count,
            (ExprKind::Int(n), _) => number(n.wrapping_mul(size as i64), &at),
            _ => Expr {
                kind: ExprKind::Binary(
                    Binary::Mul,
                    Box::new(count),
                    Box::new(number(size as i64, &at)),
                ),
                ty: I64,
                span: at,
            },
        };
        let kind = match operator {
            "-" => Binary::Sub,
            _ => Binary::Add,
        };
        Expr {
            ty: pointer.ty.clone(),
            kind: ExprKind::Binary(kind, Box::new(pointer), Box::new(count)),
            span: span.clone(),
        }
    }

    fn compare(&mut self, operator: &'static str, left: Expr, right: Expr, span: &Span) -> Expr {
        let equality = matches!(operator, "==" | "!=");
        match (&left.ty, &right.ty) {
            (Type::Int { .. }, Type::Int { .. }) => {
                self.warn_never(operator, &left, &right, span);
            }
            (Type::Pointer(_), Type::Int { .. } | Type::Pointer(_))
            | (Type::Int { .. }, Type::Pointer(_)) => {
                let left = self.integer(left, "an operand");
                let right = self.integer(right, "an operand");
                return self.compare(operator, left, right, span);
            }
            (Type::Str { max: a }, Type::Str { max: b }) if equality => {
                let n = (*a).max(*b).max(1);
                let kind = ExprKind::Strncmp(Box::new(left), Box::new(right), n);
                let differ = Expr {
                    kind,
                    ty: I64,
                    span: span.clone(),
                };
                let kind = match operator {
                    "==" => ExprKind::Unary(Unary::Not, Box::new(differ)),
                    _ => ExprKind::Binary(
                        Binary::NotEqual,
                        Box::new(differ),
                        Box::new(number(0, span)),
                    ),
                };
                return Self::boolean(kind, span);
            }
            (Type::Str { .. }, Type::Str { .. }) => {
                return self.error_help(
                    span,
                    format!("strings are not compared with `{operator}`"),
                    "only == and != are for strings",
                );
            }
            (Type::Usym, Type::Usym) if equality => {}
            (Type::Func | Type::ProbeName, Type::Str { .. }) if equality => {
                return self.called(operator == "!=", &left, &right, span);
            }
            (Type::Str { .. }, Type::Func | Type::ProbeName) if equality => {
                return self.called(operator == "!=", &right, &left, span);
            }
            (a @ (Type::Func | Type::ProbeName | Type::Username), _)
            | (_, a @ (Type::Func | Type::ProbeName | Type::Username)) => {
                let message = format!("{} is known only when it is shown", texts::a(a));
                let help = match a {
                    Type::Username => "compare uid",
                    _ => {
                        "compare it with a string: func == \"malloc\", or keep it as a key: @[func] = count()"
                    }
                };
                return self.error_help(span, message, help);
            }
            (Type::Str { .. }, other @ Type::Pointer(_))
            | (other @ Type::Pointer(_), Type::Str { .. }) => {
                let message = format!("a string is compared with {}", texts::a(other));
                return self.error_help(span, message, "read the string there: str(pointer)");
            }
            (Type::Str { .. }, Type::Int { .. }) | (Type::Int { .. }, Type::Str { .. }) => {
                return self.error_help(
                    span,
                    "a string is compared with an integer",
                    "a string at an address is str(arg0); a parameter as a string is str($1)",
                );
            }
            (a, b) => {
                let message = format!("{} and {} cannot be compared", texts::a(a), texts::a(b));
                let help = match (a, b) {
                    (Type::Tuple(_), Type::Tuple(_)) => "compare their parts: $a.0 == $b.0",
                    (Type::Inet, _) | (_, Type::Inet) => "compare the number it is made of",
                    _ => "",
                };
                return match help {
                    "" => self.error(span, message),
                    help => self.error_help(span, message, help),
                };
            }
        }
        let signed = both_signed(&left, &right);
        let (operator, left, right) = match operator {
            ">" => ("<", right, left),
            ">=" => ("<=", right, left),
            operator => (operator, left, right),
        };
        let kind = match operator {
            "==" => Binary::Equal,
            "!=" => Binary::NotEqual,
            "<" => Binary::Less { signed },
            _ => Binary::LessEqual { signed },
        };
        let kind = ExprKind::Binary(kind, Box::new(left), Box::new(right));
        Self::boolean(kind, span)
    }

    /// A probe's name and a text of the program: `func == "malloc"`.
    fn called(&mut self, differs: bool, name: &Expr, text: &Expr, span: &Span) -> Expr {
        let Some(test) = name_test(name, text, Match::Equal) else {
            return self.error_help(
                &text.span.clone(),
                "names of probes are compared with what stands in the program",
                "as in: func == \"malloc\"",
            );
        };
        let called = Self::boolean(ExprKind::Called(test), span);
        match differs {
            false => called,
            true => Self::boolean(ExprKind::Unary(Unary::Not, Box::new(called)), span),
        }
    }

    /// Says where an unsigned value is asked whether it is negative.
    fn warn_never(&mut self, operator: &'static str, left: &Expr, right: &Expr, span: &Span) {
        let unsigned = |e: &Expr| matches!(e.ty, Type::Int { signed: false, .. });
        let zero = |e: &Expr| matches!(e.kind, ExprKind::Int(0));
        let wide = |e: &Expr| {
            matches!(
                e.ty,
                Type::Int {
                    signed: false,
                    width: Width::W64
                }
            )
        };
        let (value, always) = match operator {
            "<" if zero(right) && unsigned(left) => (left, false),
            ">=" if zero(right) && unsigned(left) => (left, true),
            ">" if zero(left) && unsigned(right) => (right, false),
            "<=" if zero(left) && unsigned(right) => (right, true),
            "<" | "<=" | ">" | ">=" if is_negative(right) && wide(left) => (left, operator < "="),
            _ => return,
        };
        let source = self.reports.source.get(&value.span);
        let text: String = source.chars().take(40).collect();
        let message = match always {
            true => format!("this is always true: `{text}` is unsigned"),
            false => format!("this is never true: `{text}` is unsigned"),
        };
        let message = match is_negative(right) {
            true => format!("`{text}` is unsigned: the negative number is taken as a huge one"),
            false => message,
        };
        let help = format!("cast it: (int32){text} or (int64){text}");
        self.reports.warn(span, message, help);
    }
}

/// What is asked of a name, when that is what stands there.
pub(super) fn name_test(name: &Expr, text: &Expr, how: Match) -> Option<NameTest> {
    let full = match name.ty {
        Type::Func => false,
        Type::ProbeName => true,
        _ => return None,
    };
    let ExprKind::Str(text) = &text.kind else {
        return None;
    };
    Some(NameTest {
        full,
        how,
        text: text.clone(),
    })
}

/// Whether an operation on two integers is signed.
pub(super) fn both_signed(left: &Expr, right: &Expr) -> bool {
    let sign = |e: &Expr| match e.ty {
        Type::Int { width, signed } => (signed, width),
        _ => (false, Width::W64),
    };
    let ((a, a_width), (b, b_width)) = (sign(left), sign(right));
    if a == b {
        return a;
    }
    // A number that is written fits either; so does what has fewer bits.
    let fits = |e: &Expr, signed, width| match signed {
        true => is_literal(e),
        false => width != Width::W64,
    };
    match (a, b) {
        (true, false) => !is_literal(left) && fits(right, b, b_width),
        _ => !is_literal(right) && fits(left, a, a_width),
    }
}
