#include "code_range.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "memory.h"

namespace flatvq {

namespace {

// Codes of few dimensions are added several at a time, as rows of about this many numbers, which fill registers.
constexpr int64_t ROW = 128;
// The sums of squares are in float64, but the squares lose digits in `square - mean * mean`.
constexpr double TOLERANCE = 1e-3;

float median(const Matrix &codes, int64_t d, Buffer<float> &column)
{
    for (int64_t code = 0; code < codes.rows; code++)
        column[code] = codes.values[code * codes.columns + d];
    float *const middle = column.data() + (codes.rows - 1) / 2;
    std::nth_element(column.data(), middle, column.data() + codes.rows);
    return *middle;
}

}  // namespace

CodeRange code_range(
    const Kernels &kernels, const Matrix &codes, double least, double most, double deviations, float *medians)
{
    const int64_t k = codes.rows, dim = codes.columns, joined = std::max<int64_t>(1, ROW / dim), rest = k % joined;
    Buffer<double> sums(joined * dim), squares(joined * dim);
    Buffer<float> column(medians ? k : 0);
    std::fill_n(sums.data(), joined * dim, 0.0);
    std::fill_n(squares.data(), joined * dim, 0.0);
    const int32_t bits = std::max(
        kernels.add_moments(codes.values, k / joined, joined * dim, sums.data(), squares.data()),
        kernels.add_moments(codes.values + (k - rest) * dim, rest, dim, sums.data(), squares.data()));
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    if (!(least < largest && largest < most))
        return CodeRange::UNCLEAR;
    CodeRange range = CodeRange::AS_IS;
    for (int64_t d = 0; d < dim; d++) {
        if (medians)
            medians[d] = 0;
        double sum = 0, square = 0;
        for (int64_t code = 0; code < joined; code++) {
            sum += sums[code * dim + d];
            square += squares[code * dim + d];
        }
        const double count = static_cast<double>(k), mean = sum / count, variance = square / count - mean * mean;
        const double limit = deviations * deviations * variance;
        if (mean * mean <= (1 - TOLERANCE) * limit)
            continue;
        if (mean * mean < (1 + TOLERANCE) * limit)
            return CodeRange::UNCLEAR;
        range = CodeRange::OFFSET;
        if (medians)
            medians[d] = median(codes, d, column);
    }
    return range;
}

}  // namespace flatvq
