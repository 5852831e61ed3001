// A look at codes in a pass or two over memory, where PyTorch would take a dozen.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "codes.h"

// For the fastest of these that the processor has, chosen when the library is loaded: glibc's loader can do that.
#if defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

namespace {

// Numbers in a row from which on registers pay: codes of few dimensions are added up side by side, several as one.
constexpr int64_t MANY = 128;

// Add up codes [count, dim] and their squares, and return the bits of the largest absolute value, which are in the
// order of absolute values, with infinity and NaN above all.
CLONES int32_t add_up(
    const float *codes, int64_t count, int64_t dim, double *__restrict sums, double *__restrict squares)
{
    int32_t largest = 0;
    for (int64_t code = 0; code < count; code++)
#pragma omp simd reduction(max : largest)
        for (int64_t d = 0; d < dim; d++) {
            int32_t bits;
            std::memcpy(&bits, codes + code * dim + d, sizeof bits);
            bits &= INT32_MAX;
            largest = largest < bits ? bits : largest;
            const double value = codes[code * dim + d];
            sums[d] += value;
            squares[d] += value * value;
        }
    return largest;
}

}  // namespace

// Look at codes [k, dim] before they are searched. Returns 1 if they can be searched as they are, and 2 if some
// dimensions' means are further than `offset` standard deviations from zero; then `middle` [dim], if it is not null, is
// the median of each of these, and zero for the others. Returns 0, and leaves it to others to look more closely, if it
// is close, if there is no memory, or if the largest absolute value is not finite or not between `least` and `most`.
extern "C" int flatvq_look(
    const float *codes, int64_t k, int64_t dim, double least, double most, double offset, float *middle)
{
    const int64_t joined = std::max<int64_t>(1, MANY / dim), rest = k % joined;
    Array<double> sums(joined * dim), squares(joined * dim);
    Array<float> column(middle ? k : 0);
    if (!sums.data || !squares.data || !column.data)
        return 0;
    std::fill(sums.data, sums.data + joined * dim, 0.0);
    std::fill(squares.data, squares.data + joined * dim, 0.0);
    const int32_t largest_bits = std::max(
        add_up(codes, k / joined, joined * dim, sums.data, squares.data),
        add_up(codes + (k - rest) * dim, rest, dim, sums.data, squares.data));
    float largest;
    std::memcpy(&largest, &largest_bits, sizeof largest);
    if (!(least < largest && largest < most))
        return 0;
    int found = 1;
    for (int64_t d = 0; d < dim; d++) {
        if (middle)
            middle[d] = 0;
        double sum = 0, square = 0;
        for (int64_t code = 0; code < joined; code++) {
            sum += sums.data[code * dim + d];
            square += squares.data[code * dim + d];
        }
        const double mean = sum / (double)k, variance = square / (double)k - mean * mean;
        const double bound = offset * offset * variance;
        if (mean * mean <= 0.999 * bound)
            continue;
        if (mean * mean < 1.001 * bound)
            return 0;
        found = 2;
        if (!middle)
            continue;
        for (int64_t code = 0; code < k; code++)
            column.data[code] = codes[code * dim + d];
        std::nth_element(column.data, column.data + (k - 1) / 2, column.data + k);
        middle[d] = column.data[(k - 1) / 2];
    }
    return found;
}
