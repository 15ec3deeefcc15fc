static void fill(int8_t *out, int32_t size, int32_t zero)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = (int8_t)zero;
}
