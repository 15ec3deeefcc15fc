/* The mean of each channel: multiplier / 2^shift holds the division. */
static void mean(const int8_t *in, int32_t pixels, int32_t channels, int8_t *out, int32_t zero_in,
                 int32_t multiplier, int32_t shift, int32_t zero_out)
{
    for (int32_t k = 0; k < channels; k++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < pixels; i++)
            sum += in[i * channels + k] - zero_in;
        out[k] = saturated(rescaled(sum, multiplier, shift) + zero_out);
    }
}
