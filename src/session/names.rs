//! What the numbers in a program's values stand for: symbols, users, probes, times. Asked by the drain,
//! when something is shown.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::atlas::{Atlas, Identity, Mapped};
use super::titles::Titles;
use crate::base::{Addr, Pid};
use crate::data::Names;
use crate::language::lower::Lowered;
use crate::language::typed::StackMode;
use crate::symbols::Symbols;
use crate::sys::{clock, file};

/// Names, and the files that they come from.
pub(super) struct Registrar {
    atlas: Arc<Atlas>,
    titles: Arc<Titles>,
    program: Arc<Lowered>,
    /// Symbols of files, by device and inode.
    symbols: HashMap<Identity, Option<Arc<Symbols>>>,
    users: HashMap<u32, String>,
    zone: TimeZone,
}

impl Registrar {
    pub(super) fn new(atlas: Arc<Atlas>, titles: Arc<Titles>, program: Arc<Lowered>) -> Registrar {
        Registrar {
            atlas,
            titles,
            program,
            symbols: HashMap::new(),
            users: HashMap::new(),
            zone: TimeZone::system(),
        }
    }

    fn symbols_of(&mut self, mapped: &Mapped) -> Option<Arc<Symbols>> {
        let load = || {
            let (image, debug) = mapped.images()?;
            Symbols::load(&image, debug.as_ref()).ok().map(Arc::new)
        };
        let symbols = self.symbols.entry(mapped.identity()?);
        symbols.or_insert_with(load).clone()
    }

    /// Name, distance from its start, and file of an address.
    fn find(&mut self, pid: Pid, address: u64) -> (Option<(String, u64)>, Option<String>) {
        let Some(mapped) = self.atlas.at(pid, Addr(address)) else {
            return (None, None);
        };
        let symbols = self.symbols_of(&mapped);
        let found = symbols.as_ref().and_then(|symbols| {
            let (name, within) = symbols.lookup(mapped.link(Addr(address)))?;
            Some((name.to_owned(), within))
        });
        (found, Some(mapped.name))
    }

    fn format(&self, format: &str, time: i128) -> String {
        let Ok(time) = Timestamp::from_nanosecond(time) else {
            return String::new();
        };
        // Microseconds in six digits, as bpftrace has it.
        let format = format.replace("%f", "%6f");
        let zoned = time.to_zoned(self.zone.clone());
        jiff::fmt::strtime::format(&format, &zoned).unwrap_or(format)
    }
}

impl Names for Registrar {
    fn is_literal(&self, bytes: &[u8]) -> bool {
        self.program.literals.contains(bytes)
    }

    fn symbol(&mut self, pid: Pid, address: u64) -> String {
        match self.find(pid, address) {
            (Some((name, _)), _) => name,
            _ => format!("{address:#x}"),
        }
    }

    fn frame(&mut self, pid: Pid, address: u64, mode: StackMode) -> String {
        if mode == StackMode::Raw {
            return format!("{address:x}");
        }
        let (found, module) = self.find(pid, address);
        let name = match found {
            Some((name, within)) => format!("{name}+{within}"),
            None if mode == StackMode::Perf => "[unknown]".to_owned(),
            None => format!("{address:#x}"),
        };
        match mode {
            StackMode::Perf => {
                let module = module.unwrap_or_else(|| "[unknown]".to_owned());
                format!("{address:x} {name} ({module})")
            }
            _ => name,
        }
    }

    fn user(&mut self, uid: u32) -> String {
        let name = || file::user_name(uid).unwrap_or_else(|| uid.to_string());
        self.users.entry(uid).or_insert_with(name).clone()
    }

    fn probe(&mut self, number: u64) -> (String, String) {
        let number = self.program.name(number);
        self.titles.title(number).unwrap_or_default()
    }

    fn time(&mut self, format: &str, nanos: u64) -> String {
        // A moment of the monotonic clock is as far from now as from the wall clock's now.
        let passed = i128::from(clock::monotonic()) - i128::from(nanos);
        self.format(format, i128::from(clock::wall()) - passed)
    }

    fn wall(&mut self, format: &str, nanos: u64) -> String {
        self.format(format, i128::from(nanos))
    }
}
