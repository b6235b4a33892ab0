//! The top of a program: settings, structures, macros, probes.

use super::Parser;
use crate::language::token::Kind;
use crate::language::tree::{Macro, MapDeclaration, Name, Probe, Setting, Tree};

impl Parser<'_, '_> {
    pub(super) fn program(&mut self) -> Tree {
        let mut tree = Tree::default();
        while !self.is_end() {
            let before = self.at;
            self.item(&mut tree);
            if self.at == before {
                self.bump();
            }
        }
        if tree.probes.is_empty() && !self.reports.has_errors() {
            let end = self.reports.source.text().trim_end().len();
            self.reports.error_help(
                &(end..end),
                "there is no probe in this program",
                "as in: uprobe:libc:malloc { @ = count(); }",
            );
        }
        tree
    }

    fn item(&mut self, tree: &mut Tree) {
        match self.kind().clone() {
            Kind::Attach(_) => {
                if let Some(probe) = self.probe() {
                    tree.probes.push(probe);
                }
            }
            Kind::Ident(word) => match word.as_str() {
                "config" => self.config(tree),
                "macro" => self.macro_definition(tree),
                "struct" | "union" => self.record_item(tree),
                "enum" => self.enum_item(tree),
                "let" => self.map_declaration(tree),
                "typedef" => self.refuse(
                    "typedefs are not understood",
                    "write the structure as `struct name { ... }` and cast to (struct name *)",
                ),
                "import" => self.refuse(
                    "imports are not understood",
                    "give several files: -f a.bt -f b.bt are one program",
                ),
                _ => self.refuse(
                    "functions cannot be defined",
                    "write a macro: macro name(a, $b) { ... }",
                ),
            },
            Kind::Punct(";") => {
                self.bump();
            }
            Kind::Punct("}") => {
                let span = self.bump().span;
                self.reports.error(&span, "this `}` closes nothing");
            }
            Kind::Punct("{") => {
                let span = self.span();
                self.reports.error_help(
                    &span,
                    "this block has no probe",
                    "name one before it: uprobe:libc:malloc { ... }, BEGIN { ... }",
                );
                self.block();
            }
            Kind::Map(_) => {
                self.outside();
                self.recover();
            }
            _ => {
                let message = format!("a probe should stand here, not {}", self.found());
                let span = self.span();
                self.reports.error_help(
                    &span,
                    message,
                    "as in: uprobe:libc:malloc { @ = count(); }",
                );
                self.skip_to_item();
            }
        }
    }

    fn refuse(&mut self, message: &str, help: &str) {
        let span = self.span();
        self.reports.error_help(&span, message, help);
        self.bump();
        self.recover();
    }

    fn outside(&mut self) {
        let span = self.span();
        self.reports.error_help(
            &span,
            "this stands outside of any probe",
            "code stands in a probe's braces: BEGIN { ... }, uprobe:libc:malloc { ... }",
        );
    }

    fn skip_to_item(&mut self) {
        while !matches!(self.kind(), Kind::End | Kind::Attach(_) | Kind::Punct("{")) {
            self.bump();
        }
    }

    fn probe(&mut self) -> Option<Probe> {
        let start = self.span().start;
        let mut attach = Vec::new();
        loop {
            match self.kind().clone() {
                Kind::Attach(text) => {
                    let span = self.bump().span;
                    attach.push(Name { text, span });
                }
                _ => {
                    let span = self.span();
                    let help = format!("here stands {}", self.found());
                    self.reports
                        .error_help(&span, "a probe should follow the comma", help);
                    break;
                }
            }
            if !self.eat(",") {
                break;
            }
        }
        let mut predicate = None;
        if *self.kind() == Kind::PredicateStart {
            let open = self.bump().span;
            predicate = Some(self.expr());
            if *self.kind() == Kind::PredicateEnd {
                self.bump();
            } else {
                self.reports.error_help(
                    &open,
                    "this predicate is not closed, or cannot be read to its end",
                    "a predicate stands between two `/` before the block: /pid == 1/ { ... }",
                );
                while !matches!(
                    self.kind(),
                    Kind::End | Kind::Attach(_) | Kind::Punct("{") | Kind::PredicateEnd
                ) {
                    self.bump();
                }
                if *self.kind() == Kind::PredicateEnd {
                    self.bump();
                }
            }
        }
        if !self.is("{") {
            self.no_block(&attach, start);
            return None;
        }
        let body = self.block();
        Some(Probe {
            attach,
            predicate,
            body,
            span: self.since(start),
        })
    }

    fn no_block(&mut self, attach: &[Name], start: usize) {
        let first = attach.first();
        let text = first.map_or("", |name| name.text.as_str());
        let span = first.map_or(start..start + 1, |name| name.span.clone());
        let code = text.contains(['(', '=', ';']) || !text.contains(':') && self.is("=");
        if code {
            self.reports.error_help(
                &span,
                "this stands outside of any probe",
                "code stands in a probe's braces: BEGIN { ... }, uprobe:libc:malloc { ... }",
            );
        } else if self.is_end() || matches!(self.kind(), Kind::Attach(_)) {
            self.reports.error_help(
                &span,
                "this probe has no block",
                "as in: uprobe:libc:malloc { @ = count(); }; a comma stands between probes that share one",
            );
        } else if text.ends_with(':') {
            self.reports.error_help(
                &span,
                "this probe is cut off by a space",
                "no space stands in a probe's name, but in quotes: uprobe:libc:malloc",
            );
        } else {
            let here = self.span();
            let message = format!("`{{` should follow the probe, not {}", self.found());
            self.reports.error_help(
                &here,
                message,
                "as in: uprobe:libc:malloc /pid == 42/ { ... }; a name with spaces is put in double quotes",
            );
        }
        self.skip_to_item();
        if self.is("{") {
            self.block();
        }
    }

    fn config(&mut self, tree: &mut Tree) {
        self.bump();
        self.expect("=", "after `config`");
        let open = self.span();
        if !self.expect("{", "after `config =`") {
            self.skip_to_item();
            return;
        }
        loop {
            match self.kind().clone() {
                Kind::Punct("}") => {
                    self.bump();
                    return;
                }
                Kind::Punct(";") => {
                    self.bump();
                }
                Kind::End | Kind::Attach(_) => {
                    self.unclosed(&open);
                    return;
                }
                Kind::Ident(text) => {
                    let name = Name {
                        text,
                        span: self.bump().span,
                    };
                    if !self.expect("=", "after the setting's name") {
                        self.recover();
                        continue;
                    }
                    let value = match self.kind().clone() {
                        Kind::Ident(text) | Kind::Str(text) => text,
                        Kind::Int(n) => n.to_string(),
                        _ => {
                            let help = format!("here stands {}", self.found());
                            let span = self.span();
                            self.reports
                                .error_help(&span, "the setting's value is missing", help);
                            self.recover();
                            continue;
                        }
                    };
                    let span = self.bump().span;
                    tree.settings.push(Setting {
                        name,
                        value: Name { text: value, span },
                    });
                    if !self.is(";") && !self.is("}") {
                        self.expect(";", "after the setting");
                        self.recover();
                    }
                }
                _ => {
                    let help = format!("here stands {}", self.found());
                    let span = self.span();
                    self.reports
                        .error_help(&span, "a setting should stand here", help);
                    self.bump();
                    self.recover();
                }
            }
        }
    }

    fn macro_definition(&mut self, tree: &mut Tree) {
        self.bump();
        let Some(name) = self.name("the macro's name") else {
            self.recover();
            return;
        };
        let mut parameters = Vec::new();
        if self.eat("(") {
            while !self.is(")") {
                match self.kind().clone() {
                    Kind::Ident(text) | Kind::Var(text) | Kind::Map(text) => {
                        let span = self.bump().span;
                        parameters.push(Name { text, span });
                    }
                    _ => {
                        let help = format!(
                            "a parameter is a name, a $variable or a @map; here stands {}",
                            self.found()
                        );
                        let span = self.span();
                        self.reports
                            .error_help(&span, "this is no parameter of a macro", help);
                        break;
                    }
                }
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")", "after the macro's parameters");
        }
        if !self.is("{") {
            self.expect("{", "before the macro's body");
            self.skip_to_item();
            if !self.is("{") {
                return;
            }
        }
        self.parameters = parameters.iter().map(|p| p.text.clone()).collect();
        let body = self.block();
        self.parameters.clear();
        tree.macros.push(Macro {
            name,
            parameters,
            body,
        });
    }

    /// `let @a = hash(100);`
    fn map_declaration(&mut self, tree: &mut Tree) {
        let start = self.bump().span.start;
        let Kind::Map(text) = self.kind().clone() else {
            let span = self.span();
            self.reports.error_help(
                &span,
                "only maps are declared outside of probes",
                "as in: let @a = hash(100);",
            );
            self.recover();
            return;
        };
        let name = Name {
            text,
            span: self.bump().span,
        };
        let kind = if self.expect("=", "after the map's name") {
            self.name("the map's kind")
        } else {
            None
        };
        let Some(kind) = kind else {
            self.recover();
            return;
        };
        let mut size = 0;
        if self.expect("(", "after the map's kind") {
            if let Kind::Int(n) = self.kind() {
                size = *n;
                self.bump();
            } else {
                let span = self.since(start);
                self.reports.error_help(
                    &span,
                    "the most entries of the map are missing",
                    "as in: let @a = hash(100);",
                );
            }
            self.expect(")", "after the number of entries");
        }
        self.eat(";");
        tree.declared.push(MapDeclaration { name, kind, size });
    }
}
