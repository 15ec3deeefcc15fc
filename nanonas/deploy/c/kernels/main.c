/* Runs the network and prints what comes out.
 *
 *   cc -std=c11 -O2 model.c main.c -o model && ./model
 *
 * The image in test_image.h is classified, and its logits are compared with those that were computed
 * when this was written: the exit code is 0 where they are the same. Compiled with -DMODEL_STDIN it
 * classifies images from standard input instead, MODEL_IMAGE_BYTES bytes each, and prints the logits
 * of each on a line. */
#include <stdio.h>

#include "classes.h"
#include "model.h"

static int32_t best_class(const int8_t *logits)
{
    int32_t best = 0;
    for (int32_t k = 1; k < MODEL_CLASSES; k++)
        best = logits[k] > logits[best] ? k : best;
    return best;
}

static void print_sizes(void)
{
    printf("arena %d bytes, constants %d bytes", MODEL_RAM_BYTES, MODEL_FLASH_BYTES);
#ifdef MODEL_CMSIS_NN
    printf(", for CMSIS-NN %d bytes", MODEL_CMSIS_NN_BYTES);
#endif
    printf("\n");
}

#ifdef MODEL_STDIN

int main(void)
{
    print_sizes();
    while (fread(model_image(), 1, MODEL_IMAGE_BYTES, stdin) == MODEL_IMAGE_BYTES) {
        const int8_t *logits = model_run();
        for (int32_t k = 0; k < MODEL_CLASSES; k++)
            printf("%d ", logits[k]);
        printf("%s\n", class_names[best_class(logits)]);
    }
    return 0;
}

#else

#include "test_image.h"

int main(void)
{
    uint8_t *image = model_image();
    for (int32_t i = 0; i < MODEL_IMAGE_BYTES; i++)
        image[i] = test_image[i];
    const int8_t *logits = model_run();
    int different = 0;
    for (int32_t k = 0; k < MODEL_CLASSES; k++)
        different += logits[k] != test_logits[k];
    print_sizes();
    printf("the test image is: %s\n", class_names[best_class(logits)]);
    printf("%d logits differ from those of the reference\n", different);
    return different != 0;
}

#endif
