/* Blocks of side * side pixels as channels; zero is what a block lacks. */
static void fold(const int8_t *in, int32_t height, int32_t width, int32_t channels, int8_t *out,
                 int32_t side, int32_t zero)
{
    for (int32_t row = 0; row < height; row += side)
        for (int32_t column = 0; column < width; column += side)
            for (int32_t k = 0; k < channels; k++)
                for (int32_t i = 0; i < side; i++)
                    for (int32_t j = 0; j < side; j++) {
                        const int32_t y = row + i, x = column + j;
                        const int32_t inside = y < height && x < width;
                        *out++ = inside ? in[(y * width + x) * channels + k] : (int8_t)zero;
                    }
}
