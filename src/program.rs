//! The `Program` IR: what a probe does at a hit, typed and arch-neutral. Every front end lowers to
//! it; `arch` emits it as machine code. There is no second path.

mod check;
mod dump;
mod ir;
pub mod table;

pub use ir::{
    BinaryOp, Callers, Copy, Each, Effect, Field, FieldKind, Inst, IntFormat, Key, Known, Local,
    MAX_FIELDS, MAX_LOCALS, MAX_SCRATCH, MAX_TURNS, MapOp, Moment, Program, Record, RegId, UnaryOp,
    Value, Width,
};
pub use table::{Cell, Home, KeyPart, Table};
