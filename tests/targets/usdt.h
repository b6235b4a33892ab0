/* USDT probes as <sys/sdt.h> makes them for x86-64, without that header: a nop, and a note that says
   where it is, how it is called, where its semaphore is and how its arguments are passed.
   Used by the programs of tests/life/usdt.rs and tests/probes/usdt.rs. */
#pragma once

#define USDT_NOTE(provider, name, semaphore, args)                                                 \
    ".pushsection .note.stapsdt,\"\",\"note\"\n"                                                   \
    ".balign 4\n"                                                                                  \
    ".4byte 992f-991f, 994f-993f, 3\n"                                                             \
    "991: .asciz \"stapsdt\"\n"                                                                    \
    "992: .balign 4\n"                                                                             \
    "993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                                            \
    ".asciz \"" provider "\"\n"                                                                    \
    ".asciz \"" name "\"\n"                                                                        \
    ".asciz \"" args "\"\n"                                                                        \
    "994: .balign 4\n"                                                                             \
    ".popsection\n"                                                                                \
    ".ifndef _.stapsdt.base\n"                                                                     \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                        \
    ".weak _.stapsdt.base\n"                                                                       \
    ".hidden _.stapsdt.base\n"                                                                     \
    "_.stapsdt.base: .space 1\n"                                                                   \
    ".size _.stapsdt.base, 1\n"                                                                    \
    ".popsection\n"                                                                                \
    ".endif\n"

/* A size, negative when it is signed: `%n` prints a constant negated. */
#define USDT_SIZE(x) ((__typeof__(x))-1 < 1 ? (int)sizeof(x) : -(int)sizeof(x))
#define USDT_ARG(n, x) [s##n] "n"(USDT_SIZE(x)), [a##n] "nor"(x)
#define USDT_TEXT(n) "%n[s" #n "]@%[a" #n "]"

#define USDT0(provider, name, semaphore)                                                           \
    __asm__ volatile("990: nop\n" USDT_NOTE(provider, name, semaphore, ""))
#define USDT1(provider, name, semaphore, a)                                                        \
    __asm__ volatile("990: nop\n" USDT_NOTE(provider, name, semaphore, USDT_TEXT(1))               \
                     : : USDT_ARG(1, a))
#define USDT2(provider, name, semaphore, a, b)                                                     \
    __asm__ volatile("990: nop\n"                                                                  \
                     USDT_NOTE(provider, name, semaphore, USDT_TEXT(1) " " USDT_TEXT(2))           \
                     : : USDT_ARG(1, a), USDT_ARG(2, b))
#define USDT4(provider, name, semaphore, a, b, c, d)                                               \
    __asm__ volatile("990: nop\n"                                                                  \
                     USDT_NOTE(provider, name, semaphore, USDT_TEXT(1) " " USDT_TEXT(2) " "        \
                               USDT_TEXT(3) " " USDT_TEXT(4))                                      \
                     : : USDT_ARG(1, a), USDT_ARG(2, b), USDT_ARG(3, c), USDT_ARG(4, d))

/* The word that says somebody watches. */
#define USDT_SEMAPHORE(name)                                                                       \
    __attribute__((section(".probes"), used)) volatile unsigned short name
