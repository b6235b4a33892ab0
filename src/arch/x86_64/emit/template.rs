//! The frame around the programs: red zone, saved registers, alive and owner checks; and the
//! finished template, which is put in place for each site.

use std::fmt;

use iced_x86::IcedError;
use iced_x86::code_asm::registers::gpr8::al;
use iced_x86::code_asm::registers::gpr64::*;
use iced_x86::code_asm::{AsmRegister64, byte_ptr, ptr, qword_ptr};

use super::assembler::{Assembled, Assembler, Mark, Patch};
use super::body::{Site, Space};
use super::calls::Calls;
use super::needs::{self, Needs};
use super::plan::{Numbered, Plan};
use super::registers::register;
use crate::abi::{self, Activations, Layout};
use crate::base::ProbeId;
use crate::program::Program;

/// Bytes below the stack pointer that belong to the function (System V ABI AMD64, section 3.2.2).
pub(super) const RED_ZONE: i32 = 128;

/// Numbers that stand in programs for what a probe is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// For its full name.
    pub probe: u32,
    /// For the name of its function.
    pub function: u32,
}

/// What all detours of a target have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The low address `D` at which the shared block is mapped.
    pub shared_block: u32,
    /// Address of the alive word: detours pass straight through while it is 0.
    pub alive: u32,
    /// Sizes of the shared object.
    pub layout: Layout,
    /// Whether threads may have blocks of their own: the processor and the kernel allow
    /// `rdfsbase`, and the program leaves `gs` alone.
    pub own_blocks: bool,
    /// Whether pointers of the target may be followed. Where not, loads give 0 and strings are empty.
    pub loads: bool,
    /// The low address at which the session's maps are mapped; 0 when there are none.
    pub maps: u32,
    /// Where activations lie, when returns are probed.
    pub activations: Option<Activations>,
}

/// One of the two parts of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Runs at every hit.
    Hot,
    /// Runs seldom.
    Cold,
}

/// A place in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which part.
    pub section: Section,
    /// Offset in it.
    pub offset: usize,
}

/// A program that this back end cannot emit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}

impl From<IcedError> for Unsupported {
    fn from(error: IcedError) -> Self {
        Unsupported(error.to_string())
    }
}

/// Code for one combination of programs, to be put in place for each site that has it.
#[derive(Clone, Debug)]
pub struct Template {
    code: Assembled,
    probes: usize,
}

/// The code being made, and what is on the stack above it.
pub(super) struct Frame {
    pub(super) out: Assembler,
    /// What was pushed below the red zone, in order.
    pub(super) pushed: Vec<Saved>,
    /// Words below these: variables.
    pub(super) locals: usize,
    /// Parts to be assembled behind the hot part.
    cold: Vec<Cold>,
}

/// A word that the frame pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saved {
    Register(AsmRegister64),
    Flags,
    /// The time of the hit.
    Time,
    /// The address of the activation that ends, with why it does.
    Activation,
}

type Cold = Box<dyn FnOnce(&mut Frame) -> Result<(), Unsupported>>;

impl Frame {
    pub(super) fn push(&mut self, register: AsmRegister64) -> Result<(), Unsupported> {
        self.out.asm.push(register)?;
        self.pushed.push(Saved::Register(register));
        Ok(())
    }

    /// Assembles a part after the hot one.
    pub(super) fn later(
        &mut self,
        part: impl FnOnce(&mut Frame) -> Result<(), Unsupported> + 'static,
    ) {
        // Faults and full rings see the stack as it is here.
        let (pushed, locals) = (self.pushed.clone(), self.locals);
        self.cold.push(Box::new(move |frame| {
            (frame.pushed, frame.locals) = (pushed, locals);
            part(frame)
        }));
    }
}

impl Template {
    /// Assembles code for the programs of a site, in order. `flags_live`: the status flags may be
    /// read before they are written. `free`: a register (DWARF number) whose value is dead at the
    /// site, if one is known.
    pub fn new(
        programs: &[Program],
        environment: &Environment,
        flags_live: bool,
        free: Option<u8>,
    ) -> Result<Template, Unsupported> {
        for program in programs {
            program.check().map_err(Unsupported)?;
        }
        let mut frame = Frame {
            out: Assembler::new()?,
            pushed: Vec::new(),
            locals: 0,
            cold: Vec::new(),
        };
        frame.assemble(programs, environment, flags_live, free)?;
        let code = frame.out.finish()?;
        Ok(Template {
            code,
            probes: programs.len(),
        })
    }

    /// Size of the hot part.
    pub fn hot_len(&self) -> usize {
        self.code.hot.len()
    }

    /// Size of the cold part.
    pub fn cold_len(&self) -> usize {
        self.code.cold.len()
    }

    /// The bytes of both parts for the given probes (with the numbers of their names) at a site, and
    /// addresses. `None` when the parts are out
    /// of each other's reach or the number of probes is not the template's.
    pub fn place(
        &self,
        probes: &[(ProbeId, Called)],
        site: u64,
        hot_at: u64,
        cold_at: u64,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        if probes.len() != self.probes {
            return None;
        }
        let mut hot = self.code.hot.clone();
        let mut cold = self.code.cold.clone();
        let address = |place: Place| match place.section {
            Section::Hot => hot_at.wrapping_add(place.offset as u64),
            Section::Cold => cold_at.wrapping_add(place.offset as u64),
        };
        let distance = |from: Place, to: u64| {
            let next = address(from).wrapping_add(4);
            i32::try_from(to.wrapping_sub(next).cast_signed()).ok()
        };
        for &(place, patch) in &self.code.patches {
            let field = field(&mut hot, &mut cold, place)?;
            let more = match patch {
                Patch::Counter(index) => probes.get(index)?.0.0.checked_mul(8)?,
                Patch::Number(index) => probes.get(index)?.0.0,
                Patch::Name(index) => probes.get(index)?.1.probe,
                Patch::Function(index) => probes.get(index)?.1.function,
                Patch::Site => {
                    *field = distance(place, site)?.to_le_bytes();
                    continue;
                }
            };
            let value = u32::from_le_bytes(*field).checked_add(more)?;
            *field = value.to_le_bytes();
        }
        for &(at, target) in &self.code.crossings {
            *field(&mut hot, &mut cold, at)? = distance(at, address(target))?.to_le_bytes();
        }
        Some((hot, cold))
    }

    /// Where a thread goes on whose instruction at `at` faulted.
    pub fn fixup(&self, at: Place) -> Option<Place> {
        self.code
            .faults
            .iter()
            .find(|(place, _)| *place == at)
            .map(|&(_, resume)| resume)
    }
}

fn field<'a>(hot: &'a mut [u8], cold: &'a mut [u8], at: Place) -> Option<&'a mut [u8; 4]> {
    let bytes = match at.section {
        Section::Hot => hot,
        Section::Cold => cold,
    };
    bytes
        .get_mut(at.offset..at.offset.checked_add(4)?)?
        .try_into()
        .ok()
}

impl Frame {
    fn assemble(
        &mut self,
        programs: &[Program],
        environment: &Environment,
        flags_live: bool,
        free: Option<u8>,
    ) -> Result<(), Unsupported> {
        let (returns, arrivals): (Vec<Numbered>, Vec<Numbered>) = programs
            .iter()
            .cloned()
            .enumerate()
            .partition(|(_, program)| program.at_return());
        let calls = if returns.is_empty() {
            None
        } else {
            Some(Calls::new(self, returns, environment)?)
        };
        let counts_only = programs.iter().all(needs::counts_only);
        let free = free
            .and_then(register)
            .filter(|_| counts_only && !flags_live && calls.is_none());
        let needs = calls
            .as_ref()
            .map_or_else(Needs::default, |_| Needs::of_calls());
        let scratch = free.unwrap_or(rax);
        if free.is_none() {
            self.out.asm.lea(rsp, qword_ptr(rsp - RED_ZONE))?;
            self.push(rax)?;
            if flags_live {
                self.push_flags()?;
            }
        }
        let plan = Plan::new(&arrivals, needs);
        for &register in &plan.first {
            self.push(register)?;
        }
        if calls.as_ref().is_some_and(Calls::is_timed) {
            self.push_time()?;
        }
        for program in programs {
            // Also when the tracer is gone: thunks may still be on the stack.
            if let Some(slot) = program.answers() {
                self.answer(slot, environment)?;
            }
        }
        let marks = [self.out.mark(), self.out.mark()];
        let [done, leave] = marks;
        self.out
            .asm
            .cmp(byte_ptr(u64::from(environment.alive)), 0)?;
        let to_leave = self.out.to(leave);
        self.out.asm.je(to_leave)?;
        if environment.own_blocks {
            self.owner_check(plan.clone(), calls.clone(), environment, scratch, marks)?;
        }
        let space = if environment.own_blocks {
            Space::Own
        } else {
            Space::Shared
        };
        plan.emit(self, Site { environment, space }, leave)?;
        if let Some(calls) = &calls {
            calls.begin(self, environment, done)?;
        }
        self.out.here(done)?;
        plan.restore(self)?;
        self.out.here(leave)?;
        while !self.pushed.is_empty() {
            self.pop()?;
        }
        if free.is_none() && flags_live {
            self.out.asm.lea(rsp, qword_ptr(rsp + RED_ZONE))?;
        } else if free.is_none() {
            // Half the size; the flags are dead.
            self.out.asm.sub(rsp, -RED_ZONE)?;
        }
        if let Some(calls) = calls {
            self.out.here(calls.body())?;
            let environment = *environment;
            self.cold
                .push(Box::new(move |frame| calls.end(frame, &environment)));
        }
        self.out.begin_cold()?;
        // Cold parts may ask for further ones.
        while !self.cold.is_empty() {
            for part in std::mem::take(&mut self.cold) {
                part(self)?;
            }
        }
        Ok(())
    }

    pub(super) fn push_flags(&mut self) -> Result<(), Unsupported> {
        self.out.asm.lahf()?;
        self.out.asm.seto(al)?;
        self.out.asm.push(rax)?;
        self.pushed.push(Saved::Flags);
        Ok(())
    }

    /// Takes the time, once for everything that happens at the hit. `rax` and `rdx` are saved.
    fn push_time(&mut self) -> Result<(), Unsupported> {
        self.out.asm.rdtsc()?;
        self.out.asm.shl(rdx, 32)?;
        self.out.asm.or(rax, rdx)?;
        self.out.asm.push(rax)?;
        self.pushed.push(Saved::Time);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<(), Unsupported> {
        match self.pushed.pop() {
            Some(Saved::Register(register)) => self.out.asm.pop(register)?,
            Some(Saved::Flags) => {
                self.out.asm.pop(rax)?;
                self.out.asm.add(al, 0x7f)?;
                self.out.asm.sahf()?;
            }
            Some(Saved::Activation | Saved::Time) => self.out.asm.pop(rax)?,
            None => {}
        }
        Ok(())
    }

    /// Compares the thread's fs base with the owner of the block that gs names. Any doubt, a
    /// stale gs base that faults included, leads to the copy that uses the shared block.
    pub(super) fn owner_check(
        &mut self,
        plan: Plan,
        calls: Option<Calls>,
        environment: &Environment,
        scratch: AsmRegister64,
        [done, leave]: [Mark; 2],
    ) -> Result<(), Unsupported> {
        let shared = self.out.mark();
        self.out.asm.rdfsbase(scratch)?;
        self.out.next_may_fault(shared);
        self.out.asm.cmp(
            scratch,
            ptr(u64::from(environment.shared_block + abi::OWNER)).gs(),
        )?;
        let to_shared = self.out.to(shared);
        self.out.asm.jne(to_shared)?;
        let environment = *environment;
        self.later(move |frame| {
            frame.out.here(shared)?;
            let site = Site {
                environment: &environment,
                space: Space::Shared,
            };
            plan.emit(frame, site, leave)?;
            if let Some(calls) = calls {
                calls.untracked(frame, site, abi::Fate::Untracked)?;
            }
            let to_done = frame.out.to(done);
            Ok(frame.out.asm.jmp(to_done)?)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::program::{Effect, Field, FieldKind, Inst, IntFormat, Record, Width};

    const ENVIRONMENT: Environment = Environment {
        shared_block: 0x10_0000,
        alive: 0xf_f000,
        layout: Layout {
            probes: 10,
            ring_size: 1 << 16,
            largest: 64,
            blocks: 4,
            tables: 0,
            scratch: 0,
            returns: false,
        },
        own_blocks: true,
        loads: true,
        maps: 0,
        activations: None,
    };

    fn listing(bytes: &[u8], at: u64) -> String {
        let lines = crate::arch::x86_64::emit::listing(bytes, at).into_iter();
        lines.map(|(_, text)| text + "\n").collect()
    }

    #[test]
    fn a_count_is_one_increment_in_the_own_block() {
        let template = Template::new(&[Program::count()], &ENVIRONMENT, false, None).unwrap();
        let (hot, cold) = template
            .place(
                &[(ProbeId(3), Called::default())],
                0,
                0x1000_0000,
                0x1100_0000,
            )
            .unwrap();
        let hot = listing(&hot, 0x1000_0000);
        assert_eq!(
            hot,
            "lea rsp,[rsp-80h]\npush rax\ncmp byte ptr [0FF000h],0h\nje 1000002Dh\n\
             rdfsbase rax\ncmp rax,gs:[100000h]\njne 11000000h\n\
             inc qword ptr gs:[100158h]\npop rax\nsub rsp,0FFFFFFFFFFFFFF80h\n"
        );
        let cold = listing(&cold, 0x1100_0000);
        assert!(
            cold.starts_with("lock inc qword ptr [100158h]\njmp 1000002Dh"),
            "{cold}"
        );
    }

    #[test]
    fn a_dead_register_and_dead_flags_leave_the_stack_alone() {
        let template = Template::new(&[Program::count()], &ENVIRONMENT, false, Some(11)).unwrap();
        let (hot, _) = template
            .place(&[(ProbeId(0), Called::default())], 0, 0x1000, 0x2000)
            .unwrap();
        let hot = listing(&hot, 0x1000);
        assert!(
            !hot.contains("rsp") && hot.contains("rdfsbase r11"),
            "{hot}"
        );
    }

    #[test]
    fn live_flags_are_saved_around_everything() {
        let template = Template::new(&[Program::count()], &ENVIRONMENT, true, Some(11)).unwrap();
        let (hot, _) = template
            .place(&[(ProbeId(0), Called::default())], 0, 0x1000, 0x2000)
            .unwrap();
        let hot = listing(&hot, 0x1000);
        assert!(
            hot.starts_with("lea rsp,[rsp-80h]\npush rax\nlahf\nseto al\npush rax\n"),
            "{hot}"
        );
        assert!(
            hot.ends_with("pop rax\nadd al,7Fh\nsahf\npop rax\nlea rsp,[rsp+80h]\n"),
            "{hot}"
        );
    }

    #[test]
    fn a_load_goes_on_at_its_stub_when_it_faults() {
        let mut program = Program::count();
        let base = program.push(Inst::Arg(0));
        let value = program.push(Inst::Load {
            base,
            offset: 8,
            width: Width::W32,
            signed: false,
        });
        let format = IntFormat::Hex(Width::W32);
        let fields = vec![Field {
            name: "n".into(),
            kind: FieldKind::Int { value, format },
        }];
        program.effects.push(Effect::Record(Record {
            action: 0,
            time: true,
            fields,
        }));
        let template = Template::new(&[program], &ENVIRONMENT, false, None).unwrap();
        let (hot, cold) = template
            .place(
                &[(ProbeId(1), Called::default())],
                0,
                0x1000_0000,
                0x1000_4000,
            )
            .unwrap();
        let text = listing(&hot, 0x1000_0000);
        assert!(text.contains("mov r11d,[rdi+8h]"), "{text}");
        let mut found = 0;
        for instruction in Decoder::with_ip(64, &hot, 0, DecoderOptions::NONE) {
            let at = Place {
                section: Section::Hot,
                offset: instruction.ip() as usize,
            };
            if let Some(resume) = template.fixup(at) {
                assert_eq!(resume.section, Section::Cold);
                assert!(resume.offset < cold.len());
                found += 1;
            }
        }
        // The owner check and the load.
        assert_eq!(found, 2);
    }

    #[test]
    fn parts_out_of_reach_are_not_placed() {
        let template = Template::new(&[Program::count()], &ENVIRONMENT, false, None).unwrap();
        assert!(
            template
                .place(&[(ProbeId(0), Called::default())], 0, 0x1000, 0x2_0000_0000)
                .is_none()
        );
        assert!(template.place(&[], 0, 0x1000, 0x2000).is_none());
    }
}
