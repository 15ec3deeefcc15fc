/* The vector table of a Cortex-M: the stack, then where to begin. */
#include <stdint.h>

extern uint32_t stack_top;
void _start(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    &stack_top,
    (const void *)_start,
};
