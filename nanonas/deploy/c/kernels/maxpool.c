/* The largest of each window, or the smallest in channels whose sign is -1. */
static inline void max_pool(const int8_t *in, int32_t height, int32_t width, int32_t channels,
                            int8_t *out, int32_t out_height, int32_t out_width, int32_t kernel,
                            int32_t stride, const int8_t *signs)
{
    for (int32_t row = 0; row < out_height; row++)
        for (int32_t column = 0; column < out_width; column++)
            for (int32_t k = 0; k < channels; k++) {
                const int32_t sign = signs ? signs[k] : 1;
                int32_t best = -256;
                for (int32_t i = 0; i < kernel; i++)
                    for (int32_t j = 0; j < kernel; j++) {
                        const int32_t y = row * stride + i - (kernel - 1) / 2;
                        const int32_t x = column * stride + j - (kernel - 1) / 2;
                        if (y < 0 || y >= height || x < 0 || x >= width)
                            continue;
                        const int32_t value = sign * in[(y * width + x) * channels + k];
                        best = value > best ? value : best;
                    }
                *out++ = (int8_t)(sign * best);
            }
}
