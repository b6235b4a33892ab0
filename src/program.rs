//! The `Program` IR: what a probe does at a hit, typed and arch-neutral. Every front end lowers to
//! it; `arch` emits it as machine code. There is no second path.

mod dump;
mod ir;

pub use ir::{
    BinaryOp, Effect, Field, FieldKind, Inst, IntFormat, Program, Record, RegId, Value, Width,
};
