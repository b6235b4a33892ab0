//! The tree as it was written. Plain data; nothing in it is checked. Invariant: no part of it is
//! nested deeper than [`DEEPEST`], so that walks over it may recurse.

pub use super::source::Span;

/// Most levels of nesting, chains like `a + b + c` included.
pub const DEEPEST: u16 = 200;

/// A program.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub settings: Vec<Setting>,
    pub records: Vec<Record>,
    /// `enum` members in order, with their values where they are written.
    pub enums: Vec<Vec<(Name, Option<Expr>)>>,
    pub macros: Vec<Macro>,
    /// `let @a = hash(100);`
    pub declared: Vec<MapDeclaration>,
    pub probes: Vec<Probe>,
}

/// A name and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// A line of `config`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: Name,
    pub value: Name,
}

/// A `struct` or `union`.
#[derive(Clone, Debug)]
pub struct Record {
    pub name: Option<Name>,
    pub union: bool,
    /// `__attribute__((packed))`
    pub packed: bool,
    pub fields: Vec<Field>,
}

/// A member. Without a name: an anonymous structure, or padding bits.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Option<Name>,
    pub ty: TypeName,
    pub bits: Option<u64>,
}

/// A type as it is written.
#[derive(Clone, Debug)]
pub struct TypeName {
    pub kind: TypeKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum TypeKind {
    Int {
        bits: u32,
        signed: bool,
    },
    /// `bool`: casts to it give 1 or 0.
    Bool,
    Void,
    /// `string`, `string[64]`
    Str(Option<u64>),
    /// `struct x`, `union x`, or a typedef's name.
    Named(String),
    /// `double`, `float`
    Float {
        bits: u32,
    },
    /// `enum x`
    Enum,
    /// `struct { ... } x;`
    Inline(Box<Record>),
    Pointer(Box<TypeKind>),
    Array(Box<TypeKind>, u64),
    /// `typeof(e)`
    Of(Box<Expr>),
}

/// `macro name(a, $b, @c) { ... }`
#[derive(Clone, Debug)]
pub struct Macro {
    pub name: Name,
    pub parameters: Vec<Name>,
    pub body: Vec<Stmt>,
}

/// `let @a = hash(100);`
#[derive(Clone, Debug)]
pub struct MapDeclaration {
    pub name: Name,
    pub kind: Name,
    /// Most entries.
    pub size: u64,
}

/// Attach points, a predicate, a block.
#[derive(Clone, Debug)]
pub struct Probe {
    pub attach: Vec<Name>,
    pub predicate: Option<Expr>,
    pub body: Vec<Stmt>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Stmt {
    pub kind: StmtKind,
    pub span: Span,
    /// Whether a `;` follows. Without one the last expression of a block is the block's value.
    pub closed: bool,
}

#[derive(Clone, Debug)]
pub enum StmtKind {
    Expr(Expr),
    /// With an operator: `$x += 1`.
    Assign(Expr, Option<&'static str>, Expr),
    Let(Name, Option<TypeName>, Option<Expr>),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    Unroll(Expr, Vec<Stmt>),
    Range(Name, Expr, Expr, Vec<Stmt>),
    /// The map by its name, with `@`.
    Each(Name, Name, Vec<Stmt>),
    While(Expr, Vec<Stmt>),
    Break,
    Continue,
    Return,
    Block(Vec<Stmt>),
}

#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
    /// How deep it is nested.
    pub depth: u16,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    /// What could not be read; an error was reported.
    Bad,
    Int(u64),
    Str(String),
    Ident(String),
    /// `$1`
    Parameter(u32),
    /// `$#`
    ParameterCount,
    /// With its `$`.
    Var(String),
    /// With its `@`; `None` without brackets.
    Map(String, Option<Vec<Expr>>),
    Call(Name, Vec<Expr>),
    /// `-`, `~`, `!`
    Unary(&'static str, Box<Expr>),
    /// `*p`
    Deref(Box<Expr>),
    /// `x++`; by +1 or -1; whether the value is the new one.
    Step(Box<Expr>, i8, bool),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    Cast(TypeName, Box<Expr>),
    Tuple(Vec<Expr>),
    Member(Box<Expr>, Name),
    /// `t.0`
    Part(Box<Expr>, u32),
    Index(Box<Expr>, Box<Expr>),
    SizeofType(TypeName),
    Sizeof(Box<Expr>),
    Offsetof(TypeName, Vec<Name>),
    /// `{ ...; value }`, also what a macro becomes.
    Block(Vec<Stmt>),
}

impl Expr {
    pub fn bad(span: Span) -> Expr {
        Expr {
            kind: ExprKind::Bad,
            span,
            depth: 1,
        }
    }

    pub fn leaf(kind: ExprKind, span: Span) -> Expr {
        Expr {
            kind,
            span,
            depth: 1,
        }
    }
}

/// How deep the expressions of these statements are nested.
pub fn depth_of(body: &[Stmt]) -> u16 {
    let mut deepest = 0;
    for stmt in body {
        let (exprs, blocks) = stmt.parts();
        let expr = exprs.iter().map(|e| e.depth).max().unwrap_or(0);
        let block = blocks.iter().map(|b| depth_of(b).saturating_add(1)).max();
        deepest = deepest.max(expr).max(block.unwrap_or(0));
    }
    deepest
}

impl Stmt {
    /// What it consists of, in order.
    pub fn parts(&self) -> (Vec<&Expr>, Vec<&[Stmt]>) {
        match &self.kind {
            StmtKind::Expr(e) => (vec![e], vec![]),
            StmtKind::Assign(a, _, b) => (vec![a, b], vec![]),
            StmtKind::Let(_, _, value) => (value.iter().collect(), vec![]),
            StmtKind::If(c, then, otherwise) => (vec![c], vec![then, otherwise]),
            StmtKind::Unroll(c, body) | StmtKind::While(c, body) => (vec![c], vec![body]),
            StmtKind::Range(_, a, b, body) => (vec![a, b], vec![body]),
            StmtKind::Each(_, _, body) | StmtKind::Block(body) => (vec![], vec![body]),
            StmtKind::Break | StmtKind::Continue | StmtKind::Return => (vec![], vec![]),
        }
    }
}

/// Calls `f` with every expression of these statements, the outer ones first.
pub fn visit(body: &[Stmt], f: &mut dyn FnMut(&Expr)) {
    for stmt in body {
        let (exprs, blocks) = stmt.parts();
        for expr in exprs {
            expr.visit(f);
        }
        for block in blocks {
            visit(block, f);
        }
    }
}

impl Expr {
    /// Calls `f` with it and every expression in it.
    pub fn visit(&self, f: &mut dyn FnMut(&Expr)) {
        f(self);
        match &self.kind {
            ExprKind::Map(_, Some(list)) | ExprKind::Call(_, list) | ExprKind::Tuple(list) => {
                list.iter().for_each(|e| e.visit(f));
            }
            ExprKind::Unary(_, e)
            | ExprKind::Deref(e)
            | ExprKind::Step(e, ..)
            | ExprKind::Cast(_, e)
            | ExprKind::Member(e, _)
            | ExprKind::Part(e, _)
            | ExprKind::Sizeof(e) => e.visit(f),
            ExprKind::Binary(_, a, b) | ExprKind::Index(a, b) => {
                a.visit(f);
                b.visit(f);
            }
            ExprKind::Ternary(a, b, c) => {
                a.visit(f);
                b.visit(f);
                c.visit(f);
            }
            ExprKind::Block(body) => visit(body, f),
            _ => {}
        }
    }
}
