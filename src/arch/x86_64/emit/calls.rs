//! Calls whose returns are probed: what the detour does to be returned to, and what runs then.
//!
//! At the entry the thread takes a free activation of its pool, writes down the return address, puts
//! the address of the activation's thunk in its place and leaves to that: it calls the copy of the
//! displaced instructions, so calls and returns stay balanced, and stack arguments stay where they are.
//! When the body returns, the thunk goes on in the exit code made here, which runs the programs, frees
//! the activation and returns to the caller. Where the return address is a thunk's already, the
//! function before ended in a call of this one: its activation serves this one.
//!
//! Invariant: an activation is taken by one instruction of its pool's owner, so signal handlers that
//! hit probes in the middle of this take others; it is freed by one store.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::gpr8::cl;
use iced_x86::code_asm::registers::gpr32::{eax, ecx, edx};
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler, byte_ptr, ptr, qword_ptr};

use super::assembler::{Mark, Patch};
use super::body::{Site, Space, in_block};
use super::needs::Needs;
use super::plan::{Numbered, Plan};
use super::template::{Environment, Frame, RED_ZONE, Saved, Unsupported};
use crate::abi::{self, Activations, Fate};
use crate::base::ProbeId;
use crate::program::{Inst, Moment, Program};

/// How many activations are looked at for a free one; the next hit goes on where this one ended.
const LOOKS: i32 = 32;

/// The return probes of a site.
#[derive(Clone)]
pub(super) struct Calls {
    returns: Vec<Numbered>,
    activations: Activations,
    /// Whether the time of the entry is taken.
    timed: bool,
    body: Mark,
    exit: Mark,
}

impl Calls {
    pub(super) fn new(
        frame: &mut Frame,
        returns: Vec<Numbered>,
        environment: &Environment,
    ) -> Result<Calls, Unsupported> {
        let none = || Unsupported("returns, where threads have no memory of their own".to_owned());
        let activations = environment.activations.filter(|_| environment.own_blocks);
        let began = |program: &Program| program.values.contains(&Inst::Began);
        Ok(Calls {
            timed: returns
                .iter()
                .any(|(_, program)| began(program) || leaves_ends(program)),
            returns,
            activations: activations.ok_or_else(none)?,
            body: frame.out.mark(),
            exit: frame.out.mark(),
        })
    }

    /// To be put where the copy of the displaced instructions follows.
    pub(super) fn body(&self) -> Mark {
        self.body
    }

    /// Takes an activation and leaves to its thunk; goes on at `done` where there is none to be taken.
    /// The block is the thread's own.
    pub(super) fn begin(
        &self,
        frame: &mut Frame,
        environment: &Environment,
        done: Mark,
    ) -> Result<(), Unsupported> {
        let pool = pool(environment);
        let top = frame.to_stack_pointer();
        let thunks = low(self.activations.thunks)?;
        let [tail, busy, none, taken] = std::array::from_fn(|_| frame.out.mark());
        let [crowded, runtime] = std::array::from_fn(|_| frame.out.mark());
        let (to_tail, to_busy) = (frame.out.to(tail), frame.out.to(busy));
        let to_none = frame.out.to(none);
        let asm = &mut frame.out.asm;
        asm.mov(rdx, pool)?;
        asm.test(edx, edx)?;
        asm.je(to_none)?;
        asm.mov(rcx, ptr(rdx))?;
        asm.mov(rax, qword_ptr(rsp + top))?;
        asm.sub(rax, thunks)?;
        asm.cmp(rax, low(self.activations.size())?)?;
        asm.jb(to_tail)?;
        self.callers(frame, top, runtime)?;
        let asm = &mut frame.out.asm;
        asm.sub(qword_ptr(rcx + abi::ACT_TAKEN), 1)?;
        asm.jae(to_busy)?;
        frame.out.here(taken)?;
        let asm = &mut frame.out.asm;
        asm.lea(rax, qword_ptr(rcx + abi::ACTIVATION))?;
        asm.mov(ptr(rdx), rax)?;
        asm.mov(rax, qword_ptr(rsp + top))?;
        asm.mov(qword_ptr(rcx + abi::ACT_RETURN), rax)?;
        asm.lea(rax, qword_ptr(rsp + top))?;
        asm.mov(qword_ptr(rcx + abi::ACT_SLOT), rax)?;
        frame.out.address(rax, self.body)?;
        frame.out.asm.mov(qword_ptr(rcx + abi::ACT_BODY), rax)?;
        self.write(frame)?;
        frame
            .out
            .asm
            .lea(ecx, ptr(rcx - self.activations.distance()))?;
        frame.out.asm.mov(qword_ptr(rsp + top), rcx)?;
        let pushed = (frame.pushed.clone(), frame.locals);
        if frame.locals > 0 {
            let locals = i32::try_from(8 * frame.locals).unwrap_or(0);
            frame.out.asm.lea(rsp, qword_ptr(rsp + locals))?;
        }
        while !frame.pushed.is_empty() {
            frame.pop()?;
        }
        frame.out.asm.lea(rsp, qword_ptr(rsp + RED_ZONE + 8))?;
        frame.out.asm.jmp(qword_ptr(rsp - 8))?;
        (frame.pushed, frame.locals) = pushed;
        self.search(frame, environment, [busy, crowded, taken]);
        for (mark, fate) in [
            (none, Fate::Untracked),
            (crowded, Fate::Crowded),
            (runtime, Fate::Runtime),
        ] {
            self.untracked_at(frame, environment, (mark, fate), done);
        }
        self.tail(frame, tail, done);
        Ok(())
    }

    /// Goes on at `none` unless the return address, at `top`, is that of code whose calls may be changed.
    /// Loses `rax`.
    fn callers(&self, frame: &mut Frame, top: i32, none: Mark) -> Result<(), Unsupported> {
        let from = self
            .returns
            .iter()
            .find_map(|(_, program)| match program.moment {
                Moment::Return { from, .. } => from,
                Moment::Arrival => None,
            });
        let Some(from) = from else {
            return Ok(());
        };
        let to_none = frame.out.to(none);
        let asm = &mut frame.out.asm;
        asm.mov(rax, from.start.wrapping_neg())?;
        asm.add(rax, qword_ptr(rsp + top))?;
        asm.cmp(rax, low(from.len)?)?;
        asm.jae(to_none)?;
        if let Some((start, len)) = from.without {
            asm.mov(rax, start.wrapping_neg())?;
            asm.add(rax, qword_ptr(rsp + top))?;
            asm.cmp(rax, low(len)?)?;
            asm.jb(to_none)?;
        }
        Ok(())
    }

    /// Whether the time of the entry is taken.
    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Where the thunk goes on, and when this began. Loses `rax`.
    fn write(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        frame.out.address(rax, self.exit)?;
        let time = frame.pushed_at(Saved::Time);
        let asm = &mut frame.out.asm;
        asm.mov(qword_ptr(rcx + abi::ACT_EXIT), rax)?;
        if let Some(time) = time {
            asm.mov(rax, qword_ptr(rsp + time))?;
            asm.mov(qword_ptr(rcx + abi::ACT_TIME), rax)?;
        }
        Ok(())
    }

    /// Out of line: the activation at `rcx` is not free; looks at some that follow. The pool is at `rdx`.
    /// Says that it runs low when it comes to its end, or finds none.
    fn search(&self, frame: &mut Frame, environment: &Environment, marks: [Mark; 3]) {
        let [busy, none, taken] = marks;
        let low = byte_ptr(u64::from(environment.shared_block + abi::LOW));
        let size = self.activations.pool_size.cast_signed();
        frame.later(move |frame| {
            frame.out.here(busy)?;
            let [next, inside, found] = std::array::from_fn(|_| frame.out.mark());
            let [to_next, to_inside, to_found] =
                [next, inside, found].map(|mark| frame.out.to(mark));
            let (to_none, to_taken, to_busy) =
                (frame.out.to(none), frame.out.to(taken), frame.out.to(busy));
            let asm = &mut frame.out.asm;
            asm.mov(eax, LOOKS)?;
            frame.out.here(next)?;
            let asm = &mut frame.out.asm;
            asm.add(rcx, abi::ACTIVATION.cast_signed())?;
            // Behind the last of them.
            asm.test(ecx, size - 1)?;
            asm.jne(to_inside)?;
            asm.sub(rcx, size - abi::ACTIVATION.cast_signed())?;
            asm.mov(low, 1)?;
            frame.out.here(inside)?;
            let asm = &mut frame.out.asm;
            asm.cmp(qword_ptr(rcx + abi::ACT_TAKEN), 0)?;
            asm.je(to_found)?;
            asm.dec(eax)?;
            asm.jne(to_next)?;
            asm.mov(ptr(rdx), rcx)?;
            asm.mov(low, 1)?;
            asm.jmp(to_none)?;
            frame.out.here(found)?;
            let asm = &mut frame.out.asm;
            asm.sub(qword_ptr(rcx + abi::ACT_TAKEN), 1)?;
            asm.jb(to_taken)?;
            // A signal handler came between.
            Ok(asm.jmp(to_busy)?)
        });
    }

    /// Counts that returns will not be seen, and why.
    pub(super) fn untracked(
        &self,
        frame: &mut Frame,
        site: Site,
        fate: Fate,
    ) -> Result<(), Unsupported> {
        for (index, _) in &self.returns {
            count(frame, site, fate, *index)?;
        }
        Ok(())
    }

    fn untracked_at(
        &self,
        frame: &mut Frame,
        environment: &Environment,
        (mark, fate): (Mark, Fate),
        done: Mark,
    ) {
        let (calls, environment) = (self.clone(), *environment);
        frame.later(move |frame| {
            frame.out.here(mark)?;
            let site = Site {
                environment: &environment,
                space: Space::Own,
            };
            calls.untracked(frame, site, fate)?;
            let to_done = frame.out.to(done);
            Ok(frame.out.asm.jmp(to_done)?)
        });
    }

    /// Out of line: the return address is that of a thunk, so far behind the first as `rax` says.
    fn tail(&self, frame: &mut Frame, tail: Mark, done: Mark) {
        let calls = self.clone();
        frame.later(move |frame| {
            let next = frame.out.mark();
            frame.out.here(tail)?;
            let time = frame.pushed_at(Saved::Time);
            let asm = &mut frame.out.asm;
            // The one ends as the other begins: one time for both.
            match time {
                Some(time) => asm.mov(rdx, qword_ptr(rsp + time))?,
                None => asm.xor(edx, edx)?,
            }
            asm.and(eax, -abi::ACTIVATION.cast_signed())?;
            asm.lea(ecx, qword_ptr(rax + low(calls.activations.words)?))?;
            frame.out.address(rax, next)?;
            enter_end(&mut frame.out.asm, abi::END_TAIL)?;
            frame.out.here(next)?;
            calls.write(frame)?;
            let to_done = frame.out.to(done);
            Ok(frame.out.asm.jmp(to_done)?)
        });
    }

    /// The exit code. It begins with `rax` saved, the activation in it.
    pub(super) fn end(
        self,
        frame: &mut Frame,
        environment: &Environment,
    ) -> Result<(), Unsupported> {
        let plan = Plan::new(&self.returns, Needs::of_calls());
        let [done, leave, ended] = std::array::from_fn(|_| frame.out.mark());
        frame.out.here(self.exit)?;
        (frame.pushed, frame.locals) = (vec![Saved::Register(rax)], 0);
        frame.out.asm.push(rax)?;
        frame.pushed.push(Saved::Activation);
        frame.push_flags()?;
        for &register in &plan.first {
            frame.push(register)?;
        }
        let activation = activation(frame)?;
        let top = frame.to_stack_pointer();
        let to_ended = frame.out.to(ended);
        let asm = &mut frame.out.asm;
        asm.mov(rcx, activation)?;
        asm.test(cl, (abi::END_TAIL | abi::END_UNWOUND).cast_signed())?;
        asm.jne(to_ended)?;
        asm.mov(rax, qword_ptr(rcx + abi::ACT_RETURN))?;
        asm.mov(qword_ptr(rsp + top), rax)?;
        asm.cmp(byte_ptr(u64::from(environment.alive)), 0)?;
        let to_leave = frame.out.to(leave);
        frame.out.asm.je(to_leave)?;
        frame.owner_check(plan.clone(), None, environment, rax, [done, leave])?;
        let site = Site {
            environment,
            space: Space::Own,
        };
        plan.emit(frame, site, leave)?;
        frame.out.here(done)?;
        plan.restore(frame)?;
        frame.out.here(leave)?;
        let asm = &mut frame.out.asm;
        asm.mov(rcx, activation)?;
        asm.mov(eax, ecx)?;
        asm.and(eax, -self.activations.pool_size.cast_signed())?;
        // Free first: its owner must not try to take it while this, on another thread, frees it.
        asm.mov(qword_ptr(rcx + abi::ACT_TAKEN), 0)?;
        asm.mov(ptr(rax), rcx)?;
        let pushed = frame.pushed.clone();
        while !frame.pushed.is_empty() {
            frame.pop()?;
        }
        frame.out.asm.lea(rsp, qword_ptr(rsp + RED_ZONE))?;
        frame.out.asm.ret()?;
        frame.pushed = pushed;
        self.ended(frame, environment, ended)
    }

    /// Of the exit code: the activation has ended otherwise. Whoever came here left on the stack where it
    /// goes on. The activation is not freed.
    fn ended(
        &self,
        frame: &mut Frame,
        environment: &Environment,
        ended: Mark,
    ) -> Result<(), Unsupported> {
        // A tail call was seen where the block was known to be the thread's own, and its record stands
        // behind that of the entry. Whose block it is was not looked at where a frame was taken away.
        let [own, shared] = [Space::Own, Space::Shared].map(|space| Site { environment, space });
        let [unwound, out] = std::array::from_fn(|_| frame.out.mark());
        let (to_unwound, to_out) = (frame.out.to(unwound), frame.out.to(out));
        let activation = activation(frame)?;
        frame.out.here(ended)?;
        let asm = &mut frame.out.asm;
        asm.mov(rax, rcx)?;
        asm.and(rax, -4)?;
        asm.mov(activation, rax)?;
        asm.cmp(byte_ptr(u64::from(environment.alive)), 0)?;
        asm.je(to_out)?;
        asm.test(cl, abi::END_UNWOUND.cast_signed())?;
        asm.jne(to_unwound)?;
        self.push_end(frame)?;
        self.tell(frame, own, Fate::Tail, abi::END_TAIL, out)?;
        if frame.pushed_at(Saved::Time).is_some() {
            frame.pop()?;
        }
        frame.out.asm.jmp(to_out)?;
        frame.out.here(unwound)?;
        self.tell(frame, shared, Fate::Unwound, abi::END_UNWOUND, out)?;
        frame.out.here(out)?;
        while !frame.pushed.is_empty() {
            frame.pop()?;
        }
        frame.out.asm.lea(rsp, qword_ptr(rsp + RED_ZONE + 8))?;
        Ok(frame.out.asm.jmp(qword_ptr(rsp - 8))?)
    }

    /// The time at which a call ended in another, when it is recorded: of the other's entry, which was
    /// brought in `rdx`, or now where that was 0.
    fn push_end(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        if !self.returns.iter().any(|(_, program)| leaves_ends(program)) {
            return Ok(());
        }
        let Some(brought) = frame.pushed_at(Saved::Register(rdx)) else {
            return Ok(());
        };
        let known = frame.out.mark();
        let to_known = frame.out.to(known);
        let asm = &mut frame.out.asm;
        asm.mov(rax, qword_ptr(rsp + brought))?;
        asm.test(rax, rax)?;
        asm.jne(to_known)?;
        asm.rdtsc()?;
        asm.shl(rdx, 32)?;
        asm.or(rax, rdx)?;
        frame.out.here(known)?;
        frame.out.asm.push(rax)?;
        frame.pushed.push(Saved::Time);
        Ok(())
    }

    fn tell(
        &self,
        frame: &mut Frame,
        site: Site,
        fate: Fate,
        bit: u32,
        out: Mark,
    ) -> Result<(), Unsupported> {
        for (index, _) in &self.returns {
            count(frame, site, fate, *index)?;
        }
        let leaving = self
            .returns
            .iter()
            .filter(|(_, program)| leaves_ends(program));
        let programs: Vec<Numbered> = leaving
            .map(|&(index, _)| (index, Program::end(bit)))
            .collect();
        if programs.is_empty() {
            return Ok(());
        }
        let plan = Plan::new(&programs, Needs::of_calls());
        plan.emit(frame, site, out)?;
        plan.restore(frame)
    }
}

fn leaves_ends(program: &Program) -> bool {
    matches!(program.moment, Moment::Return { ends: true, .. })
}

/// The word of the thread's block that says which pool is its own.
fn pool(environment: &Environment) -> AsmMemoryOperand {
    let at = u64::from(environment.shared_block + abi::POOL);
    in_block(Space::Own, qword_ptr(at))
}

/// Where the exit code keeps its activation, from what is pushed now.
fn activation(frame: &Frame) -> Result<AsmMemoryOperand, Unsupported> {
    let none = || Unsupported("no activation ends here".to_owned());
    let at = frame.pushed_at(Saved::Activation).ok_or_else(none)?;
    Ok(qword_ptr(rsp + at))
}

/// An address or a size that absolute operands reach.
fn low(value: u32) -> Result<i32, Unsupported> {
    i32::try_from(value).map_err(|_| Unsupported("activations beyond 2 GiB".to_owned()))
}

fn count(frame: &mut Frame, site: Site, fate: Fate, index: usize) -> Result<(), Unsupported> {
    let environment = site.environment;
    let at = environment.shared_block + environment.layout.fate(fate, ProbeId(0));
    let counter = in_block(site.space, qword_ptr(u64::from(at)));
    frame.out.patch_next(Patch::Counter(index));
    Ok(site.space.changing(&mut frame.out).inc(counter)?)
}

/// Enters the exit code of the activation at `rcx`, which ends for this reason; control comes back at
/// the address in `rax`. Other registers stay. For a tail call `rdx` has the time, or 0.
pub(super) fn enter_end(asm: &mut CodeAssembler, bit: u32) -> Result<(), IcedError> {
    asm.push(rax)?;
    asm.lea(rsp, qword_ptr(rsp - RED_ZONE))?;
    asm.push(rax)?;
    asm.lea(rax, qword_ptr(rcx + bit.cast_signed()))?;
    asm.jmp(qword_ptr(rcx + abi::ACT_EXIT))
}
