/* hazards/sweep.rs: operands relative to the instruction pointer in the displaced bytes: loads,
 * stores, compares with an immediate behind the displacement, addresses, calls and jumps through
 * memory, an operand that refers to the function itself. */
#include "rounds.h"

int values[4] = {11, 22, 33, 44};
int load(void), compare(void), through_jump(int), through_call(int), target(int);
void store(int);
int *address(void);
void *own_address(void);

#define BEGIN(name) ".p2align 4\n.globl " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ",.-" name "\n"

__asm__(
    ".text\n"
    BEGIN("load") "mov values+4(%rip),%eax\nret\n" END("load")
    BEGIN("store") "mov %edi,values+8(%rip)\nret\n" END("store")
    BEGIN("compare") "cmpl $11,values(%rip)\nsete %al\nmovzbl %al,%eax\nret\n" END("compare")
    BEGIN("address") "lea values+12(%rip),%rax\nret\n" END("address")
    BEGIN("own_address") "push %r15\nlea own_address(%rip),%rax\npop %r15\nret\n" END("own_address")
    BEGIN("target") "lea 5(%rdi),%eax\nret\n" END("target")
    BEGIN("through_jump") "jmp *8f(%rip)\n" END("through_jump")
    BEGIN("through_call") "push %rbx\ncall *8f(%rip)\npop %rbx\nret\n" END("through_call")
    ".section .data.rel.ro,\"aw\"\n.p2align 3\n8: .quad target\n.text\n");

static int check(void) {
    RIGHT(load() == 22);
    store(7);
    RIGHT(values[2] == 7);
    RIGHT(compare() == 1);
    RIGHT(address() == &values[3]);
    RIGHT(own_address() == (void *)own_address);
    RIGHT(through_jump(1) == 6);
    RIGHT(through_call(2) == 7);
    return 1;
}
