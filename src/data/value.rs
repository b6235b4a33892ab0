//! Values as the tracer shows them: read from records and maps, checked, symbols and names put in.
//! Plain data.

use crate::language::typed::StackMode;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// A signed integer.
    Int(i64),
    /// An unsigned one.
    Uint(u64),
    /// An address in the target: hex in text, a number in JSON.
    Pointer(u64),
    /// `farg0`
    Float(f64),
    /// Bytes of a string from the target; anything may be in them.
    Str(Vec<u8>),
    /// A string of the program's own text: shown as it stands.
    Literal(Vec<u8>),
    /// Bytes of `buf`.
    Buf(Vec<u8>),
    /// Several values.
    Tuple(Vec<Datum>),
    /// A structure: its members and their names.
    Record(Vec<(String, Datum)>),
    /// An array.
    List(Vec<Datum>),
    /// Text that is known already: a symbol, a name, a network address, a time.
    Text(String),
    /// A stack, innermost first: one text a frame, without the indentation of its mode.
    Stack(StackMode, Vec<String>),
    /// Reading it faulted at this address.
    Fault(u64),
}

/// What a map holds under one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A plain value.
    Value(Datum),
    /// `count()`, `sum(x)`, `min(x)`, `max(x)`: an integer as [`Datum::Int`] or [`Datum::Uint`].
    Number(Datum),
    /// `avg(x)`
    Avg {
        /// How many values.
        count: u64,
        /// Their sum, signed or not.
        total: Datum,
    },
    /// `stats(x)`
    Stats {
        /// How many values.
        count: u64,
        /// Their sum, signed or not.
        total: Datum,
    },
    /// `hist(x, bits)`; buckets as [`crate::base::histogram`] numbers them.
    Hist {
        /// Each power of two is cut into 2^bits.
        bits: u8,
        /// How many values in each.
        buckets: Vec<u64>,
    },
    /// `lhist(x, min, max, step)`; the first bucket is below `min`, the last from `max` on.
    Lhist {
        /// Start of the first bucket.
        min: i64,
        /// End of the last.
        max: i64,
        /// Width of one.
        step: i64,
        /// How many values in each: 2 more than there are steps.
        buckets: Vec<u64>,
    },
}

/// A map at one moment, in no order.
#[derive(Clone, Debug, PartialEq)]
pub struct MapData {
    /// With its `@`.
    pub name: String,
    /// Key (its parts; none for a map without keys) and what it holds.
    pub entries: Vec<(Vec<Datum>, Cell)>,
}
