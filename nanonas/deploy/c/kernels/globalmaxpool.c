/* The largest of each channel. */
static void largest(const int8_t *in, int32_t pixels, int32_t channels, int8_t *out)
{
    for (int32_t k = 0; k < channels; k++) {
        int8_t best = in[k];
        for (int32_t i = 1; i < pixels; i++)
            best = in[i * channels + k] > best ? in[i * channels + k] : best;
        out[k] = best;
    }
}
