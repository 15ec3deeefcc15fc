/* The mean of what each window sees of the map; halves are rounded up. */
static void average_pool(const int8_t *in, int32_t height, int32_t width, int32_t channels,
                         int8_t *out, int32_t out_height, int32_t out_width, int32_t kernel,
                         int32_t stride, int32_t zero)
{
    for (int32_t row = 0; row < out_height; row++)
        for (int32_t column = 0; column < out_width; column++)
            for (int32_t k = 0; k < channels; k++) {
                int32_t sum = 0, count = 0;
                for (int32_t i = 0; i < kernel; i++)
                    for (int32_t j = 0; j < kernel; j++) {
                        const int32_t y = row * stride + i - (kernel - 1) / 2;
                        const int32_t x = column * stride + j - (kernel - 1) / 2;
                        if (y < 0 || y >= height || x < 0 || x >= width)
                            continue;
                        sum += in[(y * width + x) * channels + k] - zero;
                        count++;
                    }
                /* a division that rounds down, also below 0 */
                const int32_t above = 2 * sum + count, below = 2 * count;
                const int32_t mean = above / below - (above % below < 0);
                *out++ = saturated(mean + zero);
            }
}
