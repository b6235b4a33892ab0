//! What the programs of a site save, and when: a single program that first looks whether it is to do
//! anything at all saves what it needs for that, and the rest when it is.

use iced_x86::code_asm::registers::gpr64::rsp;
use iced_x86::code_asm::{AsmRegister64, qword_ptr};

use super::assembler::Mark;
use super::body::{self, Site};
use super::needs::{Gate, Needs};
use super::template::{Frame, Unsupported};
use crate::program::Program;

/// A program, and its probe's index in the template.
pub(super) type Numbered = (usize, Program);

/// See the module.
#[derive(Clone)]
pub(super) struct Plan {
    /// What a single program does first, by its probe's index.
    gate: Option<(usize, Gate)>,
    /// What all of them do behind that.
    programs: Vec<Numbered>,
    /// Saved before everything else, beside `rax`.
    pub(super) first: Vec<AsmRegister64>,
    /// Saved behind the gate.
    then: Vec<AsmRegister64>,
    /// Words for variables.
    locals: i32,
}

impl Plan {
    /// For these programs, where so much is needed besides, from the first on.
    pub(super) fn new(programs: &[Numbered], besides: Needs) -> Plan {
        let gate = match programs {
            // What is needed besides must be done in any case.
            [(index, program)] if besides == Needs::default() => Some((*index, Gate::of(program)))
                .filter(|(_, gate)| gate.conditions().next().is_some()),
            _ => None,
        };
        let programs = match &gate {
            Some((index, gate)) => vec![(*index, gate.rest.clone())],
            None => programs.to_vec(),
        };
        let early = gate
            .as_ref()
            .map_or(besides, |(_, gate)| Needs::of_gate(gate));
        let first = early.registers();
        let mut then = Needs::of(&programs, early).registers();
        then.retain(|register| !first.contains(register));
        let words = |program: &Program| program.locals + u16::from(program.scratch > 0);
        let locals = programs
            .iter()
            .map(|(_, program)| words(program))
            .max()
            .unwrap_or(0);
        Plan {
            gate,
            programs,
            first,
            then,
            locals: locals.into(),
        }
    }

    /// Emits the programs; those that end at once go on at `leave`.
    pub(super) fn emit(
        &self,
        frame: &mut Frame,
        site: Site,
        leave: Mark,
    ) -> Result<(), Unsupported> {
        if let Some((index, gate)) = &self.gate {
            body::emit_gate(frame, gate, *index, site, leave)?;
        }
        for &register in &self.then {
            frame.push(register)?;
        }
        if self.locals > 0 {
            frame.out.asm.lea(rsp, qword_ptr(rsp - 8 * self.locals))?;
            frame.locals = self.locals.unsigned_abs() as usize;
        }
        for (index, program) in &self.programs {
            body::emit(frame, program, *index, site)?;
        }
        Ok(())
    }

    /// Takes back what [`Plan::emit`] pushed.
    pub(super) fn restore(&self, frame: &mut Frame) -> Result<(), Unsupported> {
        if self.locals > 0 {
            frame.out.asm.lea(rsp, qword_ptr(rsp + 8 * self.locals))?;
            frame.locals = 0;
        }
        self.then.iter().try_for_each(|_| frame.pop())
    }
}
