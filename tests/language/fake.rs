//! Debug information of a program that does not exist: a few functions, structures, USDT probes.

use kptrace::language::debug::{Debug, Member, Noted, Parameter, Structure};
use kptrace::language::typed::Type;
use kptrace::program::Width;
use kptrace::spec::{Location, NameText, ProbeSpec};

/// Knows `handle(struct request *req, int n, double weight)` and `finish(int n, struct request
/// *req)` in any module.
pub struct Fake;

pub fn int(width: Width, signed: bool) -> Type {
    Type::Int { width, signed }
}

fn pointer(to: Type) -> Type {
    Type::Pointer(Box::new(to))
}

fn parameter(name: &str, ty: Type, argument: Option<u8>) -> Parameter {
    Parameter {
        name: name.to_owned(),
        ty,
        argument,
    }
}

fn member(name: &str, ty: Type, offset: u64, bits: Option<(u8, u8)>) -> Member {
    Member {
        name: name.to_owned(),
        ty,
        offset,
        bits,
    }
}

impl Debug for Fake {
    fn parameters(&self, probe: &ProbeSpec) -> Result<Vec<Parameter>, String> {
        let Location::Symbol { name, .. } = &probe.location else {
            return Err("this is no function".to_owned());
        };
        let request = pointer(Type::Struct("request".to_owned()));
        let n = int(Width::W32, true);
        match name {
            NameText::Exact(name) if name == "handle" => Ok(vec![
                parameter("req", request, Some(0)),
                parameter("n", n, Some(1)),
                parameter("weight", Type::Float, None),
            ]),
            NameText::Exact(name) if name == "finish" => Ok(vec![
                parameter("n", n, Some(0)),
                parameter("req", request, Some(1)),
            ]),
            NameText::Exact(_) => Err("there is no debug information".to_owned()),
            _ => Err("the functions differ".to_owned()),
        }
    }

    fn structure(&self, _: &ProbeSpec, name: &str) -> Option<Structure> {
        let char = int(Width::W8, true);
        match name {
            "request" => Some(Structure {
                size: 64,
                members: vec![
                    member("id", int(Width::W32, false), 0, None),
                    member("flags", int(Width::W32, false), 4, Some((3, 5))),
                    member("name", pointer(char.clone()), 8, None),
                    member(
                        "next",
                        pointer(Type::Struct("request".to_owned())),
                        16,
                        None,
                    ),
                    member("peer", Type::Struct("peer".to_owned()), 24, None),
                    member(
                        "tag",
                        Type::Array {
                            of: Box::new(char),
                            len: 16,
                        },
                        40,
                        None,
                    ),
                ],
            }),
            "peer" => Some(Structure {
                size: 16,
                members: vec![
                    member("address", int(Width::W32, false), 0, None),
                    member(
                        "bytes",
                        Type::Array {
                            of: Box::new(int(Width::W8, false)),
                            len: 8,
                        },
                        8,
                        None,
                    ),
                ],
            }),
            _ => None,
        }
    }

    fn usdt(&self, probe: &ProbeSpec) -> Result<Vec<Noted>, String> {
        let place = |name: &str, args: &[&str]| Noted {
            name: format!("shop:{name}"),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        if probe.text.contains("tick") {
            return Ok(vec![place("tick", &["-4@%edi", "8@8(%rsp)"])]);
        }
        if probe.text.contains("tock") {
            return Ok(vec![place("tock", &["-4@%esi"])]);
        }
        // Two places alike, one that is not, and other names with fewer arguments.
        if probe.text.contains("sold") {
            let (here, there) = (["-4@%esi", "8@%rax"], ["4@12(%rbp)", "8@%rax"]);
            return Ok(vec![
                place("sold", &here),
                place("sold", &there),
                place("sold", &here),
            ]);
        }
        if probe.text.contains("*") {
            return Ok(vec![place("sold", &["4@$3"]), place("open", &[])]);
        }
        Err("there is no such USDT probe".to_owned())
    }
}
