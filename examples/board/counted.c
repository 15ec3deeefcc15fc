/* How many instructions the network takes for an image: in place of main.c, on Arm's MPS2 boards in
 * QEMU with `-icount shift=0`, where an instruction takes a nanosecond of the board's time. */
#include <stdint.h>
#include <stdio.h>

#include "model.h"
#include "test_image.h"

/* The board's counter, which counts on every 40 ns while its divider is 0. */
#define COUNTER (*(volatile uint32_t *)0x40028018)
#define DIVIDER (*(volatile uint32_t *)0x4002801C)

int main(void)
{
    uint8_t *image = model_image();
    for (int32_t i = 0; i < MODEL_IMAGE_BYTES; i++)
        image[i] = test_image[i];
    DIVIDER = 0;
    const uint32_t before = COUNTER;
    const int8_t *logits = model_run();
    const uint32_t ticks = COUNTER - before;
    int different = 0;
    for (int32_t k = 0; k < MODEL_CLASSES; k++)
        different += logits[k] != test_logits[k];
    printf("%lu instructions\n", 40UL * (unsigned long)ticks);
    return different != 0;
}
