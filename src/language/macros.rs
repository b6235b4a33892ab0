//! Macros: each call becomes a block with the macro's statements, its parameters put in. Hygienic:
//! variables of the body get names of their own, maps have to be parameters. Knows no types.
//!
//! Invariant: what comes out is nested no deeper than [`tree::DEEPEST`], and has no more than
//! [`LARGEST`] nodes that were put in.

use std::collections::HashMap;

use super::builtins;
use super::source::{Reports, Span};
use super::tree::{self, Expr, ExprKind, Macro, Name, Stmt, StmtKind, Tree, TypeKind, TypeName};

/// Most nodes that expansion visits.
const LARGEST: usize = 200_000;

/// Deepest recursion of the expansion itself.
const LEVELS: usize = 400;

/// Expands all macros of the program.
pub(super) fn expand(tree: &mut Tree, reports: &mut Reports<'_>) {
    let macros = definitions(std::mem::take(&mut tree.macros), reports);
    let mut expander = Expander {
        macros,
        reports,
        chain: Vec::new(),
        instances: 0,
        visited: 0,
        level: 0,
        stopped: false,
    };
    let nothing = Scope::default();
    for probe in &mut tree.probes {
        if let Some(predicate) = &mut probe.predicate {
            expander.expr(predicate, &nothing);
        }
        expander.stmts(&mut probe.body, &nothing);
    }
}

/// Macros by name; what is wrong with one by itself is reported.
fn definitions(all: Vec<Macro>, reports: &mut Reports<'_>) -> HashMap<String, Vec<Macro>> {
    let mut macros: HashMap<String, Vec<Macro>> = HashMap::new();
    for definition in all {
        parameters(&definition, reports);
        maps(&definition, &definition.body, reports);
        let known = macros.entry(definition.name.text.clone()).or_default();
        let kinds = |m: &Macro| m.parameters.iter().map(kind).collect::<Vec<_>>();
        let same = known.iter().find(|m| kinds(m) == kinds(&definition));
        if let Some(same) = same {
            let line = reports.source.line(same.name.span.start);
            let message = format!("the macro `{}` is defined twice", definition.name.text);
            reports.error_help(
                &definition.name.span,
                message,
                format!("it is there since line {line}"),
            );
            continue;
        }
        known.push(definition);
    }
    macros
}

fn parameters(definition: &Macro, reports: &mut Reports<'_>) {
    for (at, parameter) in definition.parameters.iter().enumerate() {
        let before = definition.parameters.iter().take(at);
        if before.into_iter().any(|other| other.text == parameter.text) {
            let message = format!("the parameter `{}` is there twice", parameter.text);
            reports.error(&parameter.span, message);
        }
        if builtins::is_word(&parameter.text) {
            let message = format!("`{}` is no name for a parameter", parameter.text);
            reports.error_help(
                &parameter.span,
                message,
                "the language has a value of that name",
            );
        }
    }
}

/// Maps that are no parameters.
fn maps(definition: &Macro, body: &[Stmt], reports: &mut Reports<'_>) {
    let known = |name: &str| definition.parameters.iter().any(|p| p.text == name);
    let mut foreign: Vec<(String, Span)> = Vec::new();
    tree::visit(body, &mut |expr| {
        if let ExprKind::Map(name, _) = &expr.kind
            && !known(name)
        {
            foreign.push((name.clone(), expr.span.clone()));
        }
    });
    for stmt in body {
        if let StmtKind::Each(_, map, _) = &stmt.kind
            && !known(&map.text)
        {
            foreign.push((map.text.clone(), map.span.clone()));
        }
    }
    for (name, span) in foreign {
        let message = format!("a macro has no maps of its own: `{name}`");
        let help = format!(
            "make it a parameter: macro {}({name})",
            definition.name.text
        );
        reports.error_help(&span, message, help);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Variable,
    Map,
    Any,
}

fn kind(parameter: &Name) -> Sort {
    match parameter.text.chars().next() {
        Some('$') => Sort::Variable,
        Some('@') => Sort::Map,
        _ => Sort::Any,
    }
}

/// What names mean in a body.
#[derive(Default)]
struct Scope {
    values: HashMap<String, Expr>,
    /// Variables and maps.
    names: HashMap<String, String>,
    /// Number of the instance, which is added to the names of its own variables; 0 outside macros.
    instance: usize,
}

struct Expander<'a, 's> {
    macros: HashMap<String, Vec<Macro>>,
    reports: &'a mut Reports<'s>,
    /// Macros that are being expanded.
    chain: Vec<String>,
    instances: usize,
    visited: usize,
    level: usize,
    stopped: bool,
}

impl Expander<'_, '_> {
    fn stop(&mut self, span: &Span, message: &str) {
        if !self.stopped {
            self.stopped = true;
            self.reports
                .error_help(span, message, "a macro is put in at each of its calls");
        }
    }

    fn stmts(&mut self, body: &mut [Stmt], scope: &Scope) {
        self.level += 1;
        if self.level > LEVELS {
            let span = body.first().map_or(0..0, |s| s.span.clone());
            self.stop(&span, "macros are nested too deep");
        }
        for stmt in body {
            if self.stopped {
                break;
            }
            self.stmt(stmt, scope);
        }
        self.level -= 1;
    }

    fn stmt(&mut self, stmt: &mut Stmt, scope: &Scope) {
        match &mut stmt.kind {
            StmtKind::Expr(e) => self.expr(e, scope),
            StmtKind::Assign(target, _, value) => {
                let span = target.span.clone();
                self.expr(target, scope);
                self.expr(value, scope);
                if !matches!(
                    target.kind,
                    ExprKind::Var(_) | ExprKind::Map(..) | ExprKind::Bad
                ) {
                    self.reports.error_help(
                        &span,
                        "this cannot be assigned",
                        "only variables ($x) and maps (@x) can",
                    );
                    target.kind = ExprKind::Bad;
                }
            }
            StmtKind::Let(name, ty, value) => {
                if let Some(TypeName { kind, .. }) = ty {
                    self.type_name(kind, scope);
                }
                if let Some(value) = value {
                    self.expr(value, scope);
                }
                if scope.names.contains_key(&name.text) {
                    let message = format!("`{}` is a parameter of the macro", name.text);
                    self.reports.error(&name.span, message);
                }
                Self::rename(name, scope);
            }
            StmtKind::If(condition, then, otherwise) => {
                self.expr(condition, scope);
                self.stmts(then, scope);
                self.stmts(otherwise, scope);
            }
            StmtKind::Unroll(e, body) | StmtKind::While(e, body) => {
                self.expr(e, scope);
                self.stmts(body, scope);
            }
            StmtKind::Range(name, from, to, body) => {
                self.expr(from, scope);
                self.expr(to, scope);
                Self::rename(name, scope);
                self.stmts(body, scope);
            }
            StmtKind::Each(name, map, body) => {
                Self::rename(name, scope);
                if let Some(own) = scope.names.get(&map.text) {
                    map.text = own.clone();
                }
                self.stmts(body, scope);
            }
            StmtKind::Block(body) => self.stmts(body, scope),
            StmtKind::Break | StmtKind::Continue | StmtKind::Return => {}
        }
    }

    fn rename(name: &mut Name, scope: &Scope) {
        if let Some(own) = scope.names.get(&name.text) {
            name.text = own.clone();
        } else if scope.instance > 0 {
            name.text = format!("{}#{}", name.text, scope.instance);
        }
    }

    fn type_name(&mut self, kind: &mut TypeKind, scope: &Scope) {
        match kind {
            TypeKind::Pointer(inner) | TypeKind::Array(inner, _) => self.type_name(inner, scope),
            TypeKind::Of(e) => self.expr(e, scope),
            _ => {}
        }
    }

    fn expr(&mut self, expr: &mut Expr, scope: &Scope) {
        self.visited += 1;
        self.level += 1;
        if self.level > LEVELS {
            self.stop(&expr.span, "macros are nested too deep");
        } else if self.visited > LARGEST {
            self.stop(
                &expr.span,
                "the program is too large when its macros are expanded",
            );
        }
        if self.stopped {
            self.level -= 1;
            expr.kind = ExprKind::Bad;
            return;
        }
        self.inside(expr, scope);
        self.level -= 1;
        self.measure(expr);
    }

    fn inside(&mut self, expr: &mut Expr, scope: &Scope) {
        let span = expr.span.clone();
        match &mut expr.kind {
            ExprKind::Ident(name) => {
                if let Some(value) = scope.values.get(name) {
                    value.visit(&mut |_| self.visited += 1);
                    *expr = value.clone();
                    return;
                }
                if self.macros.contains_key(name.as_str()) {
                    let name = Name {
                        text: name.clone(),
                        span: span.clone(),
                    };
                    expr.kind = self.instance(&name, Vec::new(), &span);
                }
            }
            ExprKind::Call(name, args) => {
                for arg in args.iter_mut() {
                    self.expr(arg, scope);
                }
                if self.macros.contains_key(name.text.as_str()) {
                    let (name, args) = (name.clone(), std::mem::take(args));
                    expr.kind = self.instance(&name, args, &span);
                }
            }
            ExprKind::Var(name) => {
                let mut own = Name {
                    text: name.clone(),
                    span,
                };
                Self::rename(&mut own, scope);
                *name = own.text;
            }
            ExprKind::Map(name, key) => {
                if let Some(own) = scope.names.get(name) {
                    *name = own.clone();
                }
                for part in key.iter_mut().flatten() {
                    self.expr(part, scope);
                }
            }
            ExprKind::Tuple(parts) => {
                for part in parts {
                    self.expr(part, scope);
                }
            }
            ExprKind::Cast(ty, e) => {
                self.type_name(&mut ty.kind, scope);
                self.expr(e, scope);
            }
            ExprKind::SizeofType(ty) | ExprKind::Offsetof(ty, _) => {
                self.type_name(&mut ty.kind, scope);
            }
            ExprKind::Unary(_, e)
            | ExprKind::Deref(e)
            | ExprKind::Step(e, ..)
            | ExprKind::Member(e, _)
            | ExprKind::Part(e, _)
            | ExprKind::Sizeof(e) => self.expr(e, scope),
            ExprKind::Binary(_, a, b) | ExprKind::Index(a, b) => {
                self.expr(a, scope);
                self.expr(b, scope);
            }
            ExprKind::Ternary(a, b, c) => {
                self.expr(a, scope);
                self.expr(b, scope);
                self.expr(c, scope);
            }
            ExprKind::Block(body) => self.stmts(body, scope),
            ExprKind::Bad
            | ExprKind::Int(_)
            | ExprKind::Str(_)
            | ExprKind::Parameter(_)
            | ExprKind::ParameterCount => {}
        }
    }

    /// How deep the expression is nested now.
    fn measure(&mut self, expr: &mut Expr) {
        let list = |list: &[Expr]| list.iter().map(|e| e.depth).max().unwrap_or(0);
        let inner = match &expr.kind {
            ExprKind::Map(_, Some(all)) | ExprKind::Call(_, all) | ExprKind::Tuple(all) => {
                list(all)
            }
            ExprKind::Unary(_, e)
            | ExprKind::Deref(e)
            | ExprKind::Step(e, ..)
            | ExprKind::Cast(_, e)
            | ExprKind::Member(e, _)
            | ExprKind::Part(e, _)
            | ExprKind::Sizeof(e) => e.depth,
            ExprKind::Binary(_, a, b) | ExprKind::Index(a, b) => a.depth.max(b.depth),
            ExprKind::Ternary(a, b, c) => a.depth.max(b.depth).max(c.depth),
            ExprKind::Block(body) => tree::depth_of(body),
            _ => 0,
        };
        expr.depth = inner.saturating_add(1);
        if expr.depth > tree::DEEPEST {
            let span = expr.span.clone();
            self.stop(
                &span,
                "this is nested too deep when its macros are expanded",
            );
            *expr = Expr::bad(span);
        }
    }

    /// The block that a call becomes. The arguments are expanded already.
    fn instance(&mut self, name: &Name, args: Vec<Expr>, span: &Span) -> ExprKind {
        let all = self.macros.get(&name.text);
        let all = all.map_or(&[] as &[Macro], Vec::as_slice);
        let fitting = all.iter().filter(|m| m.parameters.len() == args.len());
        let chosen = fitting
            .clone()
            .find(|m| m.parameters.iter().zip(&args).all(|(p, a)| exactly(p, a)))
            .or_else(|| {
                let mut fitting = fitting.clone();
                fitting.find(|m| m.parameters.iter().zip(&args).all(|(p, a)| fits(p, a)))
            })
            .cloned();
        let closest = fitting.clone().next().or(all.first()).cloned();
        let Some(definition) = chosen else {
            if args.is_empty() && builtins::is_word(&name.text) {
                return ExprKind::Ident(name.text.clone());
            }
            if let Some(closest) = closest {
                self.no_match(name, &closest, &args, span);
            }
            return ExprKind::Bad;
        };
        if self.chain.contains(&name.text) {
            let mut chain = self.chain.clone();
            chain.push(name.text.clone());
            let message = format!(
                "the macro `{}` calls itself: {}",
                name.text,
                chain.join(" > ")
            );
            self.reports.error(&name.span, message);
            return ExprKind::Bad;
        }
        self.instances += 1;
        let mut scope = Scope {
            instance: self.instances,
            ..Scope::default()
        };
        for (parameter, arg) in definition.parameters.iter().zip(args) {
            match (&arg.kind, kind(parameter)) {
                (ExprKind::Var(own), Sort::Variable) | (ExprKind::Map(own, None), Sort::Map) => {
                    scope.names.insert(parameter.text.clone(), own.clone());
                }
                _ => {
                    scope.values.insert(parameter.text.clone(), arg);
                }
            }
        }
        let mut body = definition.body;
        self.chain.push(name.text.clone());
        self.stmts(&mut body, &scope);
        self.chain.pop();
        ExprKind::Block(body)
    }

    fn no_match(&mut self, name: &Name, closest: &Macro, args: &[Expr], span: &Span) {
        let parameters: Vec<&str> = closest.parameters.iter().map(|p| p.text.as_str()).collect();
        let usage = format!(
            "it is {}({}) in line {}",
            name.text,
            parameters.join(", "),
            self.reports.source.line(closest.name.span.start)
        );
        if closest.parameters.len() != args.len() {
            let message = format!(
                "the macro `{}` takes {} arguments, not {}",
                name.text,
                closest.parameters.len(),
                args.len()
            );
            self.reports.error_help(span, message, usage);
            return;
        }
        let pairs = closest.parameters.iter().zip(args);
        for (parameter, arg) in pairs.filter(|(p, a)| !fits(p, a)) {
            let wanted = match kind(parameter) {
                Sort::Variable => "a variable",
                _ => "a map without a key",
            };
            let message = format!(
                "`{}` of the macro `{}` is {wanted}",
                parameter.text, name.text
            );
            self.reports.error_help(&arg.span, message, usage.clone());
        }
    }
}

fn fits(parameter: &Name, arg: &Expr) -> bool {
    match kind(parameter) {
        Sort::Variable => matches!(arg.kind, ExprKind::Var(_)),
        Sort::Map => matches!(arg.kind, ExprKind::Map(_, None)),
        Sort::Any => true,
    }
}

/// Whether it fits better than as just any expression.
fn exactly(parameter: &Name, arg: &Expr) -> bool {
    match arg.kind {
        ExprKind::Var(_) => kind(parameter) == Sort::Variable,
        ExprKind::Map(_, None) => kind(parameter) == Sort::Map,
        _ => kind(parameter) == Sort::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse::parse;
    use crate::language::source::Source;

    fn expanded(text: &str) -> (Tree, Vec<String>) {
        let source = Source::new("t", text);
        let mut reports = Reports::new(&source);
        let mut tree = parse(&mut reports);
        expand(&mut tree, &mut reports);
        let errors = reports.finish().0.into_iter().map(|e| e.message);
        (tree, errors.collect())
    }

    fn errors(text: &str) -> Vec<String> {
        expanded(text).1
    }

    #[test]
    fn variables_of_a_body_are_its_own() {
        let (tree, errors) =
            expanded("macro m(x, $y) { $a = x; $y = $a; $a } BEGIN { $a = 1; m($a, $b); }");
        assert!(errors.is_empty(), "{errors:?}");
        let mut names = Vec::new();
        tree::visit(&tree.probes[0].body, &mut |e| {
            if let ExprKind::Var(name) = &e.kind {
                names.push(name.clone());
            }
        });
        assert_eq!(names, ["$a", "$a#1", "$a", "$b", "$a#1", "$a#1"]);
    }

    #[test]
    fn hygiene_and_kinds_are_enforced() {
        for (text, message) in [
            (
                "macro m() { @x = 1 } BEGIN { m(); }",
                "a macro has no maps of its own: `@x`",
            ),
            (
                "macro m($x) { $x } BEGIN { m(1); }",
                "`$x` of the macro `m` is a variable",
            ),
            (
                "macro m(@x) { @x } BEGIN { m($y); }",
                "`@x` of the macro `m` is a map without a key",
            ),
            (
                "macro m(x) { x } BEGIN { m(); }",
                "the macro `m` takes 1 arguments, not 0",
            ),
            (
                "macro m(x) { n(x) } macro n(x) { m(x) } BEGIN { m(1); }",
                "the macro `m` calls itself: m > n > m",
            ),
            (
                "macro m(x) { x } macro m(y) { y } BEGIN {}",
                "the macro `m` is defined twice",
            ),
            (
                "macro m(x, x) { x } BEGIN {}",
                "the parameter `x` is there twice",
            ),
            (
                "macro m(pid) { 1 } BEGIN {}",
                "`pid` is no name for a parameter",
            ),
        ] {
            assert_eq!(
                errors(text).first().map(String::as_str),
                Some(message),
                "{text}"
            );
        }
    }

    #[test]
    fn expansion_is_bounded() {
        let mut text = String::from("macro m0(x) { x; x }");
        for n in 1..40 {
            text.push_str(&format!("macro m{n}(x) {{ m{}(x); m{}(x) }}", n - 1, n - 1));
        }
        text.push_str("BEGIN { m39(1); }");
        assert!(errors(&text)[0].contains("too"), "{:?}", errors(&text));
    }
}
