//! Types as they are written, and structures.

use super::Parser;
use crate::language::builtins;
use crate::language::source::Span;
use crate::language::token::Kind;
use crate::language::tree::{Expr, Field, Name, Record, Tree, TypeKind, TypeName};

/// Names of integer types.
const INTEGERS: &[(&str, u32, bool)] = &[
    ("int8", 8, true),
    ("int16", 16, true),
    ("int32", 32, true),
    ("int64", 64, true),
    ("uint8", 8, false),
    ("uint16", 16, false),
    ("uint32", 32, false),
    ("uint64", 64, false),
    ("int8_t", 8, true),
    ("int16_t", 16, true),
    ("int32_t", 32, true),
    ("int64_t", 64, true),
    ("uint8_t", 8, false),
    ("uint16_t", 16, false),
    ("uint32_t", 32, false),
    ("uint64_t", 64, false),
    ("u8", 8, false),
    ("u16", 16, false),
    ("u32", 32, false),
    ("u64", 64, false),
    ("s8", 8, true),
    ("s16", 16, true),
    ("s32", 32, true),
    ("s64", 64, true),
    ("size_t", 64, false),
    ("ssize_t", 64, true),
    ("off_t", 64, true),
    ("time_t", 64, true),
    ("intptr_t", 64, true),
    ("uintptr_t", 64, false),
    ("pid_t", 32, true),
    ("uid_t", 32, false),
    ("gid_t", 32, false),
    ("mode_t", 32, false),
    ("socklen_t", 32, false),
    ("in_addr_t", 32, false),
    ("in_port_t", 16, false),
    ("sa_family_t", 16, false),
    ("uint", 32, false),
    ("ulong", 64, false),
];

/// Words of C's types that stand in any order.
const WORDS: &[&str] = &[
    "unsigned", "signed", "char", "short", "int", "long", "const", "volatile", "double", "float",
];

/// Most stars and brackets of a type.
const LONGEST: usize = 16;

impl Parser<'_, '_> {
    /// Whether a type stands here that cannot be an expression.
    pub(super) fn is_type(&self) -> bool {
        let Kind::Ident(name) = self.kind() else {
            return false;
        };
        let name = name.as_str();
        let known = matches!(
            name,
            "struct" | "union" | "enum" | "void" | "string" | "bool"
        ) || WORDS.contains(&name)
            || INTEGERS.iter().any(|(known, ..)| *known == name);
        known && !self.parameters.iter().any(|p| p == name) && !self.is_at(1, "(")
            || name == "typeof"
    }

    /// Whether a type and a `)` stand here, of a cast.
    pub(super) fn is_cast(&self) -> bool {
        if self.is_type() {
            return true;
        }
        let Kind::Ident(name) = self.kind() else {
            return false;
        };
        if builtins::is_word(name) || self.parameters.contains(name) {
            return false;
        }
        // `(name *)`, or `(name)` with a value behind it.
        let mut ahead = 1;
        while self.is_at(ahead, "*") {
            ahead += 1;
        }
        if !self.is_at(ahead, ")") {
            return false;
        }
        let value = matches!(
            self.kind_at(ahead + 1),
            Kind::Ident(_)
                | Kind::Int(_)
                | Kind::Str(_)
                | Kind::Var(_)
                | Kind::Map(_)
                | Kind::Parameter(_)
                | Kind::Punct("(")
        );
        ahead > 1 || value
    }

    pub(super) fn type_name(&mut self) -> Option<TypeName> {
        let start = self.span().start;
        let mut kind = self.base_type()?;
        for round in 0.. {
            if round > LONGEST {
                let span = self.since(start);
                self.say_too_deep(&span);
                return None;
            }
            if self.eat("*") {
                kind = TypeKind::Pointer(Box::new(kind));
                while self.eat_word("const") || self.eat_word("volatile") {}
            } else if self.is("[") {
                self.bump();
                let count = self.count();
                self.expect("]", "after the number of elements");
                kind = match kind {
                    TypeKind::Str(None) => TypeKind::Str(Some(count)),
                    kind => TypeKind::Array(Box::new(kind), count),
                };
            } else {
                break;
            }
        }
        let span = self.since(start);
        Some(TypeName { kind, span })
    }

    /// A number of elements; 0 where none is written.
    fn count(&mut self) -> u64 {
        match self.kind() {
            Kind::Int(n) => {
                let n = *n;
                self.bump();
                n
            }
            Kind::Punct("]") => 0,
            _ => {
                let help = format!("here stands {}", self.found());
                let span = self.span();
                self.reports
                    .error_help(&span, "the number of elements is no number", help);
                self.bump();
                0
            }
        }
    }

    fn base_type(&mut self) -> Option<TypeKind> {
        let span = self.span();
        let Kind::Ident(word) = self.kind().clone() else {
            let message = format!("a type should stand here, not {}", self.found());
            self.reports.error_help(
                &span,
                message,
                "types are int8 to int64, uint8 to uint64, string, struct NAME, and pointers to them",
            );
            return None;
        };
        if WORDS.contains(&word.as_str()) {
            return self.c_type(&span);
        }
        self.bump();
        let known = INTEGERS.iter().find(|(name, ..)| *name == word);
        if let Some((_, bits, signed)) = known {
            let (bits, signed) = (*bits, *signed);
            while self.eat_word("const") || self.eat_word("volatile") {}
            return Some(TypeKind::Int { bits, signed });
        }
        match word.as_str() {
            "void" => Some(TypeKind::Void),
            "bool" => Some(TypeKind::Bool),
            "string" => Some(TypeKind::Str(None)),
            "typeof" => {
                self.expect("(", "after `typeof`");
                if self.is_type() {
                    let inner = self.type_name();
                    self.expect(")", "after the type");
                    return inner.map(|t| t.kind);
                }
                let inner = self.expr();
                self.expect(")", "after what `typeof` takes");
                Some(TypeKind::Of(Box::new(inner)))
            }
            "struct" | "union" | "enum" => {
                let packed = word != "enum" && self.attributes();
                if self.is("{") && word != "enum" {
                    let mut record = self.record(None, word == "union")?;
                    record.packed |= packed;
                    return Some(TypeKind::Inline(Box::new(record)));
                }
                let name = self.name(&format!("the name of the {word}"))?;
                if self.is("{") && word != "enum" {
                    let record = self.record(Some(name), word == "union")?;
                    return Some(TypeKind::Inline(Box::new(record)));
                }
                while self.eat_word("const") || self.eat_word("volatile") {}
                Some(match word.as_str() {
                    "enum" => TypeKind::Enum,
                    _ => TypeKind::Named(name.text),
                })
            }
            _ => Some(TypeKind::Named(word)),
        }
    }

    /// `unsigned long long`, `const char`, and the like.
    fn c_type(&mut self, start: &Span) -> Option<TypeKind> {
        let mut words: Vec<String> = Vec::new();
        while let Kind::Ident(word) = self.kind()
            && WORDS.contains(&word.as_str())
        {
            let word = word.clone();
            self.bump();
            if !matches!(word.as_str(), "const" | "volatile") {
                words.push(word);
            }
        }
        if words.is_empty() {
            return self.deeper(Self::base_type).flatten();
        }
        let has = |word: &str| words.iter().any(|w| w == word);
        if has("double") && has("long") {
            self.reports.error_help(
                start,
                "there are no floating-point types of more than 64 bits",
                "buf(pointer, 16) reads its bytes",
            );
            return None;
        }
        if has("double") || has("float") {
            let bits = if has("double") { 64 } else { 32 };
            return Some(TypeKind::Float { bits });
        }
        let bits = match () {
            () if has("char") => 8,
            () if has("short") => 16,
            () if has("long") => 64,
            () => 32,
        };
        Some(TypeKind::Int {
            bits,
            signed: !has("unsigned"),
        })
    }

    pub(super) fn record_item(&mut self, tree: &mut Tree) {
        let union = self.is_word("union");
        self.bump();
        let packed = self.attributes();
        let Some(name) = self.name("the structure's name") else {
            self.recover();
            return;
        };
        if let Some(mut record) = self.record(Some(name), union) {
            record.packed |= packed;
            tree.records.push(record);
        }
        self.eat(";");
    }

    /// `{ members }`
    fn record(&mut self, name: Option<Name>, union: bool) -> Option<Record> {
        self.deeper(|parser| parser.record_inside(name, union))
            .flatten()
    }

    fn record_inside(&mut self, name: Option<Name>, union: bool) -> Option<Record> {
        let open = self.span();
        if !self.expect("{", "after the structure's name") {
            self.recover();
            return None;
        }
        let mut fields = Vec::new();
        loop {
            match self.kind() {
                Kind::Punct("}") => {
                    self.bump();
                    break;
                }
                Kind::Punct(";") => {
                    self.bump();
                }
                Kind::End | Kind::Attach(_) => {
                    self.unclosed(&open);
                    return None;
                }
                _ => {
                    let before = self.at;
                    self.fields(&mut fields);
                    if self.at == before {
                        self.bump();
                    }
                }
            }
        }
        let packed = self.attributes();
        Some(Record {
            name,
            union,
            packed,
            fields,
        })
    }

    /// `__attribute__((packed))`: whether that is among those that stand here.
    fn attributes(&mut self) -> bool {
        let mut packed = false;
        while self.is_word("__attribute__") {
            self.bump();
            let twice =
                self.expect("(", "before the attributes") && self.expect("(", "before them");
            if !twice {
                self.recover();
                return packed;
            }
            while !self.is(")") && !self.is_end() {
                let span = self.span();
                match self.kind().clone() {
                    Kind::Ident(word) if matches!(word.as_str(), "packed" | "__packed__") => {
                        packed = true;
                    }
                    Kind::Punct(",") => {}
                    _ => self.reports.error_help(
                        &span,
                        "this attribute is not understood here",
                        "packed is: __attribute__((packed))",
                    ),
                }
                self.bump();
            }
            let _ = self.expect(")", "after the attributes") && self.expect(")", "after them");
        }
        packed
    }

    /// `type a, *b, c[4], d : 3;`
    fn fields(&mut self, fields: &mut Vec<Field>) {
        let start = self.span().start;
        let Some(base) = self.base_type() else {
            self.recover();
            return;
        };
        if self.is(";") {
            let ty = TypeName {
                kind: base,
                span: self.since(start),
            };
            fields.push(Field {
                name: None,
                ty,
                bits: None,
            });
            return;
        }
        loop {
            let field = self.declarator(base.clone(), start);
            let Some(field) = field else {
                self.recover();
                return;
            };
            fields.push(field);
            if !self.eat(",") {
                break;
            }
        }
        // Before the `}` it may be left out.
        if !self.is("}") && !self.expect(";", "after the member") {
            self.recover();
        }
    }

    fn declarator(&mut self, mut kind: TypeKind, start: usize) -> Option<Field> {
        let mut stars = 0;
        while self.eat("*") {
            while self.eat_word("const") || self.eat_word("volatile") {}
            kind = TypeKind::Pointer(Box::new(kind));
            stars += 1;
            if stars > LONGEST {
                let span = self.since(start);
                self.say_too_deep(&span);
                return None;
            }
        }
        if self.is("(") && self.is_at(1, "*") {
            return self.function_pointer(start);
        }
        let name = match self.is(":") {
            true => None,
            false => Some(self.name("the member's name")?),
        };
        let mut counts = Vec::new();
        while self.is("[") && counts.len() < LONGEST {
            self.bump();
            counts.push(self.count());
            self.expect("]", "after the number of elements");
        }
        for count in counts.into_iter().rev() {
            kind = TypeKind::Array(Box::new(kind), count);
        }
        let mut bits = None;
        if self.eat(":") {
            if let Kind::Int(n) = self.kind() {
                bits = Some(*n);
            }
            self.bump();
        }
        let span = self.since(start);
        Some(Field {
            name,
            ty: TypeName { kind, span },
            bits,
        })
    }

    /// `void (*f)(int)`: a pointer.
    fn function_pointer(&mut self, start: usize) -> Option<Field> {
        self.bump();
        self.bump();
        let name = self.name("the member's name")?;
        self.expect(")", "after the member's name");
        if self.expect("(", "before the function's parameters") {
            let mut depth = 1;
            while depth > 0 {
                match self.kind() {
                    Kind::End | Kind::Attach(_) | Kind::Punct(";" | "{" | "}") => return None,
                    Kind::Punct("(") => depth += 1,
                    Kind::Punct(")") => depth -= 1,
                    _ => {}
                }
                self.bump();
            }
        }
        Some(Field {
            name: Some(name),
            ty: TypeName {
                kind: TypeKind::Pointer(Box::new(TypeKind::Void)),
                span: self.since(start),
            },
            bits: None,
        })
    }

    /// `enum name { A, B = 3 };`
    pub(super) fn enum_item(&mut self, tree: &mut Tree) {
        self.bump();
        if !self.is("{") {
            self.name("the name of the enum");
        }
        if !self.expect("{", "after the name of the enum") {
            self.recover();
            return;
        }
        let mut members: Vec<(Name, Option<Expr>)> = Vec::new();
        while !self.is("}") && !self.is_end() {
            let Some(name) = self.name("the enum member's name") else {
                self.recover();
                break;
            };
            let value = self.eat("=").then(|| self.expr());
            members.push((name, value));
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}", "after the members of the enum");
        self.eat(";");
        tree.enums.push(members);
    }
}
