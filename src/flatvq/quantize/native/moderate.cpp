// A look at codes in one pass over memory, where PyTorch would take several.

#include <cmath>
#include <cstdint>

#include "codes.h"

namespace {

// Numbers below which threads are not worth waking.
constexpr int64_t FEW = 1 << 15;

}  // namespace

// Whether codes [k, dim] can be searched as they are: 1 if their largest absolute value is finite and between
// `least` and `most`, and no dimension's mean is further than `offset` standard deviations from zero; 0 if not,
// or if it is close.
extern "C" int flatvq_moderate(
    const float *codes, int64_t k, int64_t dim, double least, double most, double offset, int threads)
{
    const int64_t pieces = k * dim < FEW || threads < 1 ? 1 : threads;
    Array<double> sums(pieces * dim), squares(pieces * dim);
    if (!sums.data || !squares.data)
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
    for (int64_t d = 0; d < dim; d++) {
        double sum = 0, square = 0;
        for (int64_t piece = 0; piece < pieces; piece++) {
            sum += sums.data[piece * dim + d];
            square += squares.data[piece * dim + d];
        }
        const double mean = sum / (double)k, variance = square / (double)k - mean * mean;
        if (mean * mean > 0.99 * offset * offset * variance)
            return 0;
    }
    return 1;
}
