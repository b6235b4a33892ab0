//! Functions by number, in the order they were met: calls are many, their names few.

use std::collections::HashMap;

use super::filter::CallFilter;
use crate::data::ProbeInfo;

/// A function's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::output) struct FunctionId(u32);

/// What is known of a function; untrusted.
#[derive(Debug)]
pub(in crate::output) struct Function {
    pub(in crate::output) name: String,
    pub(in crate::output) module: String,
    /// Whether the filter names it.
    pub(super) meant: bool,
}

/// All that were met. There are no more than probes.
#[derive(Debug, Default)]
pub(in crate::output) struct Functions {
    list: Vec<Function>,
    by_module: HashMap<String, HashMap<String, FunctionId>>,
}

const UNKNOWN: &Function = &Function {
    name: String::new(),
    module: String::new(),
    meant: false,
};

impl Functions {
    pub(super) fn of(&mut self, probe: &ProbeInfo, filter: &CallFilter) -> FunctionId {
        let (name, module): (&str, &str) = (&probe.name, &probe.module);
        let found = self.by_module.get(module).and_then(|names| names.get(name));
        if let Some(&found) = found {
            return found;
        }
        let id = FunctionId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(Function {
            name: name.to_owned(),
            module: module.to_owned(),
            meant: filter.means(name, module),
        });
        let names = self.by_module.entry(module.to_owned()).or_default();
        names.insert(name.to_owned(), id);
        id
    }

    pub(in crate::output) fn get(&self, id: FunctionId) -> &Function {
        self.list.get(id.0 as usize).unwrap_or(UNKNOWN)
    }
}
