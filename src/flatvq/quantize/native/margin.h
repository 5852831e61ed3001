// How far scores in integers can be from the true ones: see integers.h and screen.h.

namespace {

// Steps in the longest vector and in the longest code: short of 2^15, because what is computed of their
// lengths is off by a rounding or so per dimension, of which there are MOST_DIM at most.
constexpr double RANGE = 32000;
constexpr int64_t MOST_DIM = 1 << 16;
// Lengths of codes and vectors between which nothing that is computed of them over- or underflows.
constexpr double SHORTEST = 0x1p-40, LONGEST = 0x1p40;

// How far the integer score of the code that group.h finds can be below the largest one, in products of steps.
inline int32_t margin(int64_t dim)
{
    // A value is off by half a step, a vector by `off` steps: and (z + dz) (e + de) - z e = dz (e + de) + z de.
    const double off = 0.51 * std::sqrt((double)dim), product = off * (RANGE + off) + RANGE * off;
    // An offset, of RANGE^2 / 2 at most, is scaled in float32 and then rounded to an integer.
    const double offset = RANGE * RANGE * 0x1p-23 + 1;
    // group.h rounds once for each dimension, numbers of 3/2 RANGE^2 at most; twice what that amounts to.
    const double plain = dim * 0x1p-23 * 1.5 * RANGE * RANGE;
    // For each of two scores, and a hundredth more for what is computed of lengths.
    return (int32_t)(1.01 * 2 * (product + offset + plain)) + 1;
}

}  // namespace
