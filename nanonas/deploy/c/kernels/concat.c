/* The channels of one input among all_channels of the output, which begin at out. */
static void place(const int8_t *in, const struct summand *summand, int32_t pixels,
                  int32_t channels, int8_t *out, int32_t all_channels, int32_t shift, int32_t zero)
{
    for (int32_t i = 0; i < pixels; i++)
        for (int32_t k = 0; k < channels; k++) {
            const int32_t value = (in[i * channels + k] - summand->zero) * summand->multiplier;
            out[i * all_channels + k] = saturated(rescaled(value, 1, shift) + zero);
        }
}
