/* 8-bit integers around a zero of their own: real = scale * (integer - zero). Maps are arrays of
 * rows of pixels of channels. Sums are 32-bit integers. */

_Static_assert((-1 >> 1) == -1, "this code needs shifts to the right that keep the sign");

/* The sum times multiplier / 2^shift; halves are rounded up. */
static inline int64_t rescaled(int32_t sum, int32_t multiplier, int32_t shift)
{
    return ((int64_t)sum * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
}

static inline int8_t saturated(int64_t value)
{
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}
