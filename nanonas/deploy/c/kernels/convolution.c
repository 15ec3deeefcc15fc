struct convolution {
    int32_t height, width, channels;        /* of the map that it reads */
    int32_t out_height, out_width, filters; /* of the map that it writes */
    int32_t kernel, stride, groups;
    int32_t pool; /* side of the windows of the max pool that is computed with it; 1: there is none */
    int32_t zero_in, zero_out;
    const int8_t *weights; /* filters * kernel * kernel * (channels / groups); of depthwise ones the
                            * filters come last */
    const int32_t *bias, *multipliers;
    const int8_t *shifts;
    const int8_t *signs; /* -1 for filters whose smallest the pool takes; 0: all take the largest */
    const int8_t *table; /* of the activation at its end; 0: there is none */
};

/* Whether each group is one channel. */
static inline int32_t is_depthwise(const struct convolution *c)
{
    return c->groups > 1 && c->groups == c->channels;
}
