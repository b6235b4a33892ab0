/* Shows a probe: it prints how one of its own functions begins. */
#include <stdio.h>

__attribute__((noinline, noclone)) int watched(int x) {
    __asm__ volatile("nop\n\tnop\n\tnop\n\tnop\n\tnop");
    return x * 3 + 1;
}

int main(void) {
    const volatile unsigned char *text = (const volatile unsigned char *)watched;
    printf("%02x %d\n", text[0], watched(4));
    return 0;
}
