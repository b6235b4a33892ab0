//! The sweep: decodes all code once, in a straight line from each known start to the next, and
//! collects every address that an instruction names. Where that line is doubtful (bytes that do
//! not decode, branches into the middle of an instruction) it decodes at every byte instead.

use iced_x86::{Code, Decoder, FlowControl, Instruction, OpKind, Register};

use super::bits::Bits;
use super::tables;
use super::targets::{Map, Targets};
use super::{Input, movable};

/// Below this much code a second thread costs more than it saves.
const WORTH_A_THREAD: u64 = 4 << 20;

/// Most labels and tables of one function that are paired; compilers make one or two of each.
const MOST_LABELS: usize = 4;
const MOST_TABLES: usize = 16;

/// A piece of code between two neighbouring starts or ends of functions.
#[derive(Clone, Copy)]
struct Piece {
    code: usize,
    start: u64,
    end: u64,
}

/// What one thread of the sweep hands back; the rest it writes into the targets' sets.
#[derive(Default)]
struct Found {
    /// Addresses outside the code that `lea` takes: where tables may start.
    bases: Vec<u64>,
    /// Displacements of operands such as `[rax*8+disp]`: where tables of addresses may start.
    absolute: Vec<u64>,
    /// The same with `rax*4`: tables of 32-bit addresses.
    narrow: Vec<u64>,
    /// A label whose address is taken within its own function, and where a table of distances from
    /// it may start.
    distances: Vec<(u64, u64)>,
    near: Vec<(u64, u64)>,
    doubtful: Vec<usize>,
}

/// Finds every address where control may arrive other than by fall-through.
pub fn sweep(input: &Input<'_>) -> Targets {
    let mut targets = Targets::new(input);
    let sizes = input.code.iter().map(|code| code.bytes.len());
    let boundaries: Vec<Bits> = sizes.map(Bits::new).collect();
    let pieces = pieces(input);
    let total: u64 = pieces.iter().map(|p| p.end - p.start).sum();
    let mut halves = [&pieces[..], &[]];
    if total > WORTH_A_THREAD {
        let mut before = 0;
        let middle = pieces.partition_point(|p| {
            before += p.end - p.start;
            before < total / 2
        });
        halves = pieces.split_at(middle).into();
    }
    let run = |pieces| Worker::new(input, &targets, &boundaries, pieces).run();
    let (mut found, more) = std::thread::scope(|scope| {
        let other = (!halves[1].is_empty()).then(|| scope.spawn(|| run(halves[1])));
        let found = run(halves[0]);
        (found, other.map(|thread| thread.join()))
    });
    match more {
        None => {}
        Some(Ok(more)) => {
            let offset = halves[0].len();
            found.bases.extend(more.bases);
            found.absolute.extend(more.absolute);
            found.narrow.extend(more.narrow);
            found.distances.extend(more.distances);
            found.near.extend(more.near);
            let more = more.doubtful.iter().map(|index| index + offset);
            found.doubtful.extend(more);
        }
        // Nothing in the sweep panics; should it, what that half would have found is needed.
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
    for (map, boundary) in targets.maps.iter().zip(&boundaries) {
        for index in map.branch.without(boundary) {
            let addr = map.start + index as u64;
            let piece = pieces.partition_point(|p| p.end <= addr);
            if pieces.get(piece).is_some_and(|p| p.start <= addr) {
                found.doubtful.push(piece);
            }
        }
    }
    found.doubtful.sort_unstable();
    found.doubtful.dedup();
    for piece in found.doubtful.iter().filter_map(|&i| pieces.get(i)) {
        every_byte(input, &targets, piece);
    }
    tables::distances(input, &targets, found.distances);
    tables::relative(input, &targets, found.bases);
    if !input.pie {
        tables::absolute(input, &targets, found.absolute);
        tables::narrow(input, &targets, found.narrow);
    }
    found.near.sort_unstable();
    targets.near = found.near;
    targets
}

/// Cuts all code at every known start and end.
fn pieces(input: &Input<'_>) -> Vec<Piece> {
    let mut cuts: Vec<u64> = input.functions.iter().flat_map(|f| [f.0, f.1]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces = Vec::with_capacity(cuts.len() + input.code.len());
    for (number, code) in input.code.iter().enumerate() {
        let mut start = code.start;
        let first = cuts.partition_point(|&cut| cut <= start);
        let inside = cuts[first..].iter().take_while(|&&cut| cut < code.end());
        for &end in inside.chain([&code.end()]) {
            if end > start {
                pieces.push(Piece {
                    code: number,
                    start,
                    end,
                });
            }
            start = end;
        }
    }
    pieces.sort_by_key(|p| p.start);
    pieces
}

struct Worker<'a> {
    input: &'a Input<'a>,
    targets: &'a Targets,
    boundaries: &'a [Bits],
    pieces: &'a [Piece],
    found: Found,
    /// Addresses inside the piece at hand that it takes itself, and whether it has a branch that
    /// may lead to them.
    labels: Vec<u64>,
    branches: bool,
}

impl<'a> Worker<'a> {
    fn new(
        input: &'a Input<'a>,
        targets: &'a Targets,
        boundaries: &'a [Bits],
        pieces: &'a [Piece],
    ) -> Worker<'a> {
        let found = Found::default();
        Worker {
            input,
            targets,
            boundaries,
            pieces,
            found,
            labels: Vec::new(),
            branches: false,
        }
    }

    fn run(mut self) -> Found {
        let mut decoder: Option<(usize, Decoder<'_>)> = None;
        for (index, piece) in self.pieces.iter().enumerate() {
            let Some(code) = self.input.code.get(piece.code) else {
                continue;
            };
            if decoder.as_ref().is_none_or(|d| d.0 != piece.code) {
                decoder = code.decoder(code.start).map(|d| (piece.code, d));
            }
            let Some((_, decoder)) = &mut decoder else {
                continue;
            };
            if !self.piece(decoder, piece) {
                self.found.doubtful.push(index);
            }
        }
        self.found
    }

    /// Decodes one piece. `false` when bytes did not decode or an instruction crossed its end.
    fn piece(&mut self, decoder: &mut Decoder<'_>, piece: &Piece) -> bool {
        let (Some(map), Some(boundary)) = (
            self.targets.maps.get(piece.code),
            self.boundaries.get(piece.code),
        ) else {
            return true;
        };
        let mut clean = true;
        let mut instruction = Instruction::default();
        let (mut word, mut mask) = (0, 0);
        let known = (self.found.bases.len(), self.found.narrow.len());
        self.labels.clear();
        self.branches = false;
        let mut at = piece.start;
        while at < piece.end {
            if decoder.ip() != at && !seek(decoder, map, at) {
                break;
            }
            decoder.decode_out(&mut instruction);
            let Some(index) = map.index(at) else { break };
            if index / 64 != word {
                boundary.merge(word, mask);
                (word, mask) = (index / 64, 0);
            }
            mask |= 1 << (index % 64);
            if instruction.is_invalid() {
                clean = false;
                at += 1;
                continue;
            }
            at = instruction.next_ip();
            self.instruction(map, &instruction);
        }
        boundary.merge(word, mask);
        if self.branches {
            self.pair(piece, known);
        }
        clean && at == piece.end
    }

    /// Pairs the labels of a piece with the tables it names, those behind the `known` ones.
    fn pair(&mut self, piece: &Piece, known: (usize, usize)) {
        self.labels.retain(|l| piece.start < *l && *l < piece.end);
        self.labels.sort_unstable();
        self.labels.dedup();
        let tables = self.found.bases.iter().skip(known.0);
        let tables = tables.chain(self.found.narrow.iter().skip(known.1));
        let mut tables: Vec<u64> = tables.copied().collect();
        tables.sort_unstable();
        tables.dedup();
        for &table in tables.iter().take(MOST_TABLES) {
            let pairs = self.labels.iter().take(MOST_LABELS);
            self.found
                .distances
                .extend(pairs.map(|&label| (table, label)));
        }
    }

    /// Takes down every address an instruction names.
    fn instruction(&mut self, map: &Map, i: &Instruction) {
        match i.flow_control() {
            FlowControl::Next => {}
            FlowControl::Call
            | FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::XbeginXabortXend => self.branch(map, i),
            FlowControl::IndirectBranch => self.branches = true,
            _ => {}
        }
        match i.memory_base() {
            Register::RIP | Register::EIP if i.code() != Code::INVALID => {
                let to = i.memory_displacement64();
                self.address(map, to, is_lea(i));
            }
            Register::None if !self.input.pie => {
                if i.memory_index() != Register::None {
                    match i.memory_index_scale() {
                        8 => self.found.absolute.push(i.memory_displacement64()),
                        4 => self.found.narrow.push(i.memory_displacement64()),
                        _ => {}
                    }
                } else if is_lea(i) {
                    self.address(map, i.memory_displacement64(), true);
                }
            }
            _ => {}
        }
        if self.input.pie {
            if i.code() == Code::Mov_r64_imm64 {
                self.address(map, i.immediate64(), false);
            }
            return;
        }
        for (operand, kind) in [(0, i.op0_kind()), (1, i.op1_kind())] {
            if let OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 = kind {
                self.address(map, i.immediate(operand), false);
            }
        }
    }

    fn branch(&mut self, own: &Map, i: &Instruction) {
        let Some(to) = direct_target(i) else { return };
        let local = own.index(to).map(|index| (own, index));
        let Some((map, index)) = local.or_else(|| self.targets.find(to)) else {
            return;
        };
        map.branch.set(index);
        let call = i.flow_control() == FlowControl::Call;
        if call {
            map.called.set(index);
        }
        if map.starts.get(index) {
            if i.flow_control() == FlowControl::ConditionalBranch && self.crosses(i.ip(), to) {
                map.crossed.set(index);
            }
        } else {
            if map.near_start(index) {
                self.found.near.push((to, i.ip()));
            }
            if !call && i.ip().abs_diff(to) > 0x7f && self.crosses_into(i.ip(), to) {
                map.crossed.set(index);
            }
        }
    }

    /// Whether a branch to the start of a function comes from outside it.
    fn crosses(&self, from: u64, start: u64) -> bool {
        if from < start {
            return true;
        }
        let end = self.input.function_at(start).map_or(start, |f| f.1);
        let next = self.input.next_start(start).unwrap_or(u64::MAX);
        from >= if end > start { end } else { next }
    }

    /// Whether a branch into a function comes from another one.
    fn crosses_into(&self, from: u64, to: u64) -> bool {
        match self.input.function_at(to) {
            Some((start, end)) => from < start || (from >= end && end > start),
            None => false,
        }
    }

    /// An address that an instruction takes or reads.
    fn address(&mut self, own: &Map, to: u64, table: bool) {
        let local = own.index(to).map(|index| (own, index));
        if let Some((map, index)) = local.or_else(|| self.targets.find(to)) {
            map.pointer.set(index);
            self.labels.push(to);
        }
        if table {
            self.found.bases.push(to);
        }
    }
}

fn is_lea(i: &Instruction) -> bool {
    matches!(
        i.code(),
        Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m
    )
}

/// Where a direct branch leads.
fn direct_target(i: &Instruction) -> Option<u64> {
    match i.op0_kind() {
        OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16 => {
            Some(i.near_branch_target())
        }
        _ => None,
    }
}

/// Moves a decoder of a whole code range to an address inside it.
fn seek(decoder: &mut Decoder<'_>, map: &Map, addr: u64) -> bool {
    let Some(index) = map.index(addr) else {
        return false;
    };
    decoder.set_ip(addr);
    decoder.set_position(index).is_ok()
}

/// Decodes a piece at every byte and takes down all direct branches: among them are the real ones,
/// whatever is code in it and wherever that starts.
fn every_byte(input: &Input<'_>, targets: &Targets, piece: &Piece) {
    let (Some(code), Some(map)) = (input.code.get(piece.code), targets.maps.get(piece.code)) else {
        return;
    };
    let Some(mut decoder) = code.decoder(code.start) else {
        return;
    };
    let mut instruction = Instruction::default();
    for at in piece.start..piece.end {
        if !seek(&mut decoder, map, at) {
            return;
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() || movable::is_system_call(instruction.code()) {
            continue;
        }
        let to = direct_target(&instruction).and_then(|to| targets.find(to));
        if let Some((map, index)) = to {
            map.branch.set(index);
        }
    }
}
