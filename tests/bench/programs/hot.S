# Two equal functions and the loops that call them; and the floor: hand-written detours for `hot`.
# Everything lies at fixed addresses, so that code made elsewhere can be put beside it.
# `hot` begins as compilers begin functions; its first three instructions are what a jump displaces.
        .intel_syntax noprefix
        .include "layout.inc"

        .macro SAMPLE name
        .globl \name
        .type \name, @function
\name:  push rbp
        mov rbp, rsp
        lea rax, [rsi+1]
        add rax, rdx
        pop rbp
        ret
        .size \name, .-\name
        .endm

# unsigned long loop(unsigned long calls, const char *text)
        .macro LOOP name, callee
        .p2align 6
        .globl \name
        .type \name, @function
\name:  push rbx
        push r12
        push r13
        mov rbx, rdi
        mov r12, rsi
        xor eax, eax
1:      mov rdi, r12
        mov rsi, rax
        mov edx, 3
        call \callee
        dec rbx
        jnz 1b
        pop r13
        pop r12
        pop rbx
        ret
        .size \name, .-\name
        .endm

        .section .hot, "ax", @progbits
        .p2align 12
        SAMPLE hot
        .p2align 11
        SAMPLE twin

        .text
        LOOP loop_hot, hot
        LOOP loop_twin, twin

        .section .floor, "ax", @progbits
        .p2align 12
        .macro DETOUR name
        .p2align 6
        .globl floor_\name
floor_\name:
        .endm
        .macro BACK
        push rbp
        mov rbp, rsp
        lea rax, [rsi+1]
        jmp hot+8
        .endm
# Abandons the probe when the tracer is gone or the block is another thread's.
        .macro CHECKS to
        cmp byte ptr [ALIVE], 0
        je \to
        rdfsbase rax
        cmp rax, gs:[SHARED+OWNER]
        jne \to
        .endm

        DETOUR empty
        BACK

        DETOUR count
        lea rsp, [rsp-128]
        push rax
        CHECKS 1f
        inc qword ptr gs:[SHARED+HITS]
1:      pop rax
        lea rsp, [rsp+128]
        BACK

        DETOUR count_flags
        lea rsp, [rsp-128]
        push rax
        lahf
        seto al
        push rax
        CHECKS 1f
        inc qword ptr gs:[SHARED+HITS]
1:      pop rax
        add al, 0x7f
        sahf
        pop rax
        lea rsp, [rsp+128]
        BACK

        DETOUR count_shared
        lea rsp, [rsp-128]
        push rax
        CHECKS 1f
        lock inc qword ptr [SHARED+HITS]
1:      pop rax
        lea rsp, [rsp+128]
        BACK

        .macro RECORD time
        lea rsp, [rsp-128]
        push rax
        push rdx
        push rcx
        CHECKS 1f
        .if \time
        rdtsc
        shl rdx, 32
        or rdx, rax
        .else
        xor edx, edx
        .endif
        mov rax, gs:[SHARED+HEAD]
        sub rax, gs:[SHARED+TAIL]
        cmp rax, RING_SIZE-4096-32
        ja 2f
        mov eax, 32
        xadd gs:[SHARED+HEAD], rax
        mov ecx, eax
        and ecx, RING_SIZE-1
        mov gs:[rcx+SHARED+RING+24], rdx
        mov qword ptr gs:[rcx+SHARED+RING+8], 7
        mov qword ptr gs:[rcx+SHARED+RING+16], 0
        mov gs:[rcx+SHARED+RING], rax
1:      pop rcx
        pop rdx
        pop rax
        lea rsp, [rsp+128]
        BACK
2:      inc qword ptr gs:[SHARED+LOST]
        jmp 1b
        .endm
        DETOUR record
        RECORD 1
        DETOUR record_notime
        RECORD 0

        .section .note.GNU-stack, "", @progbits
