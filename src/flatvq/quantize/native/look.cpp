// A look at codes in a pass or two over memory, where PyTorch would take a dozen.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "codes.h"

namespace {

// Numbers below which threads are not worth waking.
constexpr int64_t FEW = 1 << 15;

}  // namespace

// Look at codes [k, dim] before they are searched. Returns 1 if they can be searched as they are, and 2 if some
// dimensions' means are further than `offset` standard deviations from zero; then `middle` [dim] is the median of
// each of these, and zero for the others. Returns 0, and leaves it to others to look more closely, if it is
// close, if there is no memory, or if the largest absolute value is not finite or not between `least` and `most`.
extern "C" int flatvq_look(
    const float *codes, int64_t k, int64_t dim, double least, double most, double offset, int threads, float *middle)
{
    const int64_t pieces = k * dim < FEW || threads < 1 ? 1 : threads;
    Array<double> sums(pieces * dim), squares(pieces * dim);
    Array<float> column(k);
    if (!sums.data || !squares.data || !column.data)
        return 0;
    int32_t largest_bits = 0;
#pragma omp parallel for num_threads(pieces) reduction(max : largest_bits) if (pieces > 1)
    for (int64_t piece = 0; piece < pieces; piece++) {
        double *sum = sums.data + piece * dim, *square = squares.data + piece * dim;
        for (int64_t d = 0; d < dim; d++)
            sum[d] = square[d] = 0;
        for (int64_t code = k * piece / pieces; code < k * (piece + 1) / pieces; code++)
#pragma omp simd reduction(max : largest_bits)
            for (int64_t d = 0; d < dim; d++) {
                int32_t bits;
                std::memcpy(&bits, codes + code * dim + d, sizeof bits);
                bits &= INT32_MAX;  // in the order of absolute values, with infinity and NaN above all
                largest_bits = largest_bits < bits ? bits : largest_bits;
                const double value = codes[code * dim + d];
                sum[d] += value;
                square[d] += value * value;
            }
    }
    float largest;
    std::memcpy(&largest, &largest_bits, sizeof largest);
    if (!(least < largest && largest < most))
        return 0;
    int found = 1;
    for (int64_t d = 0; d < dim; d++) {
        middle[d] = 0;
        double sum = 0, square = 0;
        for (int64_t piece = 0; piece < pieces; piece++) {
            sum += sums.data[piece * dim + d];
            square += squares.data[piece * dim + d];
        }
        const double mean = sum / (double)k, variance = square / (double)k - mean * mean;
        const double bound = offset * offset * variance;
        if (mean * mean <= 0.999 * bound)
            continue;
        if (mean * mean < 1.001 * bound)
            return 0;
        for (int64_t code = 0; code < k; code++)
            column.data[code] = codes[code * dim + d];
        std::nth_element(column.data, column.data + (k - 1) / 2, column.data + k);
        middle[d] = column.data[(k - 1) / 2];
        found = 2;
    }
    return found;
}
