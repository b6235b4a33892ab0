//! The checked tree as text, for people and for tests: every name resolved, every type written; and
//! what is done with records, for those who read the IR.
//! Knows nothing that the tree does not say.

use std::fmt::{self, Write};

use super::check::{aggregate_name, type_name};
use super::lower::{Action, Change, Deed};
use super::typed::{
    Attach, Binary, Block, Builtin, Checked, Conversion, Expr, ExprKind, Local, MapId, MapValue,
    Match, Missing, Piece, Point, StackMode, Step, Stmt, StmtKind, Type, Unary,
};
use crate::program::Width;

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        let mut dump = Dump {
            program: self,
            out: &mut out,
            indent: 0,
        };
        dump.program()?;
        f.write_str(&out)
    }
}

impl fmt::Display for Deed {
    /// What is done, then the types of what the record holds: `printf "n " %d: uint64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = |f: &mut fmt::Formatter<'_>, word: &str, pieces: &[Piece]| {
            f.write_str(word)?;
            pieces.iter().try_for_each(|piece| match piece {
                Piece::Text(text) => write!(f, " {text:?}"),
                Piece::Arg(conversion) => write!(f, " {}", conversion_text(conversion)),
            })
        };
        match &self.action {
            Action::Printf(pieces) => format(f, "printf", pieces)?,
            Action::Cat(pieces) => format(f, "cat", pieces)?,
            Action::System(pieces) => format(f, "system", pieces)?,
            Action::Print => write!(f, "print")?,
            Action::PrintMap { map, top, div } => {
                write!(f, "print m{} top {top} div {div}", map.0)?
            }
            Action::PrintEntry(map) => write!(f, "print entry of m{}", map.0)?,
            Action::Change { map, change } => {
                let change = match change {
                    Change::Aggregate => "aggregate into",
                    Change::Set => "set in",
                    Change::Add => "add in",
                    Change::Delete => "delete from",
                };
                write!(f, "{change} m{}", map.0)?;
            }
            Action::Clear(map) => write!(f, "clear m{}", map.0)?,
            Action::Zero(map) => write!(f, "zero m{}", map.0)?,
            Action::Exit => write!(f, "exit")?,
            Action::Time(format) => write!(f, "time {format:?}")?,
            Action::Join(separator) => write!(f, "join {separator:?}")?,
        }
        if self.values.is_empty() {
            return Ok(());
        }
        let types: Vec<String> = self.values.iter().map(ty).collect();
        write!(f, ": {}", types.join(", "))
    }
}

struct Dump<'a> {
    program: &'a Checked,
    out: &'a mut String,
    indent: usize,
}

impl Dump<'_> {
    fn line(&mut self, text: &str) {
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn program(&mut self) -> fmt::Result {
        let config = &self.program.config;
        let mut settings = Vec::new();
        if let Some(missing) = config.missing {
            let word = match missing {
                Missing::Ignore => "ignore",
                Missing::Warn => "warn",
                Missing::Error => "error",
            };
            settings.push(format!("config missing_probes = {word}"));
        }
        if let Some(print) = config.print_maps_on_exit {
            settings.push(format!("config print_maps_on_exit = {print}"));
        }
        if let Some(n) = config.max_strlen {
            settings.push(format!("config max_strlen = {n}"));
        }
        if let Some(n) = config.max_map_keys {
            settings.push(format!("config max_map_keys = {n}"));
        }
        for setting in settings {
            self.line(&setting);
        }
        for map in &self.program.maps {
            let key: Vec<String> = map.key.iter().map(ty).collect();
            let key = match key.is_empty() {
                true => String::new(),
                false => format!("[{}]", key.join(", ")),
            };
            let value = match &map.value {
                MapValue::Plain(value) => ty(value),
                MapValue::Sum { signed: true }
                | MapValue::Avg { signed: true }
                | MapValue::Min { signed: true }
                | MapValue::Max { signed: true }
                | MapValue::Stats { signed: true } => {
                    format!("signed {}", aggregate_name(&map.value))
                }
                other => aggregate_name(other),
            };
            let read = if map.read { ", read" } else { "" };
            self.line(&format!("map {}{key}: {value}{read}", map.name));
        }
        for block in &self.program.blocks {
            self.block(block)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> fmt::Result {
        for attach in &block.attach {
            let text = match attach {
                Attach::Begin => "BEGIN".to_owned(),
                Attach::End => "END".to_owned(),
                Attach::Interval(ns) => format!("interval {ns} ns"),
                Attach::Entry(point) => point_text("entry", point),
                Attach::Return(point) => point_text("return", point),
                Attach::Usdt(point) => point_text("usdt", point),
            };
            self.line(&text);
        }
        self.line("{");
        self.indent += 1;
        for (n, local) in block.locals.iter().enumerate() {
            self.line(&format!("${n}: {}", ty(local)));
        }
        if let Some(predicate) = &block.predicate {
            let text = format!("only if {}", self.expr(predicate)?);
            self.line(&text);
        }
        self.stmts(&block.body)?;
        self.indent -= 1;
        self.line("}");
        Ok(())
    }

    fn stmts(&mut self, body: &[Stmt]) -> fmt::Result {
        for stmt in body {
            self.stmt(&stmt.kind)?;
        }
        Ok(())
    }

    fn inner(&mut self, head: &str, body: &[Stmt]) -> fmt::Result {
        self.line(&format!("{head} {{"));
        self.indent += 1;
        self.stmts(body)?;
        self.indent -= 1;
        self.line("}");
        Ok(())
    }

    fn stmt(&mut self, stmt: &StmtKind) -> fmt::Result {
        let text = match stmt {
            StmtKind::Expr(e) => self.expr(e)?,
            StmtKind::SetLocal(local, e) => format!("{} = {}", name(*local), self.expr(e)?),
            StmtKind::SetMap(map, key, e) => {
                format!("{} = {}", self.entry(*map, key)?, self.expr(e)?)
            }
            StmtKind::Aggregate(map, key, value) => {
                let value = match value {
                    Some(value) => self.expr(value)?,
                    None => String::new(),
                };
                format!("{} << {value}", self.entry(*map, key)?)
            }
            StmtKind::If(condition, then, otherwise) => {
                let head = format!("if {}", self.expr(condition)?);
                self.inner(&head, then)?;
                if !otherwise.is_empty() {
                    self.inner("else", otherwise)?;
                }
                return Ok(());
            }
            StmtKind::Range(local, from, to, body) => {
                let (from, to) = (self.expr(from)?, self.expr(to)?);
                return self.inner(&format!("for {} in {from}..{to}", name(*local)), body);
            }
            StmtKind::Each(local, map, body) => {
                let head = format!("for {} in {}", name(*local), self.map(*map));
                return self.inner(&head, body);
            }
            StmtKind::While(condition, body) => {
                let head = format!("while {}", self.expr(condition)?);
                return self.inner(&head, body);
            }
            StmtKind::Break => "break".to_owned(),
            StmtKind::Continue => "continue".to_owned(),
            StmtKind::Return => "return".to_owned(),
            StmtKind::Delete(map, key) => format!("delete {}", self.entry(*map, key)?),
            StmtKind::Printf(pieces, args) => self.format("printf", pieces, args)?,
            StmtKind::Cat(pieces, args) => self.format("cat", pieces, args)?,
            StmtKind::System(pieces, args) => self.format("system", pieces, args)?,
            StmtKind::PrintMap { map, top, div } => {
                format!("print {} top {top} div {div}", self.map(*map))
            }
            StmtKind::PrintEntry(map, key) => format!("print entry {}", self.entry(*map, key)?),
            StmtKind::Print(e) => format!("print {}: {}", self.expr(e)?, ty(&e.ty)),
            StmtKind::Clear(map) => format!("clear {}", self.map(*map)),
            StmtKind::Zero(map) => format!("zero {}", self.map(*map)),
            StmtKind::Exit(None) => "exit".to_owned(),
            StmtKind::Exit(Some(code)) => format!("exit {}", self.expr(code)?),
            StmtKind::Time(format) => format!("time {format:?}"),
            StmtKind::Join(e, separator) => format!("join {} {separator:?}", self.expr(e)?),
        };
        self.line(&text);
        Ok(())
    }

    fn format(&self, word: &str, pieces: &[Piece], args: &[Expr]) -> Result<String, fmt::Error> {
        let mut out = word.to_owned();
        let mut args = args.iter();
        for piece in pieces {
            match piece {
                Piece::Text(text) => write!(out, " {text:?}")?,
                Piece::Arg(conversion) => {
                    write!(out, " {}(", conversion_text(conversion))?;
                    if let Some(arg) = args.next() {
                        write!(out, "{}: {}", self.expr(arg)?, ty(&arg.ty))?;
                    }
                    out.push(')');
                }
            }
        }
        Ok(out)
    }

    fn map(&self, map: MapId) -> &str {
        let map = self.program.maps.get(map.0 as usize);
        map.map_or("@?", |map| map.name.as_str())
    }

    fn list(&self, list: &[Expr]) -> Result<String, fmt::Error> {
        let list: Result<Vec<String>, fmt::Error> = list.iter().map(|e| self.expr(e)).collect();
        Ok(list?.join(", "))
    }

    fn entry(&self, map: MapId, key: &[Expr]) -> Result<String, fmt::Error> {
        let name = self.map(map);
        Ok(match key.is_empty() {
            true => name.to_owned(),
            false => format!("{name}[{}]", self.list(key)?),
        })
    }

    fn expr(&self, e: &Expr) -> Result<String, fmt::Error> {
        Ok(match &e.kind {
            ExprKind::Int(n) if unsigned(&e.ty) => n.cast_unsigned().to_string(),
            ExprKind::Int(n) => n.to_string(),
            ExprKind::Str(text) => format!("{text:?}"),
            ExprKind::Builtin(builtin) => builtin_name(*builtin).to_owned(),
            ExprKind::Arg(n) => format!("arg{n}"),
            ExprKind::FloatArg(n) => format!("farg{n}"),
            ExprKind::StackArg(n) => format!("sarg{n}"),
            ExprKind::Reg(name) => format!("%{name}"),
            ExprKind::Usdt(text) => format!("usdt({text})"),
            ExprKind::Local(local) => name(*local),
            ExprKind::Map(map, key) => self.entry(*map, key)?,
            ExprKind::HasKey(map, key) => format!("has {}", self.entry(*map, key)?),
            ExprKind::Len(map) => format!("len({})", self.map(*map)),
            ExprKind::StepMap(map, key, step) => stepped(&self.entry(*map, key)?, *step),
            ExprKind::StepLocal(local, step) => stepped(&name(*local), *step),
            ExprKind::Unary(operator, inner) => {
                let sign = match operator {
                    Unary::Negate => '-',
                    Unary::Invert => '~',
                    Unary::Not => '!',
                };
                format!("{sign}{}", self.expr(inner)?)
            }
            ExprKind::Binary(operator, a, b) => {
                format!(
                    "({} {} {})",
                    self.expr(a)?,
                    binary(*operator),
                    self.expr(b)?
                )
            }
            ExprKind::And(a, b) => format!("({} && {})", self.expr(a)?, self.expr(b)?),
            ExprKind::Or(a, b) => format!("({} || {})", self.expr(a)?, self.expr(b)?),
            ExprKind::Ternary(a, b, c) => {
                format!(
                    "({} ? {} : {})",
                    self.expr(a)?,
                    self.expr(b)?,
                    self.expr(c)?
                )
            }
            ExprKind::Cast(inner) => format!("({}){}", ty(&e.ty), self.expr(inner)?),
            ExprKind::Load {
                address,
                offset,
                bits,
            } => {
                let bits = match bits {
                    Some((first, count)) => format!(" bits {first}+{count}"),
                    None => String::new(),
                };
                let address = self.expr(address)?;
                format!("{}[{address} + {offset}{bits}]", ty(&e.ty))
            }
            ExprKind::Tuple(parts) => format!("({})", self.list(parts)?),
            ExprKind::Part(inner, n) => format!("{}.{n}", self.expr(inner)?),
            ExprKind::StrAt(at, length) => format!("str({}{})", self.expr(at)?, self.more(length)?),
            ExprKind::BufAt(at, length) => format!("buf({}{})", self.expr(at)?, self.more(length)?),
            ExprKind::Ntop(Some(family), at) => {
                format!("ntop({}, {})", self.expr(family)?, self.expr(at)?)
            }
            ExprKind::Ntop(None, at) => format!("ntop({})", self.expr(at)?),
            ExprKind::Usym(at) => format!("usym({})", self.expr(at)?),
            ExprKind::Ustack => ty(&e.ty),
            ExprKind::Strftime(time) => format!("strftime({})", self.expr(time)?),
            ExprKind::Strncmp(a, b, n) => {
                format!("strncmp({}, {}, {n})", self.expr(a)?, self.expr(b)?)
            }
            ExprKind::Called(test) => {
                let name = if test.full { "probe" } else { "func" };
                match test.how {
                    Match::Equal => format!("({name} is {:?})", test.text),
                    Match::Begin(n) => format!("({name} is {:?} for {n} bytes)", test.text),
                    Match::Contain => format!("({name} contains {:?})", test.text),
                }
            }
            ExprKind::Strcontains(a, b) => {
                format!("strcontains({}, {})", self.expr(a)?, self.expr(b)?)
            }
        })
    }

    fn more(&self, length: &Option<Box<Expr>>) -> Result<String, fmt::Error> {
        Ok(match length {
            Some(length) => format!(", {}", self.expr(length)?),
            None => String::new(),
        })
    }
}

fn unsigned(ty: &Type) -> bool {
    matches!(ty, Type::Int { signed: false, .. })
}

fn name(local: Local) -> String {
    format!("${}", local.0)
}

fn point_text(word: &str, point: &Point) -> String {
    format!("{word} {} ({})", point.spec, point.text)
}

/// A type as the language writes it, with what a stack is shown as.
fn ty(ty: &Type) -> String {
    match ty {
        Type::Ustack { frames, mode } => {
            let mode = match mode {
                StackMode::Bpftrace => "",
                StackMode::Perf => "perf ",
                StackMode::Raw => "raw ",
            };
            format!("{mode}ustack[{frames}]")
        }
        Type::Tuple(parts) => {
            let parts: Vec<String> = parts.iter().map(self::ty).collect();
            format!("({})", parts.join(", "))
        }
        other => type_name(other),
    }
}

fn stepped(target: &str, step: Step) -> String {
    let sign = if step.by > 0 { "++" } else { "--" };
    match step.new {
        true => format!("{sign}{target}"),
        false => format!("{target}{sign}"),
    }
}

/// Signed operators have a small `s`.
fn binary(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div { signed: false } => "/",
        Binary::Div { signed: true } => "/s",
        Binary::Rem { signed: false } => "%",
        Binary::Rem { signed: true } => "%s",
        Binary::And => "&",
        Binary::Or => "|",
        Binary::Xor => "^",
        Binary::Shl => "<<",
        Binary::Shr { signed: false } => ">>",
        Binary::Shr { signed: true } => ">>s",
        Binary::Equal => "==",
        Binary::NotEqual => "!=",
        Binary::Less { signed: false } => "<",
        Binary::Less { signed: true } => "<s",
        Binary::LessEqual { signed: false } => "<=",
        Binary::LessEqual { signed: true } => "<=s",
    }
}

fn builtin_name(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::Pid => "pid",
        Builtin::Tid => "tid",
        Builtin::Comm => "comm",
        Builtin::Nsecs => "nsecs",
        Builtin::Elapsed => "elapsed",
        Builtin::Func => "func",
        Builtin::Probe => "probe",
        Builtin::Retval => "retval",
        Builtin::Cpid => "cpid",
        Builtin::Uid => "uid",
        Builtin::Gid => "gid",
        Builtin::Username => "username",
        Builtin::Cpu => "cpu",
        Builtin::Rand => "rand",
    }
}

fn conversion_text(c: &Conversion) -> String {
    let mut out = String::from("%");
    let flags = [
        (c.left, '-'),
        (c.zeros, '0'),
        (c.plus, '+'),
        (c.space, ' '),
        (c.alternate, '#'),
    ];
    out.extend(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
    if let Some(width) = c.width {
        out.push_str(&width.to_string());
    }
    if let Some(precision) = c.precision {
        out.push('.');
        out.push_str(&precision.to_string());
    }
    out.push_str(match c.size {
        Width::W8 => "hh",
        Width::W16 => "h",
        _ => "",
    });
    out.push(c.kind);
    out
}
