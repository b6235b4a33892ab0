# Two equal functions and the loops that call them; and the floor: hand-written detours for `hot`.
# Everything lies at fixed addresses, so that code made elsewhere can be put beside it.
# `hot` begins as compilers begin functions; its first three instructions are what a jump displaces.
        .intel_syntax noprefix
        .include "layout.inc"

        .macro SAMPLE name
        .globl \name
        .type \name, @function
\name:  .cfi_startproc
        push rbp
        .cfi_def_cfa_offset 16
        mov rbp, rsp
        lea rax, [rsi+1]
        add rax, rdx
        pop rbp
        .cfi_def_cfa_offset 8
        ret
        .cfi_endproc
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

# Eight functions, each called by the next, around a call of `callee`.
        .macro LAYER name, callee
\name: sub rsp, 8
        call \callee
        add rsp, 8
        ret
        .endm
        .macro NEST name, callee
        .p2align 6
        LAYER \name\()1, \callee
        LAYER \name\()2, \name\()1
        LAYER \name\()3, \name\()2
        LAYER \name\()4, \name\()3
        LAYER \name\()5, \name\()4
        LAYER \name\()6, \name\()5
        LAYER \name\()7, \name\()6
        LAYER \name\()8, \name\()7
        .endm

        .section .hot, "ax", @progbits
        .p2align 12
        SAMPLE hot
        .p2align 11
        SAMPLE twin

        .text
        LOOP loop_hot, hot
        LOOP loop_twin, twin
        NEST deep_hot, hot
        NEST deep_twin, twin
        LOOP loop_deep_hot, deep_hot8
        LOOP loop_deep_twin, deep_twin8

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

# A failing predicate needs neither the block nor a register.
        DETOUR predicate
        cmp rdi, 12345
        jne 2f
        lea rsp, [rsp-128]
        push rax
        CHECKS 1f
        inc qword ptr gs:[SHARED+HITS]
1:      pop rax
        lea rsp, [rsp+128]
2:      BACK

        DETOUR hist
        lea rsp, [rsp-128]
        push rax
        CHECKS 1f
        test rdi, rdi
        js 2f
        lea rax, [rdi+rdi+1]
        bsr rax, rax
        inc qword ptr gs:[rax*8+SHARED+TABLE+8]
1:      pop rax
        lea rsp, [rsp+128]
        BACK
2:      inc qword ptr gs:[SHARED+TABLE]
        jmp 1b

# Counts by `rdi & 63`, in slots of state (0: free, 1: taken, 2: its key stands), key, count. There are
# more slots than keys. A handler that finds a slot taken uses one further on; a reader adds both.
        .set SLOTS, 4096
        .set SLOT, 32
        DETOUR keyed
        lea rsp, [rsp-128]
        push rax
        CHECKS 1f
        push rcx
        mov ecx, edi
        and ecx, 63
        movabs rax, 0x9e3779b97f4a7c15
        imul rax, rcx
        shr rax, 64-12
        shl eax, 5
        cmp qword ptr gs:[rax+SHARED+TABLE+8], rcx
        jne 3f
        cmp qword ptr gs:[rax+SHARED+TABLE], 2
        jne 3f
        inc qword ptr gs:[rax+SHARED+TABLE+16]
2:      pop rcx
1:      pop rax
        lea rsp, [rsp+128]
        BACK
3:      push rdx
        push rsi
        mov edx, eax
4:      xor eax, eax
        mov esi, 1
        cmpxchg qword ptr gs:[rdx+SHARED+TABLE], rsi
        jne 5f
        mov qword ptr gs:[rdx+SHARED+TABLE+8], rcx
        mov qword ptr gs:[rdx+SHARED+TABLE], 2
        jmp 6f
5:      cmp eax, 2
        jne 7f
        cmp qword ptr gs:[rdx+SHARED+TABLE+8], rcx
        je 6f
7:      add edx, SLOT
        and edx, SLOTS*SLOT-1
        jmp 4b
6:      inc qword ptr gs:[rdx+SHARED+TABLE+16]
        pop rsi
        pop rdx
        jmp 2b

# Room for `size` bytes: rdx = the time, rax = the position, rcx = its place.
        .macro RESERVE time, size, full
        .if \time
        rdtsc
        shl rdx, 32
        or rdx, rax
        .else
        xor edx, edx
        .endif
        mov rax, gs:[SHARED+HEAD]
        sub rax, gs:[SHARED+TAIL]
        cmp rax, RING_SIZE-4096-\size
        ja \full
        mov eax, \size
        xadd gs:[SHARED+HEAD], rax
        mov ecx, eax
        and ecx, RING_SIZE-1
        mov gs:[rcx+SHARED+RING+24], rdx
        mov qword ptr gs:[rcx+SHARED+RING+8], 7
        mov qword ptr gs:[rcx+SHARED+RING+16], 0
        .endm
        .macro RECORD time, arguments=0
        lea rsp, [rsp-128]
        push rax
        push rdx
        push rcx
        CHECKS 1f
        RESERVE \time, (32+16*\arguments), 2f
        .if \arguments
        mov gs:[rcx+SHARED+RING+32], rdi
        mov gs:[rcx+SHARED+RING+40], rsi
        .endif
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
        DETOUR record_arguments
        RECORD 1, 1

# A record of a string of at most 64 bytes at rdi: its length, whether it goes on, its bytes.
        DETOUR record_string
        lea rsp, [rsp-128]
        push rax
        push rdx
        push rcx
        CHECKS 1f
        push r8
        RESERVE 1, 104, 2f
        mov r8d, edi
        and r8d, 4095
        cmp r8d, 4096-64
        ja 3f
        lea rsp, [rsp-32]
        movups [rsp], xmm0
        movups [rsp+16], xmm1
        .irp n, 0, 16, 32, 48
        movups xmm0, [rdi+\n]
        pxor xmm1, xmm1
        pcmpeqb xmm1, xmm0
        movups gs:[rcx+SHARED+RING+40+\n], xmm0
        pmovmskb r8d, xmm1
        test r8d, r8d
        jnz 5f+(\n/16)*ENDS
        .endr
        mov r8d, 64
        mov dword ptr gs:[rcx+SHARED+RING+36], 1
        jmp 7f
# Each of these takes as many bytes.
        .set ENDS, 16
        .irp n, 0, 16, 32, 48
        .p2align 4
        .if \n == 0
5:
        .endif
        bsf r8d, r8d
        lea r8d, [r8+\n]
        jmp 6f
        .endr
6:      mov dword ptr gs:[rcx+SHARED+RING+36], 0
7:      movups xmm0, [rsp]
        movups xmm1, [rsp+16]
        lea rsp, [rsp+32]
8:      mov gs:[rcx+SHARED+RING+32], r8d
        mov gs:[rcx+SHARED+RING], rax
9:      pop r8
1:      pop rcx
        pop rdx
        pop rax
        lea rsp, [rsp+128]
        BACK
2:      inc qword ptr gs:[SHARED+LOST]
        jmp 9b
# The next page may be nobody's: byte by byte.
3:      xor r8d, r8d
        mov dword ptr gs:[rcx+SHARED+RING+36], 0
4:      movzx edx, byte ptr [rdi+r8]
        test edx, edx
        jz 8b
        mov gs:[rcx+r8+SHARED+RING+40], dl
        inc r8d
        cmp r8d, 64
        jb 4b
        mov dword ptr gs:[rcx+SHARED+RING+36], 1
        jmp 8b

# Call-through: the return address is written down, a thunk's takes its place; the thunk calls the body.
# A pool of one thread, taken in order, without looking whether an activation is free.
        .macro PAIR name, recorded
        DETOUR \name
        lea rsp, [rsp-128]
        push rax
        push rcx
        push rdx
        CHECKS 1f
        .if \recorded
        RESERVE 1, 32, 1f
        mov gs:[rcx+SHARED+RING], rax
        .endif
        mov ecx, 1
        xadd pair_depth[rip], rcx
        shl rcx, 5
        lea rcx, [rcx+pair_table]
        mov rax, [rsp+152]
        mov [rcx], rax
        lea rax, 2f[rip]
        mov [rcx+8], rax
        lea rax, 3f[rip]
        mov [rcx+16], rax
        .if \recorded
        mov [rcx+24], rdx
        .endif
        sub rcx, offset pair_table
        lea rcx, [rcx*2+pair_thunks]
        mov [rsp+152], rcx
        pop rdx
        pop rcx
        pop rax
        lea rsp, [rsp+136]
        jmp [rsp-8]
1:      pop rdx
        pop rcx
        pop rax
        lea rsp, [rsp+128]
2:      BACK
# The activation's number is on the stack.
3:      lea rsp, [rsp-128]
        push rax
        lahf
        seto al
        push rax
        push rcx
        push rdx
        CHECKS 4f
        .if \recorded
        RESERVE 1, 48, 4f
        mov rax, [rsp+24]
        mov gs:[rcx+SHARED+RING+32], rax
        mov rax, [rsp+160]
        shl rax, 5
        mov rax, [rax+pair_table+24]
        mov gs:[rcx+SHARED+RING+40], rax
        mov gs:[rcx+SHARED+RING], rax
        .else
        inc qword ptr gs:[SHARED+HITS]
        .endif
4:      mov rcx, [rsp+160]
        shl rcx, 5
        mov rax, [rcx+pair_table]
        mov [rsp+160], rax
        dec qword ptr pair_depth[rip]
        pop rdx
        pop rcx
        pop rax
        add al, 0x7f
        sahf
        pop rax
        lea rsp, [rsp+128]
        ret
        .endm
        PAIR pair, 0
        PAIR pair_record, 1
        .p2align 6
pair_thunks:
        .set number, 0
        .rept 64
        call [pair_table+8+32*number]
        push number
        jmp [pair_table+16+32*number]
        .p2align 6
        .set number, number+1
        .endr

        .bss
        .p2align 6
pair_depth:
        .skip 64
pair_table:
        .skip 32*64

        .section .note.GNU-stack, "", @progbits
