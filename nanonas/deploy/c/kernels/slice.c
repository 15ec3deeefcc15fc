/* count of the channels, from start on. */
static void slice(const int8_t *in, int32_t pixels, int32_t channels, int32_t start,
                  int32_t count, int8_t *out)
{
    for (int32_t i = 0; i < pixels; i++)
        for (int32_t k = 0; k < count; k++)
            *out++ = in[i * channels + start + k];
}
