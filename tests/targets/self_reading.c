/* hazards/exceptions_to_the_rule.rs: a program that reads its own text: what it sees at a probed
 * entry is one of the documented exceptions. Prints the first byte of `watched`, in hex. */
#include <stdint.h>

#include "target.h"

NOINLINE int watched(int n) { return n * 3 + 1; }

int main(void) {
    volatile const unsigned char *text = (volatile const unsigned char *)(uintptr_t)watched;
    int result = watched(2);
    printf("%02x %d\n", *text, result);
    return result != 7;
}
