//! How the maps of a program lie in memory: which are summed over threads, which belong to the
//! session, how many entries they have room for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::language::layout;
use crate::language::typed::{
    Binary, Checked, Expr, ExprKind, Map, MapId, MapValue, Stmt, StmtKind, Type,
};
use crate::program::{Cell, Home, KeyPart, Table};

/// `max_map_keys` of bpftrace.
const MAX_KEYS: u32 = 4096;
/// Most that is taken for one map.
const MOST_KEYS: u32 = 1 << 20;

/// How much memory a program's maps take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in the block of each thread.
    pub thread: u32,
    /// Bytes of the session.
    pub session: u64,
    /// Bytes of scratch memory for a hit.
    pub scratch: u32,
}

/// The tables of a program, by map.
pub(super) fn tables(checked: &Checked) -> (Vec<Arc<Table>>, Memory) {
    let read = read(checked);
    let keys = checked.config.max_map_keys.unwrap_or(MAX_KEYS);
    let keys = keys.clamp(1, MOST_KEYS);
    let mut memory = Memory::default();
    let mut tables = Vec::new();
    for (index, map) in (0_u32..).zip(&checked.maps) {
        let cell = cell(&map.value);
        let shared = !cell.is_aggregation() || map.read || read.contains(&MapId(index));
        let mut table = Table {
            map: index,
            home: if shared { Home::Session } else { Home::Thread },
            offset: 0,
            slots: 1,
            key: key(map),
            cell,
        };
        if table.is_keyed() {
            let own = checked.config.sizes.get(&map.name);
            let keys = own.map_or(keys, |own| (*own).clamp(1, MOST_KEYS));
            // Half full at most, so that searches stay short.
            table.slots = (2 * keys).next_power_of_two();
        }
        let size = table.size();
        match table.home {
            Home::Thread => {
                table.offset = memory.thread;
                let size = u32::try_from(size).unwrap_or(u32::MAX / 2);
                memory.thread = memory.thread.saturating_add(size);
            }
            Home::Session => {
                table.offset = u32::try_from(memory.session).unwrap_or(u32::MAX / 2);
                memory.session += size;
            }
        }
        tables.push(Arc::new(table));
    }
    (tables, memory)
}

fn key(map: &Map) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    for ty in &map.key {
        parts_of(ty, &mut parts);
    }
    parts
}

fn parts_of(ty: &Type, parts: &mut Vec<KeyPart>) {
    match ty {
        Type::Tuple(inner) => inner.iter().for_each(|ty| parts_of(ty, parts)),
        Type::Str { .. } | Type::Buf { .. } | Type::Whole(_) | Type::Inet => {
            parts.push(KeyPart::Bytes(layout::size(ty)));
        }
        // What lies behind the last frame is cleared.
        Type::Ustack { .. } => {
            let words = layout::size(ty) / 8;
            parts.extend((0..words).map(|_| KeyPart::Word));
        }
        _ => parts.push(KeyPart::Word),
    }
}

fn cell(value: &MapValue) -> Cell {
    match *value {
        MapValue::Plain(ref ty) if layout::is_word(ty) => Cell::Word,
        MapValue::Plain(ref ty) => Cell::Wide(layout::size(ty)),
        MapValue::Count => Cell::Count,
        MapValue::Sum { .. } => Cell::Sum,
        MapValue::Avg { .. } | MapValue::Stats { .. } => Cell::Average,
        MapValue::Min { signed } => Cell::Least { signed },
        MapValue::Max { signed } => Cell::Greatest { signed },
        MapValue::Hist { bits } => Cell::Powers { bits },
        MapValue::Lhist { min, max, step } => Cell::Steps { min, max, step },
    }
}

/// Maps that some block reads, goes over, or takes entries from: what is spread over threads cannot
/// be read in one.
fn read(checked: &Checked) -> BTreeSet<MapId> {
    let mut maps = BTreeSet::new();
    for block in &checked.blocks {
        if let Some(predicate) = &block.predicate {
            expr(predicate, &mut maps);
        }
        stmts(&block.body, &mut maps);
    }
    maps
}

fn stmts(body: &[Stmt], maps: &mut BTreeSet<MapId>) {
    for stmt in body {
        match &stmt.kind {
            StmtKind::Expr(e)
            | StmtKind::SetLocal(_, e)
            | StmtKind::Print(e)
            | StmtKind::Join(e, _)
            | StmtKind::Exit(Some(e)) => expr(e, maps),
            StmtKind::SetMap(_, key, value) => {
                exprs(key, maps);
                expr(value, maps);
            }
            StmtKind::Aggregate(_, key, value) => {
                exprs(key, maps);
                value.iter().for_each(|e| expr(e, maps));
            }
            StmtKind::If(condition, then, otherwise) => {
                expr(condition, maps);
                stmts(then, maps);
                stmts(otherwise, maps);
            }
            StmtKind::Range(_, from, to, body) => {
                expr(from, maps);
                expr(to, maps);
                stmts(body, maps);
            }
            StmtKind::Each(_, map, body) => {
                maps.insert(*map);
                stmts(body, maps);
            }
            StmtKind::While(condition, body) => {
                expr(condition, maps);
                stmts(body, maps);
            }
            StmtKind::Delete(map, key) => {
                maps.insert(*map);
                exprs(key, maps);
            }
            StmtKind::PrintEntry(_, key) => exprs(key, maps),
            StmtKind::Printf(_, args) | StmtKind::Cat(_, args) | StmtKind::System(_, args) => {
                exprs(args, maps);
            }
            StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Return
            | StmtKind::PrintMap { .. }
            | StmtKind::Clear(_)
            | StmtKind::Zero(_)
            | StmtKind::Exit(None)
            | StmtKind::Time(_) => {}
        }
    }
}

fn exprs(some: &[Expr], maps: &mut BTreeSet<MapId>) {
    some.iter().for_each(|e| expr(e, maps));
}

fn expr(e: &Expr, maps: &mut BTreeSet<MapId>) {
    if let ExprKind::Map(map, _)
    | ExprKind::HasKey(map, _)
    | ExprKind::Len(map)
    | ExprKind::StepMap(map, ..) = &e.kind
    {
        maps.insert(*map);
    }
    for inner in e.kind.operands() {
        expr(inner, maps);
    }
}

impl ExprKind {
    /// The expressions directly inside.
    pub(super) fn operands(&self) -> Vec<&Expr> {
        match self {
            ExprKind::Int(_)
            | ExprKind::Str(_)
            | ExprKind::Builtin(_)
            | ExprKind::Arg(_)
            | ExprKind::FloatArg(_)
            | ExprKind::StackArg(_)
            | ExprKind::Reg(_)
            | ExprKind::Usdt(_)
            | ExprKind::Local(_)
            | ExprKind::Len(_)
            | ExprKind::StepLocal(..)
            | ExprKind::Called(_)
            | ExprKind::Ustack => Vec::new(),
            ExprKind::Map(_, some)
            | ExprKind::HasKey(_, some)
            | ExprKind::StepMap(_, some, _)
            | ExprKind::Tuple(some) => some.iter().collect(),
            ExprKind::Unary(_, a)
            | ExprKind::Cast(a)
            | ExprKind::Load { address: a, .. }
            | ExprKind::Part(a, _)
            | ExprKind::Usym(a)
            | ExprKind::Strftime(a) => vec![a],
            ExprKind::Binary(_, a, b)
            | ExprKind::And(a, b)
            | ExprKind::Or(a, b)
            | ExprKind::Strncmp(a, b, _)
            | ExprKind::Strcontains(a, b) => vec![a, b],
            ExprKind::Ternary(a, b, c) => vec![a, b, c],
            ExprKind::StrAt(a, b) | ExprKind::BufAt(a, b) => {
                let mut some: Vec<&Expr> = vec![a];
                some.extend(b.as_deref());
                some
            }
            ExprKind::Ntop(family, address) => {
                let mut some: Vec<&Expr> = family.as_deref().into_iter().collect();
                some.push(address);
                some
            }
        }
    }

    /// Whether computing it changes something that another expression may read.
    pub(super) fn has_effects(&self) -> bool {
        matches!(self, ExprKind::StepMap(..) | ExprKind::StepLocal(..))
            || self.operands().iter().any(|e| e.kind.has_effects())
    }
}

impl Binary {
    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Binary::Equal | Binary::NotEqual | Binary::Less { .. } | Binary::LessEqual { .. }
        )
    }
}
