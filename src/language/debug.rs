//! What the checker asks of debug information. Knows no file format: who has symbols answers.

use super::typed::Type;
use crate::spec::ProbeSpec;

/// A parameter of a function that a probe names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the source.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// The number of the integer argument that holds it, from 0, or of the floating-point argument where
    /// it is of such a type; `None` where it is passed in another way (a structure by value).
    pub argument: Option<u8>,
}

/// A member of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Offset in bytes from the structure's start.
    pub offset: u64,
    /// First bit above the lowest of the bytes at `offset`, and how many, for a bit field.
    pub bits: Option<(u8, u8)>,
}

/// A structure or union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Structure {
    /// Size in bytes.
    pub size: u64,
    /// Members in order; those of anonymous members stand among them.
    pub members: Vec<Member>,
}

/// A place of a USDT probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// `provider:name`.
    pub name: String,
    /// Its arguments, in order, as its note writes them (`-4@%edi`).
    pub args: Vec<String>,
}

/// Answers from debug information.
pub trait Debug {
    /// The parameters of the function that a probe names, in order. An error says in words why they
    /// are not known: no debug information, no such function, functions that differ.
    fn parameters(&self, probe: &ProbeSpec) -> Result<Vec<Parameter>, String>;
    /// The structure of that name (`request` of `struct request`) in the module of the probe.
    fn structure(&self, probe: &ProbeSpec, name: &str) -> Option<Structure>;
    /// The places of a USDT probe; an error in words where there is none.
    fn usdt(&self, probe: &ProbeSpec) -> Result<Vec<Noted>, String>;
}

/// No debug information at all.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Debug for Nothing {
    fn parameters(&self, _: &ProbeSpec) -> Result<Vec<Parameter>, String> {
        Err("there is no debug information".to_owned())
    }

    fn structure(&self, _: &ProbeSpec, _: &str) -> Option<Structure> {
        None
    }

    fn usdt(&self, _: &ProbeSpec) -> Result<Vec<Noted>, String> {
        Err("there is no such USDT probe".to_owned())
    }
}
