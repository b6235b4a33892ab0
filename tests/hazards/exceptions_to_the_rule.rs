//! The few things that a program can see: they are documented, and pinned here.

use super::support::*;

#[test]
fn a_program_that_reads_its_own_text_sees_the_jump_or_the_breakpoint() {
    let program = c("self_reading").build();
    let program = program.to_str().expect("UTF-8");
    let alone = start(command(program)).end().expect(0);
    for (option, byte) in [("--color=never", "e9"), ("--no-opt", "cc")] {
        let traced = kptrace(&["run", "-c", option, "-p", "watched", "--", program]).expect(0);
        assert_eq!(traced.out, format!("{byte} 7\n"));
        assert_ne!(traced.out, alone.out);
    }
}

/// A program whose `main` prints what a function in assembler returns.
fn returns(function: &str) -> String {
    let text = format!(
        "#include <stdio.h>\nint probed(int);\n__asm__(\".text\\n.globl probed\\n\
         .type probed,@function\\nprobed:\\n{function}\\n.size probed,.-probed\\n\");\n\
         int main(void) {{ printf(\"%d\\n\", probed(5)); return 0; }}\n"
    );
    let program = Source::new("cc", "c", "returns", text).build();
    program.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_function_that_loops_to_its_own_entry_counts_each_turn() {
    let program = returns("lea -1(%rdi),%edi\\nmov %edi,%eax\\ntest %edi,%edi\\njnz probed\\nret");
    for option in ["--color=never", "--no-opt"] {
        let line = [
            "run", "-c", "--format", "json", option, "-p", "probed", "--", &program,
        ];
        let traced = kptrace(&line).expect(0);
        assert_eq!(traced.out, "0\n");
        assert_eq!(json::count(&summary(&traced.err), "probed"), 5);
    }
}

#[test]
fn a_system_call_in_the_window_leaves_the_address_of_its_copy() {
    let program = returns(
        "push $39\\npop %rax\\nsyscall\\n1: lea 1b(%rip),%rdx\\nxor %eax,%eax\\n\
         cmp %rcx,%rdx\\nsete %al\\nret",
    );
    for option in ["--color=never", "--no-opt"] {
        let traced = kptrace(&["run", "-c", option, "-p", "probed", "--", &program]).expect(0);
        assert_eq!(traced.out, "0\n", "{option}");
    }
    assert_eq!(start(command(&program)).end().expect(0).out, "1\n");
}
