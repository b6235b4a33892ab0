//! Formats of `printf` and others: cut into pieces and held against the arguments.

use super::{Checker, texts};
use crate::language::source::Span;
use crate::language::tree;
use crate::language::typed::{Conversion, Expr, Piece, Type};
use crate::program::Width;

/// Widest column.
const WIDEST: u32 = 4096;

/// Cuts a format; an error in words.
fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut text = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let mut conversion = Conversion {
            left: false,
            zeros: false,
            plus: false,
            space: false,
            alternate: false,
            width: None,
            precision: None,
            size: Width::W64,
            kind: 'd',
        };
        let mut written = String::from("%");
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            written.push(flag);
            match flag {
                '-' => conversion.left = true,
                '0' => conversion.zeros = true,
                '+' => conversion.plus = true,
                ' ' => conversion.space = true,
                _ => conversion.alternate = true,
            }
        }
        conversion.width = number(&mut chars, &mut written)?;
        if chars.next_if_eq(&'.').is_some() {
            written.push('.');
            conversion.precision = Some(number(&mut chars, &mut written)?.unwrap_or(0));
        }
        let mut size = String::new();
        while let Some(c) = chars.next_if(|c| "hljzt".contains(*c)) {
            size.push(c);
            written.push(c);
        }
        conversion.size = match size.as_str() {
            "hh" => Width::W8,
            "h" => Width::W16,
            "" | "l" | "ll" | "j" | "z" | "t" => Width::W64,
            _ => return Err(format!("`{written}` is no conversion")),
        };
        let Some(kind) = chars.next() else {
            return Err(format!("the conversion `{written}` is cut off"));
        };
        written.push(kind);
        conversion.kind = match kind {
            'd' | 'i' => 'd',
            'u' | 'x' | 'X' | 'o' | 'c' | 'p' | 's' | 'f' => kind,
            'r' => {
                // `%rx`: every byte as \xNN; `%rh`: as NN with spaces.
                conversion.alternate |= chars.next_if_eq(&'x').is_some();
                conversion.space |= chars.next_if_eq(&'h').is_some();
                'r'
            }
            '*' => return Err("a width cannot be an argument".to_owned()),
            _ => return Err(format!("there is no conversion `{written}`")),
        };
        if !text.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut text)));
        }
        out.push(Piece::Arg(conversion));
    }
    if !text.is_empty() {
        out.push(Piece::Text(text));
    }
    Ok(out)
}

fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    written: &mut String,
) -> Result<Option<u32>, String> {
    let mut value = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        written.push(digit);
        let digit = digit.to_digit(10).unwrap_or(0);
        value = Some(
            value
                .unwrap_or(0_u32)
                .saturating_mul(10)
                .saturating_add(digit),
        );
    }
    match value {
        Some(value) if value > WIDEST => Err(format!("`{written}` is wider than {WIDEST}")),
        value => Ok(value),
    }
}

impl Checker<'_, '_> {
    /// A format and its arguments.
    pub(super) fn format(
        &mut self,
        function: &str,
        args: &[tree::Expr],
        span: &Span,
    ) -> Option<(Vec<Piece>, Vec<Expr>)> {
        let (first, rest) = args.split_first()?;
        let text = self.literal_text(first, "the format");
        let refs: Vec<&tree::Expr> = rest.iter().collect();
        let mut values = Vec::new();
        for value in self.list(&refs) {
            values.push(self.decayed(value));
        }
        let pieces = match pieces(&text?) {
            Ok(pieces) => pieces,
            Err(message) => {
                self.error_help(
                    &first.span,
                    message,
                    "conversions are %d %u %x %X %o %c %p %s %r %f; a percent sign is %%",
                );
                return None;
            }
        };
        let conversions: Vec<Conversion> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Arg(conversion) => Some(*conversion),
                Piece::Text(_) => None,
            })
            .collect();
        if conversions.len() != values.len() {
            let (wanted, given) = (conversions.len(), values.len());
            let message = format!(
                "the format takes {}, {} given",
                count(wanted, "argument"),
                match given {
                    0 => "none is".to_owned(),
                    1 => "1 is".to_owned(),
                    n => format!("{n} are"),
                }
            );
            let at = match values.get(wanted) {
                Some(extra) => extra.span.clone(),
                None => first.span.clone(),
            };
            let help = format!("each %... of the format of {function} takes one argument");
            self.error_help(&at, message, help);
            return None;
        }
        let mut fits = true;
        for (conversion, value) in conversions.iter().zip(&values) {
            fits &= self.fits(*conversion, value);
        }
        let _ = span;
        fits.then_some((pieces, values))
    }

    fn fits(&mut self, conversion: Conversion, value: &Expr) -> bool {
        let kind = conversion.kind;
        let ty = &value.ty;
        let fits = match kind {
            's' => matches!(
                ty,
                Type::Str { .. }
                    | Type::Usym
                    | Type::Ustack { .. }
                    | Type::Inet
                    | Type::Time(_)
                    | Type::Username
                    | Type::Func
                    | Type::ProbeName
                    | Type::Buf { .. }
            ),
            'r' => matches!(ty, Type::Buf { .. } | Type::Str { .. }),
            'f' => matches!(ty, Type::Float | Type::Single),
            _ => matches!(ty, Type::Int { .. } | Type::Pointer(_) | Type::Usym),
        };
        if fits || *ty == Type::Void {
            return *ty != Type::Void;
        }
        let message = format!("`%{kind}` does not show {}", texts::a(ty));
        let help = match (kind, ty) {
            ('s', Type::Int { .. } | Type::Pointer(_)) => {
                "an integer is %d, %u or %x; the string at an address is str(...)"
            }
            (_, Type::Float | Type::Single) => "a floating-point number is %f",
            ('r', _) => "%r shows buf(pointer, length)",
            ('f', _) => {
                "floating-point numbers are farg0, farg1, ..., and members and parameters of such types"
            }
            (_, Type::Buf { .. }) => "a buffer is %r",
            (_, Type::Tuple(_)) => "print(...) shows a tuple; its parts are $t.0, $t.1",
            (_, Type::Struct(_)) => "name a member",
            (_, Type::Array { .. }) => "name an element, or take buf(...) with %r",
            _ => "it is shown with %s",
        };
        self.error_help(&value.span, message, help);
        false
    }
}

/// `1 argument`, `2 arguments`
pub(super) fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_cut_into_pieces() {
        let all = pieces("a %-6d|%08.3llx%%%hhu %rx\n").expect("a format");
        let args: Vec<Conversion> = all
            .iter()
            .filter_map(|p| match p {
                Piece::Arg(c) => Some(*c),
                Piece::Text(_) => None,
            })
            .collect();
        assert_eq!(all[0], Piece::Text("a ".into()));
        assert!(args[0].left && args[0].width == Some(6));
        assert!(args[1].zeros && args[1].precision == Some(3) && args[1].kind == 'x');
        assert_eq!(args[2].size, Width::W8);
        assert!(args[3].alternate && args[3].kind == 'r');
        assert_eq!(all.last(), Some(&Piece::Text("\n".into())));
        for wrong in ["%", "%q", "%hhhd", "%99999999999d", "%*d", "%-"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
    }
}
