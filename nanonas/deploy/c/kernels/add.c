/* out may be one of the inputs. */
static void add(const int8_t *const *inputs, const struct summand *summands, int32_t count,
                int8_t *out, int32_t size, int32_t shift, int32_t zero, const int8_t *table)
{
    for (int32_t i = 0; i < size; i++) {
        int32_t sum = (int32_t)1 << (shift - 1);
        for (int32_t n = 0; n < count; n++)
            sum += (inputs[n][i] - summands[n].zero) * summands[n].multiplier;
        const int8_t value = saturated((sum >> shift) + zero);
        out[i] = table ? table[value + 128] : value;
    }
}
