struct convolution {
    int32_t height, width, channels;        /* of the map that it reads */
    int32_t out_height, out_width, filters; /* of the map that it writes */
    int32_t kernel, stride, groups;
    int32_t pool; /* side of the windows of the max pool that is computed with it; 1: there is none */
    int32_t zero_in, zero_out;
    const int8_t *weights; /* filters * kernel * kernel * (channels / groups) */
    const int32_t *bias, *multipliers;
    const int8_t *shifts;
    const int8_t *signs; /* -1 for filters whose smallest the pool takes; 0: all take the largest */
    const int8_t *table; /* of the activation at its end; 0: there is none */
};

/* One filter at one place of the convolution's own map, before the pool. */
static int8_t filtered(const struct convolution *c, const int8_t *in, int32_t row, int32_t column,
                       int32_t filter)
{
    const int32_t read = c->channels / c->groups;
    const int32_t first = filter / (c->filters / c->groups) * read;
    const int8_t *weight = c->weights + filter * c->kernel * c->kernel * read;
    int32_t sum = c->bias[filter];
    for (int32_t i = 0; i < c->kernel; i++) {
        const int32_t y = row * c->stride + i - c->kernel / 2;
        for (int32_t j = 0; j < c->kernel; j++, weight += read) {
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
    for (int32_t row = 0; row < c->out_height; row++)
        for (int32_t column = 0; column < c->out_width; column++)
            for (int32_t filter = 0; filter < c->filters; filter++)
                *out++ = c->pool == 1 ? filtered(c, in, row, column, filter)
                                      : pooled(c, in, row, column, filter);
}
