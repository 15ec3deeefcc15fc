struct summand {
    int32_t zero, multiplier;
};
