//! Names and types: the tree to the [`typed`](super::typed) tree. What a map or variable holds may
//! only become known further down in the text, so the program is gone through until nothing new
//! is learnt; only the last round's errors count. Knows of the target what
//! [`Debug`] says.
//!
//! Invariant: an expression of type [`Type::Void`] is one of which nothing is known, or of which
//! an error was reported; nothing more is said of it.

mod access;
mod arguments;
mod calls;
mod effects;
mod expr;
mod formats;
mod functions;
mod groups;
mod maps;
mod operators;
mod order;
mod state;
mod stmt;
mod texts;
mod whole;

use std::collections::HashMap;
use std::rc::Rc;

use self::groups::Group;
use self::state::{Locals, Maps};
use super::debug::Debug;
use super::source::{Reports, Span};
use super::structs::Structures;
use super::tree::{self, Tree};
use super::typed::{Block, Checked, Config, Expr, ExprKind, StackMode, Stmt, StmtKind, Type};
use crate::program::Width;

pub(super) use self::arguments::stack_mode;
pub(super) use self::texts::{aggregate as aggregate_name, name as type_name};

/// Most rounds until nothing new is learnt.
const ROUNDS: usize = 12;

/// Longest string where nothing was set, as bpftrace has it.
const MAX_STRLEN: u32 = 1024;

/// What the caller gives.
pub(super) struct Given<'a> {
    pub parameters: &'a [String],
    pub allow_unsafe: bool,
    pub debug: &'a dyn Debug,
}

/// Checks a program whose macros are expanded. The result is of use only where `reports` holds no
/// error.
pub(super) fn check(
    tree: &Tree,
    config: Config,
    stack_mode: StackMode,
    given: &Given<'_>,
    reports: &mut Reports<'_>,
) -> Checked {
    let structures = Structures::new(&tree.records, given.debug, reports);
    let mut checker = Checker {
        reports,
        given,
        max_strlen: config.max_strlen.unwrap_or(MAX_STRLEN),
        stack_mode,
        structures,
        constants: HashMap::new(),
        maps: Maps::default(),
        hints: HashMap::new(),
        locals: Locals::default(),
        group: None,
        pre: Vec::new(),
        loops: 0,
        changed: false,
    };
    let misread = checker.reports.has_errors();
    checker.enums(tree);
    let groups = groups::groups(tree, &config, &mut checker);
    let mark = checker.reports.mark();
    let mut blocks = Vec::new();
    for _ in 0..ROUNDS {
        checker.reports.reset(mark);
        checker.changed = false;
        blocks.clear();
        for (index, group) in groups.iter().enumerate() {
            let Some(probe) = tree.probes.get(group.probe) else {
                continue;
            };
            blocks.push(checker.block(index, group, probe));
        }
        if !checker.changed && !checker.default_types() {
            break;
        }
    }
    // What a map is given may be among what could not be read.
    if !misread {
        checker.unset_maps();
    }
    Checked {
        config,
        maps: checker.maps.finish(),
        blocks,
    }
}

pub(super) struct Checker<'a, 's> {
    reports: &'a mut Reports<'s>,
    given: &'a Given<'a>,
    max_strlen: u32,
    /// How `ustack` is shown where nothing is said.
    stack_mode: StackMode,
    structures: Structures<'a>,
    /// Members of enums.
    constants: HashMap<String, i64>,
    maps: Maps,
    /// Types of variables as the round before left them: by group, name and place.
    hints: HashMap<(usize, String, usize), (Type, bool)>,
    locals: Locals,
    group: Option<Rc<Group>>,
    /// Statements that come before the one that is being checked.
    pre: Vec<Stmt>,
    /// Loops around.
    loops: usize,
    /// Whether this round learnt something new.
    changed: bool,
}

impl Checker<'_, '_> {
    fn block(&mut self, index: usize, group: &Rc<Group>, probe: &tree::Probe) -> Block {
        self.group = Some(Rc::clone(group));
        self.locals = Locals::new(index);
        self.pre.clear();
        self.loops = 0;
        self.locals.push();
        let predicate = probe.predicate.as_ref().map(|p| self.condition(p));
        let before = std::mem::take(&mut self.pre);
        let mut body = self.stmts(&probe.body);
        self.close_scope();
        let mut predicate = predicate;
        if !before.is_empty()
            && let Some(condition) = predicate.take()
        {
            // What comes before the condition is part of the block then.
            let span = condition.span.clone();
            let kind = StmtKind::If(condition, body, Vec::new());
            body = before;
            body.push(Stmt { kind, span });
        }
        let (locals, hints) = self.locals.finish();
        self.hints.extend(hints);
        Block {
            attach: group.attach.clone(),
            predicate,
            body,
            locals,
            span: probe.span.clone(),
        }
    }

    /// Variables that are never assigned are integers; whether there were such.
    fn default_types(&mut self) -> bool {
        if self.reports.has_errors() {
            return false;
        }
        let unknown = self.hints.values_mut().filter(|(ty, _)| *ty == Type::Void);
        unknown.map(|seen| *seen = (I64, true)).count() > 0
    }

    fn enums(&mut self, tree: &Tree) {
        for members in &tree.enums {
            let mut next = 0_i64;
            for (name, value) in members {
                if let Some(value) = value {
                    match self.constant(value) {
                        Some(value) => next = value,
                        None => self
                            .reports
                            .error(&value.span, "the value of an enum member is a constant"),
                    }
                }
                if self.constants.insert(name.text.clone(), next).is_some() {
                    let message = format!("`{}` is defined twice", name.text);
                    self.reports.error(&name.span, message);
                }
                next = next.wrapping_add(1);
            }
        }
    }

    /// Reports an error about a type unless nothing is known of it.
    fn error(&mut self, span: &Span, message: impl Into<String>) -> Expr {
        self.reports.error(span, message);
        bad(span)
    }

    fn error_help(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Expr {
        self.reports.error_help(span, message, help);
        bad(span)
    }

    /// The probes of the block that is being checked.
    fn probes(&self) -> Vec<crate::spec::ProbeSpec> {
        self.group
            .as_ref()
            .map_or_else(Vec::new, |group| group.specs())
    }
}

/// What stands for an expression of which nothing is known.
fn bad(span: &Span) -> Expr {
    Expr {
        kind: ExprKind::Int(0),
        ty: Type::Void,
        span: span.clone(),
    }
}

fn int(width: Width, signed: bool) -> Type {
    Type::Int { width, signed }
}

/// A signed integer of 64 bits.
const I64: Type = Type::Int {
    width: Width::W64,
    signed: true,
};

/// An unsigned integer of 64 bits.
const U64: Type = Type::Int {
    width: Width::W64,
    signed: false,
};

/// What a comparison gives.
const BOOL: Type = Type::Int {
    width: Width::W8,
    signed: false,
};

fn number(n: i64, span: &Span) -> Expr {
    Expr {
        kind: ExprKind::Int(n),
        ty: I64,
        span: span.clone(),
    }
}
