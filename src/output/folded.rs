//! The `folded` format, which flamegraph.pl and inferno read: `comm;f;g N` for each stack of calls
//! that ended, with the nanoseconds they spent in no other call that is shown, at the end. What
//! programs print comes before, as text.
//!
//! Invariant: the numbers add up to the self times of all calls that ended and are shown, whatever
//! bounds are met.

use std::collections::HashMap;
use std::io::{self, Write};

use super::calls::{Call, CallFilter, Calls, Ended, FunctionId, Functions, Reader};
use super::{escape, language};
use crate::data::{Feed, Hit, MapData, Sink, Summary};

/// Different stacks that are told apart; what comes more counts for the stack it stands on.
const MOST_STACKS: usize = 1 << 20;
/// Deepest stack; the same holds for what is deeper.
const DEEPEST: u32 = 1024;

/// The `folded` format.
pub struct Folded<W: Write + Send> {
    out: io::BufWriter<W>,
    calls: Calls,
    stacks: Stacks,
}

impl<W: Write + Send> Folded<W> {
    /// Writes to `out` the calls that the filter shows.
    pub fn new(out: W, filter: CallFilter) -> Folded<W> {
        Folded {
            out: io::BufWriter::new(out),
            calls: Calls::new(filter),
            stacks: Stacks::default(),
        }
    }

    fn print(&mut self, make: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut text = Vec::new();
        make(&mut text);
        self.out.write_all(&text)
    }
}

impl<W: Write + Send> Sink for Folded<W> {
    fn armed(&mut self, _probes: usize) -> io::Result<()> {
        Ok(())
    }

    fn hit(&mut self, hit: &Hit<'_>) -> io::Result<()> {
        self.calls.hit(hit, &mut self.stacks);
        Ok(())
    }

    language::prints!(text);

    fn maps_at_end(&mut self, maps: &[MapData]) -> io::Result<()> {
        self.print(|out| {
            out.extend_from_slice(language::text::GAP);
            language::text::maps_at_end(out, maps);
        })
    }

    fn lost(&mut self, _events: u64) -> io::Result<()> {
        Ok(())
    }

    fn closed(&mut self, feed: &Feed) -> io::Result<()> {
        self.calls.finish(Some(feed.pid), &mut self.stacks);
        Ok(())
    }

    fn summary(&mut self, _summary: &Summary) -> io::Result<()> {
        self.calls.finish(None, &mut self.stacks);
        let mut lines = self.stacks.lines(self.calls.functions());
        lines.sort_unstable();
        for (line, own) in lines {
            self.out.write_all(&line)?;
            writeln!(self.out, " {own}")?;
        }
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A function called by the one of another node.
struct Node {
    parent: Option<usize>,
    function: Option<FunctionId>,
    depth: u32,
    own: u64,
    calls: u64,
}

/// Every stack once.
#[derive(Default)]
struct Stacks {
    nodes: Vec<Node>,
    roots: HashMap<String, usize>,
    below: HashMap<(usize, FunctionId), usize>,
}

impl Stacks {
    fn add(&mut self, parent: Option<usize>, function: Option<FunctionId>) -> usize {
        let depth = parent.and_then(|parent| self.nodes.get(parent));
        self.nodes.push(Node {
            parent,
            function,
            depth: depth.map_or(0, |node| node.depth + 1),
            own: 0,
            calls: 0,
        });
        self.nodes.len() - 1
    }

    fn root(&mut self, comm: &str) -> usize {
        if let Some(&root) = self.roots.get(comm) {
            return root;
        }
        let root = self.add(None, None);
        self.roots.insert(comm.to_owned(), root);
        root
    }

    fn child(&mut self, parent: usize, function: FunctionId) -> usize {
        if let Some(&child) = self.below.get(&(parent, function)) {
            return child;
        }
        let deep = self
            .nodes
            .get(parent)
            .is_none_or(|node| node.depth >= DEEPEST);
        if deep || self.nodes.len() >= MOST_STACKS {
            return parent;
        }
        let child = self.add(Some(parent), Some(function));
        self.below.insert((parent, function), child);
        child
    }

    /// The stack of these calls; each bears its node, and one, as its mark.
    fn node(&mut self, comm: &str, stack: &mut [Call]) -> usize {
        let unknown = |call: &Call| call.mark == 0 && call.level.is_some();
        let known = stack.iter().rposition(|call| !unknown(call));
        let mark = known.and_then(|known| stack.get(known)?.mark.checked_sub(1));
        let mut node = match mark {
            Some(mark) => mark as usize,
            None => self.root(comm),
        };
        let first = known.map_or(0, |known| known + 1);
        for call in stack.iter_mut().skip(first) {
            node = self.child(node, call.function);
            call.mark = u32::try_from(node + 1).unwrap_or(0);
        }
        node
    }

    fn lines(&self, functions: &Functions) -> Vec<(Vec<u8>, u64)> {
        let comms: HashMap<usize, &str> = self
            .roots
            .iter()
            .map(|(comm, root)| (*root, comm.as_str()))
            .collect();
        let mut lines = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.calls == 0 {
                continue;
            }
            let mut path = Vec::new();
            let mut at = Some(index);
            while let Some((index, node)) = at.and_then(|at| Some((at, self.nodes.get(at)?))) {
                path.push(match node.function {
                    Some(function) => functions.get(function).name.as_str(),
                    None => comms.get(&index).copied().unwrap_or_default(),
                });
                at = node.parent;
            }
            let mut line = Vec::new();
            for (index, name) in path.into_iter().rev().enumerate() {
                if index > 0 {
                    line.push(b';');
                }
                let start = line.len();
                escape::text(&mut line, name.as_bytes());
                let name = line.iter_mut().skip(start);
                name.filter(|byte| **byte == b';')
                    .for_each(|byte| *byte = b':');
            }
            lines.push((line, node.own));
        }
        lines
    }
}

impl Reader for Stacks {
    fn values(&self, _out: &mut Vec<u8>, _hit: &Hit<'_>) {}

    fn ended(&mut self, _functions: &Functions, stack: &mut [Call], ended: &Ended<'_>) {
        if ended.duration.is_none() {
            return;
        }
        let outer = self.node(ended.comm, stack);
        let node = self.child(outer, ended.call.function);
        if let Some(node) = self.nodes.get_mut(node) {
            node.own = node.own.saturating_add(ended.own);
            node.calls += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::testing::Events;
    use super::*;

    fn printed(events: &Events, filter: CallFilter) -> String {
        let mut bytes = Vec::new();
        let mut folded = Folded::new(&mut bytes, filter);
        events.play(&mut folded);
        folded.summary(&Summary::default()).unwrap();
        drop(folded);
        String::from_utf8(bytes).unwrap()
    }

    fn some() -> Events {
        let mut events = Events::default();
        events.enter(10, "main", 1_000, &[]);
        for start in [2_000, 3_000] {
            events.enter(10, "f;g", start, &[]);
            events.enter(10, "h", start + 100, &[]);
            events.leave(10, "h", start + 300, 200, &[]);
            events.leave(10, "f;g", start + 500, 500, &[]);
        }
        events.leave(10, "main", 9_000, 8_000, &[]);
        events.enter(10, "sleep", 9_100, &[]);
        events
    }

    #[test]
    fn each_stack_is_a_line_with_its_self_time() {
        assert_eq!(
            printed(&some(), CallFilter::default()),
            "prog;main 7000\nprog;main;f:g 600\nprog;main;f:g;h 400\n"
        );
    }

    #[test]
    fn the_time_of_calls_left_out_is_that_of_those_around_them() {
        let filter = |depth, at_least| CallFilter {
            depth,
            at_least,
            within: None,
        };
        let short = "prog;main 7000\nprog;main;f:g 1000\n";
        assert_eq!(printed(&some(), filter(Some(2), 0)), short);
        assert_eq!(printed(&some(), filter(None, 300)), short);
    }
}
