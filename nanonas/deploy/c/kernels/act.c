/* A table for each 8-bit integer, or a ReLU, where table is 0; out may be in. */
static void activate(const int8_t *in, int8_t *out, int32_t size, int32_t zero,
                     const int8_t *table)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = table ? table[in[i] + 128] : in[i] < zero ? (int8_t)zero : in[i];
}
