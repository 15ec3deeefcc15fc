#ifdef MODEL_CMSIS_NN
/* Convolutions by Arm's CMSIS-NN, which knows what a Cortex-M has for them: the same integers, sooner. */
#include "arm_nnfunctions.h"

#ifndef CMSIS_NN_USE_SINGLE_ROUNDING
#error "compile CMSIS-NN and this with -DCMSIS_NN_USE_SINGLE_ROUNDING, or it rounds in another way"
#endif

static struct {
    int32_t shifts[MODEL_CMSIS_NN_FILTERS];
    int32_t buffer[MODEL_CMSIS_NN_BUFFER / 4]; /* what CMSIS-NN itself writes */
    int8_t rows[MODEL_CMSIS_NN_ROWS];          /* before they are pooled */
} scratch;

_Static_assert(sizeof scratch == MODEL_CMSIS_NN_BYTES, "CMSIS-NN has as much RAM as it says");

/* count rows of the convolution's own map, from row first on; 0 where CMSIS-NN cannot. */
static int32_t rows_by_cmsis_nn(const struct convolution *c, const int8_t *in, int32_t first,
                                int32_t count, int8_t *out)
{
    const int32_t above = first * c->stride - c->kernel / 2; /* the row that is read first */
    const int32_t start = above < 0 ? 0 : above;
    const int32_t below = above + (count - 1) * c->stride + c->kernel;
    const int32_t end = below > c->height ? c->height : below;
    const int32_t columns = (c->width - 1) / c->stride + 1;
    const cmsis_nn_dims read = {1, end - start, c->width, c->channels};
    const cmsis_nn_dims written = {1, count, columns, c->filters}, bias = {1, 1, 1, c->filters};
    const cmsis_nn_tile stride = {c->stride, c->stride}, dilation = {1, 1};
    const cmsis_nn_tile padding = {c->kernel / 2, start - above};
    const cmsis_nn_activation ends = {-128, 127};
    const cmsis_nn_per_channel_quant_params scales = {(int32_t *)c->multipliers, scratch.shifts};
    const cmsis_nn_context context = {scratch.buffer, MODEL_CMSIS_NN_BUFFER};
    in += start * c->width * c->channels;
    if (is_depthwise(c)) {
        const cmsis_nn_dims filters = {1, c->kernel, c->kernel, c->filters};
        const cmsis_nn_dw_conv_params how = {-c->zero_in, c->zero_out, c->filters / c->channels,
                                             stride,      padding,     dilation,
                                             ends};
        return arm_depthwise_conv_wrapper_s8_get_buffer_size(&how, &read, &filters, &written)
                   <= MODEL_CMSIS_NN_BUFFER
            && arm_depthwise_conv_wrapper_s8(&context, &how, &scales, &read, in, &filters,
                                             c->weights, &bias, c->bias, &written, out)
                   == ARM_CMSIS_NN_SUCCESS;
    }
    const cmsis_nn_dims filters = {c->filters, c->kernel, c->kernel, c->channels / c->groups};
    const cmsis_nn_conv_params how = {-c->zero_in, c->zero_out, stride, padding, dilation, ends};
    if (c->groups > 1)
        return arm_convolve_s8_get_buffer_size(&read, &filters) <= MODEL_CMSIS_NN_BUFFER
            && arm_convolve_s8(&context, &how, &scales, &read, in, &filters, c->weights, &bias,
                               c->bias, 0, &written, out)
                   == ARM_CMSIS_NN_SUCCESS;
    return arm_convolve_wrapper_s8_get_buffer_size(&how, &read, &filters, &written)
               <= MODEL_CMSIS_NN_BUFFER
        && arm_convolve_wrapper_s8(&context, &how, &scales, &read, in, &filters, c->weights, &bias,
                                   c->bias, &written, out)
               == ARM_CMSIS_NN_SUCCESS;
}

/* The whole step; 0 where CMSIS-NN cannot, and nothing that is read has been written over. */
static int32_t convolved_by_cmsis_nn(const struct convolution *c, const int8_t *in, int8_t *out)
{
    const int32_t columns = (c->width - 1) / c->stride + 1, pooled = c->pool > 1;
    const int32_t count = pooled ? c->pool : c->out_height, size = count * columns * c->filters;
    /* a norm that is a step of its own may be written over what it reads */
    if (c->kernel % 2 == 0 || (is_depthwise(c) && c->kernel == 1))
        return 0;
    for (int32_t n = 0; n < c->filters; n++) {
        if (c->shifts[n] < 32) /* its 32 bits could be too few */
            return 0;
        scratch.shifts[n] = 31 - c->shifts[n];
    }
    for (int32_t row = 0; row < (pooled ? c->out_height : 1); row++) {
        int8_t *rows = pooled ? scratch.rows : out;
        if (!rows_by_cmsis_nn(c, in, row * count, count, rows))
            return 0;
        for (int32_t i = 0; c->table && i < size; i++)
            rows[i] = c->table[rows[i] + 128];
        if (pooled)
            max_pool(rows, count, columns, c->filters, out + row * c->out_width * c->filters, 1,
                     c->out_width, c->pool, c->pool, c->signs);
    }
    return 1;
}
#endif
