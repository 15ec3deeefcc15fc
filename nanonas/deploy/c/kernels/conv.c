/* One filter at one place of the convolution's own map, before the pool. */
static int8_t filtered(const struct convolution *c, const int8_t *in, int32_t row, int32_t column,
                       int32_t filter)
{
    const int32_t read = c->channels / c->groups;
    const int32_t first = filter / (c->filters / c->groups) * read;
    const int32_t depthwise = is_depthwise(c), step = depthwise ? c->filters : read;
    const int8_t *weight =
        c->weights + (depthwise ? filter : filter * c->kernel * c->kernel * read);
    int32_t sum = c->bias[filter];
    for (int32_t i = 0; i < c->kernel; i++) {
        const int32_t y = row * c->stride + i - c->kernel / 2;
        for (int32_t j = 0; j < c->kernel; j++, weight += step) {
            const int32_t x = column * c->stride + j - c->kernel / 2;
            if (y < 0 || y >= c->height || x < 0 || x >= c->width)
                continue;
            const int8_t *pixel = in + (y * c->width + x) * c->channels + first;
            for (int32_t k = 0; k < read; k++)
                sum += (pixel[k] - c->zero_in) * weight[k];
        }
    }
    const int64_t scaled = rescaled(sum, c->multipliers[filter], c->shifts[filter]);
    const int8_t value = saturated(scaled + c->zero_out);
    return c->table ? c->table[value + 128] : value;
}

/* The largest of a filter in one window of the pool, or the smallest. */
static int8_t pooled(const struct convolution *c, const int8_t *in, int32_t row, int32_t column,
                     int32_t filter)
{
    const int32_t sign = c->signs ? c->signs[filter] : 1;
    int32_t best = -256;
    for (int32_t i = 0; i < c->pool; i++)
        for (int32_t j = 0; j < c->pool; j++) {
            const int32_t value =
                sign * filtered(c, in, row * c->pool + i, column * c->pool + j, filter);
            best = value > best ? value : best;
        }
    return (int8_t)(sign * best);
}

static void convolve(const struct convolution *c, const int8_t *in, int8_t *out)
{
#ifdef MODEL_CMSIS_NN
    if (convolved_by_cmsis_nn(c, in, out))
        return;
#endif
    for (int32_t row = 0; row < c->out_height; row++)
        for (int32_t column = 0; column < c->out_width; column++)
            for (int32_t filter = 0; filter < c->filters; filter++)
                *out++ = c->pool == 1 ? filtered(c, in, row, column, filter)
                                      : pooled(c, in, row, column, filter);
}
